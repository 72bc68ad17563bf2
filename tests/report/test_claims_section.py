"""Claims and published values on the page."""

from pathlib import Path

import pandas as pd
import pytest
from made_results import HOSTILE, headlines, on_coco, variant_of_tiny, write_results
from parsed_page import Page, report_on

from cascadebench.core.files import now, write_json
from cascadebench.evidence.registration.content import study_content
from cascadebench.evidence.verdict_files import VERDICTS, write_verdicts
from cascadebench.report.data.collect import collect
from cascadebench.report.sections.results.claims import strip as strip_of
from cascadebench.results.layout import ResultsFolder
from cascadebench.results.registered import register
from cascadebench.study.study import Study
from cascadebench.uncertainty.resampled_study import ResampledStudy

WORDS = ("supported", "not supported", "inconclusive", "one seed", "not run", "not comparable")


FORMULA = "AP50 of A (2,2) − (1,1)"


def verdict(claim: str, word: str, **more: object) -> dict:
    """A row of verdicts.csv."""
    row = dict.fromkeys(VERDICTS) | {"claim": claim, "question": claim, "words": f"Words of {claim}."}
    row |= {"source": "Paper", "place": "Fig. 1", "link": "https://papers.example/1", "asks": "greater"}
    row |= {"formula": FORMULA.replace("−", "-")}
    row |= {"framework": "mmdet", "backbone": "resnet18_narrow"}
    row |= {"verdict": word, "reading": word}
    row |= {"unadjusted_reading": word, "value": 0.0123, "unit": "fraction", "low": 0.004, "high": 0.02, "seeds": 2}
    row |= {"adjusted_low": -0.0012, "adjusted_high": 0.0259, "p_value": 0.01, "adjusted_p_value": 0.06}
    row |= {"holm_level": 0.01, "direction": "greater", "threshold": 0.0, "published": 0.034, "samples": 1999}
    return row | {"sampling": "images", "reasons": "", "notes": "", "threshold_reason": ""} | more


NO_SAMPLES = dict.fromkeys(("samples", "holm_level", "p_value", "adjusted_p_value", "published"))
NOTHING = NO_SAMPLES | dict.fromkeys(("value", "low", "high", "adjusted_low", "adjusted_high"))
EXACT = NO_SAMPLES | {"value": 1.015, "low": 1.015, "high": 1.015, "unit": "ratio", "sampling": "exact"}
HALF = {"direction": "within", "threshold": -0.005, "threshold_high": 0.005, "threshold_reason": "Half a point."}
ROWS = [
    verdict("one", "supported", seeds=3),
    verdict("one", "inconclusive", framework="detectron2", unadjusted_reading="supported", least_effect=0.0251)
    | {"seeds_needed": 7, "images_needed": 12000},
    verdict("two", "not supported", notes="left out; & another", least_effect=0.0031, margin=0.005, **HALF),
    verdict("three", "not run", reading="", unadjusted_reading="", seeds=0, reasons=f"x: failed: {HOSTILE}; y")
    | NOTHING,
    verdict("four", "not comparable", reading="supported", unadjusted_reading="supported", direction="less")
    | {"threshold": 1.05, "reasons": "data: shapes here", "source": "Other", "words": f"Claimed {HOSTILE}"}
    | EXACT,
    verdict("five", "inconclusive", adjusted_low="-inf", adjusted_high="inf", source="Other", seeds=3)
    | {"seeds_needed": "inf", "images_needed": "inf"},
    verdict("six", "one seed", source="Other", seeds=1)
    | NO_SAMPLES
    | dict.fromkeys(("low", "high", "adjusted_low", "adjusted_high")),
    verdict("seven", "one seed", source="Other", seeds=1)
    | dict.fromkeys(("adjusted_low", "adjusted_high", "holm_level", "p_value", "adjusted_p_value")),
]


