"""The page: what every section builds of the results, rendered into one file that needs no network."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
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
from cascadebench.report.parts.charts import THEMES, Figure
from cascadebench.report.parts.section import Section
from cascadebench.report.sections import SECTIONS
from cascadebench.study.study import Study

TEMPLATES = Path(__file__).with_name("templates")
SCRIPTS = ("page.js", "tables.js", "charts.js")
SHORTEST_PART = 40
"""Characters of JSON from which a repeated part is written once; a reference takes about ten."""


def _columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {"names": names, "columns": [_in_runs([row.get(name) for row in rows]) for name in names]}


def _in_runs(column: list[Any]) -> list[Any] | dict[str, list[Any]]:
    """The column, or its runs of equal values where that is shorter."""
    # 1, 1.0 and True are equal to Python, and not to a reader.
    runs = [list(equal) for _, equal in groupby(column, lambda value: (type(value), value))]
    return {"runs": [one for run in runs for one in (run[0], len(run))]} if 2 * len(runs) < len(column) else column


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {name: change(inner) for name, inner in value.items()}
    return [change(inner) for inner in value] if isinstance(value, list) else value


def packed(specifications: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Pack the specifications of a page: rows as columns, and what repeats written once; ``charts.js`` undoes both.

    Returns
    -------
    dict
        ``charts``: the specifications by id, and ``parts``: a list. An object ``{"part": n}`` in either stands for the
        nth part. Each of a chart's ``datasets`` is its ``names`` and, in their order, its ``columns``: lists of values,
        or ``{"runs": [value, times, value, times, ...]}``; null is a value that a row does not have.
    """
    charts = {
        name: {**one, "datasets": {key: _columns(rows) for key, rows in one["datasets"].items()}}
        for name, one in specifications.items()
    }
    times: Counter[str] = Counter()
    places: dict[str, int] = {}
    parts: list[Any] = []

    def count(value: Any) -> None:
        text = json.dumps(value, sort_keys=True)
        if isinstance(value, dict | list) and len(text) >= SHORTEST_PART:
            times[text] += 1
            if times[text] == 1:  # what is inside of a part repeats with it
                for inner in value.values() if isinstance(value, dict) else value:
                    count(inner)

    def write(value: Any) -> Any:
        text = json.dumps(value, sort_keys=True)
        if times[text] < 2:
            return _each(value, write)
        if text not in places:
            parts.append(_each(value, write))
            places[text] = len(parts) - 1
        return {"part": places[text]}

    for part in (part for one in charts.values() for part in one.values()):
        count(part)
    return {"charts": {name: _each(one, write) for name, one in charts.items()}, "parts": parts}


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


def figures_in(value: Any) -> Iterator[Figure]:
    """Every figure among the values of a section."""
    if isinstance(value, Figure):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from figures_in(part)


def render(results: StudyResults, sections: Sequence[Section] = SECTIONS) -> str:
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
    built = [(section, section.build(results)) for section in sections if section.needs(results)]
    panels = (panel for _, values in built for figure in figures_in(values) for panel in figure.panels)
    return environment.get_template("report.html.jinja").render(
        study=results.study,
        sections=[
            (section, Markup(environment.get_template(section.template).render(values, study=results.study)))
            for section, values in built
        ],
        specifications=packed({panel.id: panel.spec for panel in panels}),
        themes=THEMES,
        version=__version__,
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
