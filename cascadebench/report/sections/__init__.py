"""The sections of the page: each has a title, what it needs, ``build``, and a template of its id."""

from cascadebench.report.sections.methods import controls, cost, environment, runs, training
from cascadebench.report.sections.results import (
    accuracy,
    agreement,
    claims,
    curves,
    diagnostics,
    examples,
    gaps,
    inference_stages,
    summary,
)

SECTIONS = (
    *(summary.SECTION, accuracy.ACCURACY, claims.SECTION, curves.SECTION, gaps.SECTION, agreement.SECTION),
    *(inference_stages.SECTION, accuracy.CATEGORIES, examples.SECTION),
    *(training.SECTION, cost.SECTION, diagnostics.SECTION),
    *(controls.PROTOCOL, controls.AUDIT, environment.DATASET, environment.ENVIRONMENT),
    *(runs.RUNS, runs.LIMITS, runs.REPEAT),
)
"""In the order of the page."""
