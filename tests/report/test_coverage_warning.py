"""Where the page says that intervals do not hold at 95%."""

from types import SimpleNamespace

import pandas as pd
import pytest

from cascadebench.report.data.study_results import StudyResults
from cascadebench.uncertainty import simulated_coverage

CELL = 100, 80, 1


def warning(rows: list[dict], **how: bool) -> str:
    table = pd.DataFrame(rows, columns=["quantity", "gap", "low", "high", "images", "classes", "seeds"])
    return StudyResults.coverage_warning(SimpleNamespace(tables={"intervals": table}), **how)


@pytest.fixture
def rows(monkeypatch) -> list[dict]:
    """An AP and a gap of a study with few images, whose intervals hold too seldom."""
    shares = {"AP": (85.0, 1.0), "gap of AP90": (89.0, 1.0), "gap of AP": (95.0, 1.0)}
    monkeypatch.setattr(simulated_coverage, "simulated", lambda: {name: {CELL: one} for name, one in shares.items()})
    about = {"low": 0.1, "high": 0.2, "images": 120, "classes": 60, "seeds": 1}
    return [
        about | {"quantity": "0.50-0.95", "gap": ""},
        about | {"quantity": "0.50-0.95", "gap": "stage 3 - baseline"},
        about | {"quantity": "0.85-0.95", "gap": "stage 3 - baseline"},
    ]


def test_numbers_of_the_study_whose_intervals_hold_too_seldom_are_named(rows):
    told = warning(rows)
    assert "100 images, 80 classes, 1 seed about 85 to 89% of the 95% intervals of AP and gap of AP90" in told
    assert "89% of the 95% intervals of gap of AP90 hold" in warning(rows, gaps_alone=True)


def test_nothing_is_said_without_intervals_or_where_they_hold(rows):
    assert warning([]) == warning(rows[:1], gaps_alone=True) == ""
    assert warning([rows[0] | {"low": None, "high": None}]) == ""
    assert warning(rows[1:2]) == ""
    assert warning([rows[0] | {"images": None}]) == "", "a table of before says nothing of its images"
