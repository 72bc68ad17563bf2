"""The sections of the page: each a module that builds it, with a template of its id under ``templates/sections/``."""

from cascadebench.report.sections.methods import (
    audit,
    cost,
    dataset,
    environment,
    limits,
    protocol,
    repeat,
    runs,
    training,
)
from cascadebench.report.sections.results import (
    accuracy,
    agreement,
    claims,
    curves,
    diagnostics,
    examples,
    gaps,
    inference_stages,
    per_category,
    summary,
)

SECTIONS = tuple(
    module.SECTION
    for module in (
        *(summary, accuracy, claims, curves, gaps, agreement, inference_stages, per_category, examples),
        *(training, cost, diagnostics, protocol, audit, dataset, environment, runs, limits, repeat),
    )
)
"""In the order of the page."""
