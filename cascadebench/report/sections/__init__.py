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

SECTIONS = (
    summary.SECTION,
    accuracy.SECTION,
    claims.SECTION,
    curves.SECTION,
    gaps.SECTION,
    agreement.SECTION,
    inference_stages.SECTION,
    per_category.SECTION,
    examples.SECTION,
    training.SECTION,
    cost.SECTION,
    diagnostics.SECTION,
    protocol.SECTION,
    audit.SECTION,
    dataset.SECTION,
    environment.SECTION,
    runs.SECTION,
    limits.SECTION,
    repeat.SECTION,
)
"""In the order of the page."""
