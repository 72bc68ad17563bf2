"""The definitions of the controls, the cards that name them, and the page that lists them."""

import json
import re

import pytest

from cascadebench.controls.definitions import CONTROLS, GROUPS
from cascadebench.controls.docs_page import expected_from, page
from cascadebench.core.configuration import CONFIG, PROJECT
from cascadebench.detectors.variant_catalog import find_variant, own_variants
from cascadebench.study_loading import load_study

STUDIES = sorted(path.stem for path in (CONFIG / "studies").glob("*.yaml"))
DEFINITIONS = [definition for group in GROUPS.values() for definition in group]


def test_every_control_has_one_definition():
    names = [definition.name for definition in DEFINITIONS]
    assert len(names) == len(set(names)) == len(CONTROLS)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=[one.name for one in DEFINITIONS])
def test_a_definition_is_complete(definition):
    assert re.fullmatch(r"[a-z]+\.[a-z0-9_]+", definition.name)
    assert re.fullmatch(r"[A-Z].*\.", definition.meaning)
    assert "|" not in definition.meaning
    assert (definition.kind == "framework") == bool(definition.reason)
    assert (definition.kind == "protocol") == (definition.expected is not None)


@pytest.mark.parametrize("name", STUDIES)
def test_every_run_of_every_study_has_an_expectation(name):
    study = load_study(name)
    for planned in study.runs:
        for definition in CONTROLS.values():
            if definition.expected is not None:
                json.dumps(definition.expected(planned.run), allow_nan=False)


@pytest.mark.parametrize("name", own_variants())
def test_a_card_declares_what_its_variant_changes(name):
    """What the protocol expects of a variant otherwise than of one head for all classes is its treatment."""
    card = find_variant(name, "test").card
    assert len(set(card.treatment)) == len(card.treatment)
    assert set(card.treatment) <= set(CONTROLS)
    runs = [planned.run for study in STUDIES for planned in load_study(study).runs]
    base = next(run for run in runs if run.variant.name == "faster_rcnn").variant
    base = base.model_copy(update={"options": {"regression": "class_agnostic"}})
    for run in (run for run in runs if run.variant.name == name):
        plain = run.model_copy(update={"variant": base})
        expectations = {one.name: one.expected for one in CONTROLS.values() if one.expected}
        differing = {one for one, expected in expectations.items() if expected(run) != expected(plain)}
        assert differing <= set(card.treatment_of(run.variant.options))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rpn.nms_iou", "`protocol.rpn.nms_iou`"),
        ("heads.iou_threshold", "`variant.heads`, `variant.options`, `protocol.heads.iou_threshold`"),
        ("schedule.learning_rate_last", "`protocol.schedule`"),
        ("neck.last_level", '`"max_pool"`'),
        ("training.order_sha256", "equal per seed"),
        ("model.operators", "equal within a framework"),
    ],
)
def test_the_page_says_what_decides_a_control(name, expected):
    assert expected_from(CONTROLS[name], load_study("tiny").runs[0].run) == expected


def rows(text: str) -> dict[str, list[str]]:
    """Cells of the rows of the page's tables of controls, by name."""
    table = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| `")]
    return {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in table}


def test_code_in_a_cell_does_not_end_it():
    text = page(load_study("tiny").runs[0].run, {"mmdet": {"rpn.nms_iou": "a | b `c`"}})
    assert rows(text)["rpn.nms_iou"][-1] == r"`a \| b 'c'`"


def test_the_page_in_docs_is_that_of_the_definitions():
    """`make docs` writes it again."""
    text = (PROJECT / "docs" / "controlled-variables.md").read_text(encoding="utf-8")
    found = rows(text)
    assert list(found) == list(CONTROLS)
    run = load_study("tiny").runs[-1].run
    for name, definition in CONTROLS.items():
        assert found[name][:3] == [definition.meaning, definition.unit, definition.kind], name
        assert found[name][3] == expected_from(definition, run), name
        assert all(found[name][4:]), f"{name}: not read in every framework"
        if definition.kind == "framework":
            assert f"- `{name}`: {definition.reason}" in text
