"""Two detectors in two frameworks, one seed, and their report; a module with other files has its own `complete`."""

from pathlib import Path

import pytest
from made_results import write_results
from parsed_page import Page, report_on
from small_studies import two_detectors

from cascadebench.study.study import Study


@pytest.fixture(scope="session")
def study() -> Study:
    """The embedded study with its first two detectors."""
    return two_detectors()


@pytest.fixture(scope="module")
def complete(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a study that went well; not to be changed."""
    return write_results(tmp_path_factory.mktemp("complete"), study)


@pytest.fixture(scope="module")
def page(study: Study, complete: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The report of `complete`."""
    return report_on(study, complete, tmp_path_factory.mktemp("page"))
