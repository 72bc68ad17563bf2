"""A browser without a network, and the reports that it opens."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from made_diagnostics import write_diagnostics
from made_results import HOSTILE, variant_of_tiny, write_results
from opened_pages import Open
from playwright.sync_api import Browser, Page, sync_playwright
from test_claims_section import ROWS
from test_example_views import write_examples

from cascadebench.evidence.verdict_files import VERDICTS
from cascadebench.report import write_report
from cascadebench.study.study import Study

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


# Not for the whole session: what a later test forks would hold the driver's pipe open, and it would never end.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, headless."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if not found:
        pytest.skip(f"no Chromium: neither $CHROMIUM nor any of {', '.join(CHROMIUM)} on PATH")
    with sync_playwright() as playwright:
        # In a container Chromium's own sandbox does not start; all pages here are local files.
        launched = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def open_report(browser: Browser) -> Iterator[Open]:
    """Open a report from its file, offline; afterwards, nothing may have gone wrong in any page opened."""
    contexts, problems = [], []

    def opened(path: Path, **settings: object) -> Page:
        context = browser.new_context(offline=True, **{"viewport": {"width": 1280, "height": 900}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        page.on(
            "request",
            lambda request: request.url.startswith(("file:", "data:", "blob:")) or problems.append(request.url),
        )
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two detectors in two frameworks on two backbones with two seeds."""
    folder = tmp_path_factory.mktemp("study")
    short = {"schedule": {"iterations": 150, "steps": [90, 120]}}
    return variant_of_tiny(folder, seeds=[0, 1], backbones=["resnet18_narrow", "resnet18"], protocol_override=short)


@pytest.fixture(scope="session")
def report(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of that study: everything went well, with diagnostics of a few runs, verdicts and examples."""
    folder = tmp_path_factory.mktemp("report")
    results = write_results(folder / "results", study)
    for planned in study.runs:
        if (planned.run.framework, planned.run.seed, planned.run.backbone.name) == ("mmdet", 0, "resnet18_narrow"):
            write_diagnostics(results / "runs" / planned.run.id, planned.run, study.dataset.categories)
    pd.DataFrame(ROWS, columns=list(VERDICTS)).to_csv(results / "studies" / study.name / "verdicts.csv", index=False)
    write_examples(results, study)
    write_report(study, results, folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="session")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report in which a detector, a category, the title and a failure are called like markup."""
    folder = tmp_path_factory.mktemp("hostile")
    variants = [{"variant": "faster_rcnn"}, {"variant": "cascade_rcnn", "label": HOSTILE}]
    study = variant_of_tiny(folder, title=HOSTILE, variants=variants)
    results = write_results(folder / "results", study, failed=(study.run_ids[-1],))
    table = results / "studies" / study.name / "ap_per_class.csv"
    name = study.dataset.categories[0]
    table.write_text(table.read_text(encoding="utf-8").replace(f",{name},", ",<script>alert(1)</script>,"))
    write_report(study, results, folder / "report.html")
    return folder / "report.html"