@pytest.fixture(scope="module")
def complete(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with every kind of verdict; not to be changed."""
    results = write_results(tmp_path_factory.mktemp("claims"), study)
    pd.DataFrame(ROWS, columns=list(VERDICTS)).to_csv(results / "studies" / study.name / "verdicts.csv", index=False)
    return results


def strip(page: Page) -> str:
    """Text of the strip."""
    text = " ".join(page.text.split())
    return text[text.index("Verdicts on") : text.index("Average precision × 100")]


def test_the_strip_counts_and_lists_the_verdicts_at_the_top(page: Page) -> None:
    text = strip(page)
    assert text.startswith("Verdicts on 7 published claims 1 supported 1 not supported 2 inconclusive 2 one seed 1 not")
    assert "Not comparable, but measured here: 1 supported One verdict" in text
    assert page.text.index("Verdicts on") < page.text.index("has the highest AP")
    one = f"Words of one. Paper, Fig. 1. Holds if {FORMULA} is above 0. MMDetection 3 seeds supported +1.2 points"
    assert f"{one} [−0.1, +2.6] printed +3.4" in text
    assert "Detectron2 2 seeds inconclusive +1.2 points [−0.1, +2.6]" in text
    assert f"Holds if {FORMULA} is between −0.5 and +0.5 points. MMDetection 2 seeds not supported" in text
    assert "MMDetection not run no value no number printed" in text
    assert "MMDetection not comparable here: supported 1.015 times exact no number printed" in text
    assert "MMDetection 3 seeds inconclusive +1.2 points unbounded: too few samples" in text
    assert "MMDetection 1 seed one seed +1.2 points error unknown no number printed" in text
    assert "MMDetection 1 seed one seed +1.2 points [+0.4, +2.0] printed" in text, "the images' interval, as it is"
    assert "[unbounded: too few samples]" not in text
    assert "Why not comparable: data: shapes here." in text


def test_every_claim_leads_to_its_rows(page: Page) -> None:
    places = [f"claim-{row['claim']}" for row in ROWS]
    rows = [attributes["id"] for tag, attributes in page.tags if tag == "tr" and "id" in attributes]
    assert rows == list(dict.fromkeys(places))
    links = [attributes["href"] for tag, attributes in page.tags if attributes.get("href", "").startswith("#claim-")]
    assert links == [f"#{place}" for place in rows]


def test_every_verdict_has_a_shape_of_its_own(page: Page) -> None:
    drawings = {}
    for word in WORDS:
        mark = page.html.split(f'<svg class="mark {word.replace(" ", "-")}"')[1].split("</svg>")[0]
        drawings[word] = mark.split(">", 1)[1]
    assert len(set(drawings.values())) == len(WORDS)


def test_verdicts_say_which_effect_is_decided_and_what_it_would_take(page: Page) -> None:
    one, other, two, *_ = (row for row in page.tables["claims-1"] if len(row) > 1 and row[0] != "Measured in")
    assert other[1] == "inconclusive|unadjusted: supported|7 seeds or 12,000 images would decide it with 80%"
    assert "decided with 80%: a true value 2.51 points from the threshold" in other[-1]
    assert "decided with 80%: a margin of 0.31 points, if the true difference is zero" in two[-1]
    assert "80%" not in "".join(one)
    five = next(row for row in page.tables["claims-2"] if row[1:] and "inconclusive" in row[1])
    assert "20 seeds or 100 times the images would not decide it" in five[1]


def test_words_of_claims_are_never_markup(page: Page) -> None:
    assert page.executed
    assert "alert(1)" not in "".join(page.executed)
    assert f"Claimed {HOSTILE}" in page.text
    assert f"x: failed: {HOSTILE}" in page.text


def test_the_table_of_a_source_says_what_was_measured_and_why(page: Page) -> None:
    rows = page.tables["claims-1"]
    titles = [row[0] for row in rows if len(row) == 1]
    assert [title.split("|")[0] for title in titles] == ["Words of one.", "Words of two.", "Words of three."]
    details = f"Formula|{FORMULA}|Threshold|Holds between −0.5 and +0.5 points."
    assert titles[1].split("|", 1)[1] == f"{details} Half a point.|Source|Paper, Fig. 1|https://papers.example/1"
    assert {values["href"] for tag, values in page.tags if tag == "a" and values.get("rel")} == {ROWS[0]["link"]}
    first, second, two, three = [row for row in rows[1:] if len(row) > 1]
    assert first[:3] == ["MMDetection", "supported", "+1.23 points|3 seeds"]
    assert first[3:5] == ["[+0.40, +2.00]", "[−0.12, +2.59]|adjusted p 0.06"]
    assert first[5:] == ["+3.4 points", "above 0", ""]
    assert second[0] == "Detectron2"
    assert second[1].startswith("inconclusive|unadjusted: supported|7 seeds or")
    assert two[1] == "not supported"
    assert two[-2] == "between −0.5 and +0.5 points"
    assert two[-1].endswith("|left out|& another")
    assert three[1:6] == ["not run", "–", "–", "–", "–"]
    assert three[-1] == f"x: failed: {HOSTILE}|y"
    other = page.tables["claims-2"]
    assert other[2][1:5] == ["not comparable|here: supported", "1.015 times", "exact", "exact"]
    assert other[2][6] == "below 1.050 times"
    assert other[-1][1:5] == ["one seed", "+1.23 points|1 seed", "[+0.40, +2.00]", "–"]


def test_the_page_says_where_the_tables_behind_the_verdicts_lie(page: Page) -> None:
    text = " ".join(page.text.split())
    assert "beside verdicts.csv in results/studies/tiny/, not in this page" in text


def test_a_line_of_the_strip_has_its_seeds(study: Study, complete: Path) -> None:
    seeds = {claim["words"]: claim["verdicts"][0]["seeds"] for claim in strip_of(collect(study, complete))}
    assert [seeds[f"Words of {name}."] for name in ("one", "two", "three")] == ["3 seeds", "2 seeds", ""]
    assert seeds[f"Claimed {HOSTILE}"] == "", "a counted quantity is that of every seed"


def test_a_study_without_claims_or_verdicts_says_so(tmp_path: Path) -> None:
    study = variant_of_tiny(tmp_path)
    results = write_results(tmp_path / "results", study)
    page = report_on(study, results, tmp_path)
    assert page.text.count("claims yet: verdicts.csv is missing or empty") == 1
    assert "verdicts.csv is missing." in page.text
    (tmp_path / "none").mkdir()
    without = variant_of_tiny(tmp_path / "none", claims=[], frameworks=["mmdet"])
    page = report_on(without, results, tmp_path / "none")
    assert "This study tests no published claim" in page.text
    assert "verdicts.csv" not in page.text


def test_verdicts_of_a_failed_study_are_shown(tmp_path: Path) -> None:
    """From the command's own tables: every claim not run, with the reason."""
    study = variant_of_tiny(tmp_path, claims=["cascade-loses-low-iou"])
    results = write_results(tmp_path / "results", study, failed=(study.run_ids[2],))
    write_verdicts(ResampledStudy(study, results))
    page = report_on(study, results, tmp_path)
    assert "Verdicts on 1 published claim" in page.text
    remarks = page.row("claims-1", "MMDetection")[-1]
    assert remarks.startswith("cascade_rcnn: failed: train: DivergedError: the loss is not finite at iteration 180")
    assert page.row("claims-1", "Detectron2")[-1] == "cascade_rcnn: not evaluated, trained, seed 0"


def test_published_values_stand_beside_their_detectors(tmp_path: Path) -> None:
    study = on_coco(tmp_path)
    results = write_results(tmp_path / "results", study)
    page = report_on(study, results, tmp_path)
    measured = headlines(results).rename(columns=str.upper)
    heads, *rows = page.tables["beside-published"][1:]
    printed, framework = 0, ""
    for row in rows:
        if len(row) == 1:
            framework = {"MMDetection": "mmdet", "Detectron2": "detectron2"}[row[0]]
            continue
        label = row[0].split("|")[0]
        for name, cell in zip(heads, row[1:], strict=False):
            if "printed" not in cell:
                continue
            if name == "AP|L":
                assert cell.startswith("–|"), "no large object was evaluated here"
                continue
            value, published, difference = cell.split("|")
            exact = 100 * measured.loc[(framework, label), name.replace("|", "")]
            assert value == f"{exact:.1f}"
            expected = exact - float(published.removesuffix(" printed"))
            assert float(difference.replace("−", "-").replace("±", "")) == pytest.approx(expected, abs=0.051)
            printed += 1
    assert printed == 34
    cascade, further, *_ = (row for row in rows if row[0].startswith("Cascade R-CNN"))
    assert "40.3 printed" in cascade[1], "the model zoo's Cascade R-CNN of the same framework and length"
    assert cascade[-1].startswith("4 known differences|warm-up iterations: 1000 here, 500 in the source|score rule: ")
    assert "40.9 printed" in further[1], "the paper's, which prints AP50 and AP75 too"
    assert "No paper in the collection" not in page.text


def test_data_that_no_paper_has_is_one_sentence(page: Page) -> None:
    assert "beside-published" not in page.tables
    assert page.text.count("No paper in the collection prints values on “Embedded shapes”") == 1


HYPOTHESIS = {
    "id": "gains", "words": "It is better.", "asks": "greater",
    "quantity": [{"label": "Cascade R-CNN"}, {"label": "Faster R-CNN FPN", "coefficient": -1}],
}  # fmt: skip


def test_hypotheses_have_a_table_of_their_own_with_what_was_registered_when(tmp_path: Path) -> None:
    """Two of three registered before a training; one dropped since, one added afterwards."""
    dropped, added = HYPOTHESIS | {"id": "dropped"}, HYPOTHESIS | {"id": "added", "words": "It was added."}
    changes = {"claims": ["cascade-loses-low-iou"], "frameworks": ["mmdet"]}
    first = variant_of_tiny(tmp_path, hypotheses=[HYPOTHESIS, dropped], **changes)
    results = write_results(tmp_path / "results", first)
    path = ResultsFolder(results).study("tiny").registered
    entries = [register(path, study_content(first), {"commit": "c" * 40, "changed": False})]
    for run in first.run_ids:
        write_json(results / "runs" / run / "trained.json", {"began": now(), "registered": [entries[0].sha256]})
    study = variant_of_tiny(tmp_path, hypotheses=[HYPOTHESIS, added], **changes)
    entries.append(register(path, study_content(study), {"commit": "d" * 40, "changed": True}))
    write_verdicts(ResampledStudy(study, results))
    page = report_on(study, results, tmp_path)
    assert "Verdicts on 1 published claim and 2 hypotheses of this study" in " ".join(page.text.split())
    text = page.text
    for number, (entry, code) in enumerate(zip(entries, ("c" * 12, "d" * 12 + " with changes"), strict=True), start=2):
        assert f"sha256 {entry.sha256[:12]}, {entry.time}, commit {code}: 3 questions" in text, number
    assert "Registered and no longer asked: dropped mmdet resnet18_narrow." in text
    assert page.tables["claims-1"][2][1].endswith("registered before training")
    titles = [row[0].split("|")[0] for row in page.tables["claims-2"] if len(row) == 1]
    _, gains, late = [row for row in page.tables["claims-2"] if len(row) > 1]
    assert [title.split("|")[0] for title in titles] == ["It is better.", "It was added."]
    assert gains[1].endswith("registered before training")
    assert "exploratory" not in gains[-1]
    assert late[1].endswith("added afterwards, exploratory")
    assert late[-1].endswith("exploratory: the question is not in registration 1")


def test_a_study_that_never_registered_says_so(tmp_path: Path) -> None:
    study = variant_of_tiny(tmp_path, claims=["cascade-loses-low-iou"])
    results = write_results(tmp_path / "results", study)
    write_verdicts(ResampledStudy(study, results))
    text = " ".join(report_on(study, results, tmp_path).text.split())
    assert "This study has no registered.json: nothing shows" in text
    assert text.count("added afterwards, exploratory") == 2
