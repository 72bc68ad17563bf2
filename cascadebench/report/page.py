"""The page: everything collected, rendered into one file that needs no network."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cascadebench import __version__
from cascadebench.core.errors import InputError
from cascadebench.core.files import write_text
from cascadebench.report.data.collect import collect
from cascadebench.report.data.study_results import StudyResults
from cascadebench.report.parts import charts
from cascadebench.report.parts.packed_charts import packed
from cascadebench.report.sections import (
    agreement,
    claims,
    controls_audit,
    cost_charts,
    cost_tables,
    diagnostics,
    example_views,
    gap_ranges,
    iou_curves,
    provenance,
    published,
    settings,
    stage_matrix,
    summary,
    tables,
    training_charts,
)
from cascadebench.study.study import Study

TEMPLATES = Path(__file__).with_name("templates")
SCRIPTS = ("page.js", "tables.js", "charts.js")

# Sections in their order, each a template of its id's name under sections/, with its name in the contents.
SECTIONS = {
    "summary": "",
    "accuracy": "Accuracy",
    "claims": "Claims",
    "curves": "AP by IoU",
    "gaps": "Gaps",
    "agreement": "Frameworks",
    "test-stages": "Test stages",
    "per-category": "Categories",
    "examples": "Examples",
    "training": "Training",
    "cost": "Cost",
    "diagnostics": "Diagnostics",
    "protocol": "Protocol",
    "audit": "Controls audit",
    "dataset": "Dataset",
    "environment": "Versions",
    "runs": "Runs",
    "limits": "Limits",
    "repeat": "Repeat",
}


# Sections that a study of imported detections alone does not have.
OF_RUNS = (
    "claims",
    "gaps",
    "agreement",
    "examples",
    "training",
    "cost",
    "diagnostics",
    "protocol",
    "audit",
    "environment",
    "limits",
)


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, as the vl-convert package carries it."""
    script = vl_convert.javascript_bundle()
    if "</script" in script.lower() or "<!--" in script:
        raise RuntimeError("the Vega bundle cannot stand inside <script>")
    return script


def _content_security_policy(*scripts: str) -> str:
    """A policy under which the browser loads nothing and runs no script but these, by checksum."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    # Vega-Embed styles its menu and saves pictures through data: and blob: addresses, which never leave the page.
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _sections(results: StudyResults) -> list[tuple[str, str]]:
    """Sections of this study's page: ids and names."""
    left_out = set() if results.runs else set(OF_RUNS)
    if len(results.study.file.frameworks) == 1:
        left_out.add("agreement")
    return [(id, name) for id, name in SECTIONS.items() if id not in left_out]


def _context(results: StudyResults) -> dict[str, Any]:
    """What the template prints."""
    parts, absent = diagnostics.parts(results)
    drawn = [block for part in parts for block in part.blocks if isinstance(block, charts.Figure)]
    figures = (
        iou_curves.ap_figure(results),
        iou_curves.gap_figure(results),
        training_charts.loss_figure(results),
        training_charts.learning_rate_figure(results),
        agreement.agreement_figure(results),
        stage_matrix.stage_matrix_figure(results),
        cost_charts.cost_figure(results),
    )
    built = (
        tables.headline_table(results),
        tables.mask_table(results),
        published.published_table(results),
        tables.stage_table(results),
        tables.gap_table(results),
        gap_ranges.gap_range_table(results),
        agreement.agreement_table(results),
        tables.training_table(results),
        cost_tables.cost_table(results),
        tables.run_table(results),
        tables.imported_table(results),
        *([settings.protocol_table(results)] if results.runs else []),
        settings.dataset_table(results),
        settings.environment_table(results),
        provenance.origin_table(results),
        provenance.command_table(results),
        provenance.checksum_table(results),
    )
    return {
        "sections": _sections(results),
        "study": results.study,
        "results": results,
        "summary": summary,
        "agreement": agreement,
        "provenance": provenance,
        "figures": {figure.id: figure for figure in figures},
        "tables": {table.id: table for table in built},
        "claims": claims,
        "not_published": published.not_published(results),
        "examples": example_views.examples(results),
        "example_views": example_views,
        "category_tables": tables.category_tables(results),
        "parts": parts,
        "absent_parts": absent,
        "controls": settings.compare_controls(results),
        "audit_tables": controls_audit.audit_tables(results),
        "specifications": packed({panel.id: panel.spec for figure in (*figures, *drawn) for panel in figure.panels}),
        "themes": charts.THEMES,
        "version": __version__,
    }


def render(results: StudyResults) -> str:
    """Render the page; equal results give equal bytes."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False}
    scripts = [_vega(), *((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)]
    return environment.get_template("report.html.jinja").render(
        _context(results),
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
        policy=_content_security_policy(*scripts),
    )


def write_report(study: Study, results: Path, output: Path) -> None:
    """Write the report of a study: one HTML file that opens offline.

    Parameters
    ----------
    study : Study
        The study, with everything that it names looked up.
    results : Path
        The folder that holds ``studies/``, ``runs/`` and ``datasets/``. Whatever is missing there, the report
        is written and says what is missing.
    output : Path
        The HTML file, replaced when the new one is complete.

    Raises
    ------
    InputError
        If `output` is a folder.
    """
    if output.is_dir():
        raise InputError(f"report: {output} is a folder; name a file, for instance {output / (study.name + '.html')}")
    write_text(output, render(collect(study, results)))
