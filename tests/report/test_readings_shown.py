"""How the sources are read, beside the verdicts that stand on it."""

import re
from pathlib import Path

import pandas as pd
import pytest
from made_results import variant_of_tiny, write_results
from parsed_page import Page, report_on
from test_claims_section import NOTHING, verdict

from cascadebench.detectors.variant_catalog import find_variant, own_variants
from cascadebench.evidence.verdict_files import VERDICTS

MEAN, SUM, OTHER = (
    f"fscascade: merge={merge}, share_gradient={shared}, embed=linear"
    for merge, shared in (("mean", "true"), ("sum", "true"), ("mean", "false"))
)
OPTIONS = (
    "Options that are readings: merge (not given), share_gradient (not given), borrowed_loss (not given), "
    "embed (not given), later_ground_truth (not given)."
)
ALL = [{"variant": name} for name in own_variants()]
ROWS = [
    verdict("fscascade-narrows-gap", "supported", under=MEAN, source="FSCascade", value=0.011),
    verdict("fscascade-narrows-gap", "supported", under=SUM, source="FSCascade", value=0.034),
    verdict("fscascade-narrows-gap", "inconclusive", under=OTHER, source="FSCascade", value=0.002),
    verdict("fscascade-closes-gap", "inconclusive", under=MEAN, source="FSCascade"),
    verdict("fscascade-closes-gap", "not run", under=MEAN, source="FSCascade", framework="detectron2") | NOTHING,
    verdict("cascade-gains-ap", "supported", source="Cascade R-CNN", under=""),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A report with every variant of the project; claims on two of its papers."""
    folder = tmp_path_factory.mktemp("readings")
    study = variant_of_tiny(folder, variants=ALL, claims=["fscascade-narrows-gap"], frameworks=["mmdet"])
    decoupled = next(planned.run.id for planned in study.runs if planned.run.variant.name == "decoupled_rcnn")
    results = write_results(folder / "results", study, failed=(decoupled,))
    pd.DataFrame(ROWS, columns=list(VERDICTS)).to_csv(results / "studies" / study.name / "verdicts.csv", index=False)
    return report_on(study, results, folder)


@pytest.mark.parametrize("name", own_variants())
def test_the_readings_of_every_variant_are_visible_once(page: Page, name: str) -> None:
    card, text = find_variant(name, "test").card, " ".join(page.text.split())
    assert card.readings, "every variant of the project has readings"
    for reading in card.readings:
        assert text.count(" ".join(reading.split())) == 1
    start = page.html.index(f'id="readings-{name}"')
    folded = page.html.rfind("<details", 0, start), page.html.rfind("</details>", 0, start)
    assert folded[0] <= folded[1], "not folded away"


def test_the_readings_of_a_source_s_methods_stand_above_its_verdicts(page: Page) -> None:
    order = [
        page.html.index(part)
        for part in ('id="readings-fscascade"', 'id="readings-cascade_rcnn"', 'id="claims-1"', 'id="claims-2"',
                     "Readings of the other methods", 'id="readings-decoupled_rcnn"')
    ]  # fmt: skip
    assert order == sorted(order)
    assert page.html.index('id="readings-faster_rcnn"') < page.html.index('id="claims-2"')
    between = page.html[page.html.index('id="claims-1"') : page.html.index('id="claims-2"')]
    assert '<a href="#readings-cascade_rcnn">above</a>' in between
    assert OPTIONS in " ".join(page.text.split())


def test_every_verdict_says_what_it_was_read_as(page: Page) -> None:
    rows = [row for row in page.tables["claims-1"][1:] if len(row) > 1]
    assert [row[0] for row in rows] == [f"MMDetection|read as {under}" for under in (MEAN, SUM, OTHER, MEAN)] + [
        f"Detectron2|read as {MEAN}"
    ]
    other = [row for row in page.tables["claims-2"][1:] if len(row) > 1]
    assert [row[0] for row in other] == ["MMDetection"]


def test_the_strip_counts_over_the_readings(page: Page) -> None:
    text = " ".join(page.text.split())
    strip = text[text.index("Verdicts on") : text.index("Average precision × 100")]
    assert "Read as 3 readings, each with its verdict below. MMDetection, 2 of 3 readings" in strip
    assert re.search(r"2 of 3 readings 2 seeds supported \+1\.1 to \+3\.4 points printed", strip)
    assert re.search(r"1 of 3 readings 2 seeds inconclusive \+0\.2 points", strip)
    assert f"Read as {MEAN}. MMDetection 2 seeds inconclusive" in strip
    assert "3 supported 2 inconclusive 1 not run" in strip
    assert strip.count("Read as") == 2, "what has no readings says nothing of them"


def test_a_study_without_claims_shows_them_too(tmp_path: Path) -> None:
    study = variant_of_tiny(tmp_path, claims=[])
    page = report_on(study, write_results(tmp_path / "results", study), tmp_path)
    for name in ("faster_rcnn", "cascade_rcnn"):
        for reading in find_variant(name, "test").card.readings:
            assert " ".join(reading.split()) in " ".join(page.text.split())
