"""A run's identity: what decides numbers changes it, what does not leaves it alone."""

import re

import pytest

from cascadebench.study.run import Run, read_run
from cascadebench.study_loading import load_study


@pytest.fixture
def run() -> Run:
    """Return the first Cascade run of the embedded study."""
    return next(planned.run for planned in load_study("tiny").runs if planned.run.variant.name == "cascade_rcnn")


def changed(model, path: str, value):
    """Copy of a frozen model with one nested value replaced."""
    head, _, rest = path.partition(".")
    new = changed(getattr(model, head), rest, value) if rest else value
    return model.model_copy(update={head: new})


def test_the_id_is_readable_and_ends_in_ten_hex_digits(run):
    assert re.fullmatch(r"cascade_rcnn-mmdet-resnet18_narrow-shapes-seed0-[0-9a-f]{10}", run.id)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 1),
        ("framework", "detectron2"),
        ("protocol.schedule.base_lr", 0.011),
        ("protocol.schedule.steps", (10,)),
        ("protocol.optimizer.weight_decay", 0.0),
        ("protocol.heads.target_stds", (0.1, 0.1, 0.2, 0.3)),
        ("backbone.pixel_mean", (0.0, 0.0, 0.0)),
        ("dataset.data.seed", 5),
        ("variant.options", {"stage_loss": "avg"}),
        ("revisions.adapter", 99),
        ("revisions.variant", 99),
        ("revisions.library", 99),
    ],
)
def test_what_decides_numbers_changes_the_id(run, path, value):
    assert changed(run, path, value).id != run.id


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("protocol.name", "other"),
        ("protocol.description", "other words"),
        ("dataset.title", "other words"),
        ("dataset.source", "other words"),
        ("variant.headline", "(3,3)"),
    ],
)
def test_words_do_not_change_the_id(run, path, value):
    assert changed(run, path, value).id == run.id


def test_every_field_of_a_run_is_hashed_or_excused(run):
    """A field added to a model enters the identity by itself."""
    identity = run.identity()
    assert set(identity) == set(Run.model_fields)
    assert set(identity["protocol"]) == set(type(run.protocol).model_fields) - {"name", "description"}
    assert set(identity["variant"]) == set(type(run.variant).model_fields) - {"headline", "masks", "folder"}
    assert set(identity["dataset"]) == set(type(run.dataset).model_fields) - {"title", "source"}


def test_a_run_survives_its_file(run, tmp_path):
    run.write(tmp_path / "run.yaml")
    assert read_run(tmp_path / "run.yaml") == run
    assert read_run(tmp_path / "run.yaml").id == run.id


def test_where_weights_and_data_lie_does_not_change_the_id():
    run = load_study("coco_1x").runs[0].run
    assert changed(run, "backbone.weights.path", "/elsewhere").id == run.id
    assert changed(run, "dataset.data.root", ("/elsewhere",)).id == run.id
    assert changed(run, "backbone.weights.sha256", "0" * 8).id != run.id


def test_execution_does_not_change_the_id():
    study = load_study("tiny")
    assert "execution" not in study.runs[0].run.model_dump()
