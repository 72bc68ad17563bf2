"""What makes another question of a study, and what is a note: every value of a protocol, the data, the network."""

import re

import pandas as pd
import pytest
import yaml
from made_up import make_run
from made_up_results import misses, study_of, write_clean_audit, write_run, write_truth
from refusals import refused

from cascadebench.controls.findings import Audit
from cascadebench.core.configuration import CONFIG, PROJECT, read_yaml
from cascadebench.datasets.card import load_dataset_card
from cascadebench.detectors.backbone import load_backbone
from cascadebench.evidence.claims import load_claims
from cascadebench.evidence.comparability import other_settings, reasons_not_comparable
from cascadebench.evidence.protocol_differences import RULES, protocol_differences
from cascadebench.evidence.source_protocols import (
    FOLDER,
    find_schedule,
    load_source_protocols,
    protocol_keys,
    protocol_values,
)
from cascadebench.evidence.verdict_files import write_verdicts
from cascadebench.study.study_file import load_protocol
from cascadebench.study_loading import load_study
from cascadebench.uncertainty.resampled_study import ResampledStudy

CLEAN = Audit("made up", 1, 97, ())
ANOTHER_QUESTION = {
    "96 pixels": ({"input": {"test_short_side": 96}}, "shorter side in testing: 96 here, 800"),
    "96 pixels in training": ({"input": {"train_short_sides": [96]}}, "shorter side in training: 96 here, 800"),
    "several sizes": ({"input": {"train_short_sides": [640, 800]}}, "shorter side in training: 640, 800 here, 800"),
    "narrow images": ({"input": {"max_long_side": 800}}, "longest side: 800 here, 1333"),
    "no flip": ({"input": {"flip_probability": 0.0}}, "share of mirrored images: 0 here, 0.5"),
    "width 16": ({"heads": {"width": 16}}, "width of the heads: 16 here, 1024"),
    "a thin pyramid": ({"neck": {"channels": 64}}, "channels of the pyramid: 64 here, 256"),
    "3x3 pooling": ({"heads": {"pool_size": 3}}, "side of pooled features: 3 here, 7"),
    "5 detections": ({"inference": {"max_detections": 5}}, "detections per image: 5 here, 100"),
    "5 proposals": ({"rpn": {"test_post_nms": 5}}, "proposals in testing: 5 here, 1000"),
    "a high score": ({"inference": {"score_threshold": 0.5}}, "lowest score: 0.5 here, 0.05"),
    "all frozen": ({"backbone": {"frozen_stages": 5}}, "frozen stages: 5 here, 2"),
    "statistics of the batch": ({"backbone": {"batch_norm": "trained"}}, "batch norm: trained here, f"),
    "no momentum": ({"optimizer": {"momentum": 0.0}}, "momentum: 0 here, 0.9"),
    "no decay": ({"optimizer": {"weight_decay": 0.0}}, "weight decay: 0 here, 0.0001"),
    "no low rate": ({"schedule": {"gamma": 1.0}}, "factor of the rate at a drop: 1 here, 0.1"),
    "other anchors": ({"rpn": {"anchors": {"scale": 2.0}}}, "scale of the anchors: 2 here, 8"),
}
"""Values of the protocol coco_1x in place of its own, and how the reason begins."""


def coco_1x(tmp_path, override):
    """The study coco_1x with some values of its protocol replaced, as its user writes it."""
    content = read_yaml(CONFIG / "studies" / "coco_1x.yaml") | {"protocol_override": override, "seeds": [0]}
    content["execution"]["gpus"] = 1
    (tmp_path / "coco_1x.yaml").write_text(yaml.safe_dump(content))
    return load_study(str(tmp_path / "coco_1x.yaml"))


def asked(study):
    """Every claim of a study with all runs of the study."""
    return [(load_claims()[name], [planned.run for planned in study.runs]) for name in study.file.claims]


@pytest.mark.parametrize("name", ANOTHER_QUESTION)
def test_another_question_has_its_reason_under_every_claim(tmp_path, name):
    override, begins = ANOTHER_QUESTION[name]
    for claim, runs in asked(coco_1x(tmp_path, override)):
        (*reasons, last) = reasons_not_comparable(claim, runs, CLEAN)
        assert [one for one in [*reasons, last] if one.startswith(begins)], f"{claim.id}: {reasons} {last}"


@pytest.mark.parametrize(
    "override",
    [
        {},
        {"schedule": {"batch_size": 8, "iterations": 180_000, "steps": [120_000, 160_000]}},
        {"schedule": {"base_lr": 0.01, "warmup_iterations": 0}},
        {"schedule": {"steps": [60_000]}},
        {"rpn": {"train_post_nms": 2000}, "heads": {"rois_per_image": 256, "sampling_ratio": 2}},
        {"backbone": {"batch_norm": "frozen"}},
        {"optimizer": {"gradient_clip_norm": 10.0}, "input": {"aspect_ratio_grouping": False}},
        {"inference": {"score_threshold": 0.001}},
    ],
    ids=str,
)
def test_a_note_is_no_reason(tmp_path, override):
    for claim, runs in asked(coco_1x(tmp_path, override)):
        assert reasons_not_comparable(claim, runs, CLEAN) == (), claim.id
        assert other_settings(claim, runs)


def test_a_batch_of_8_stays_a_note(tmp_path):
    schedule = {"batch_size": 8, "iterations": 180_000, "steps": [120_000, 160_000]}
    claims = {claim.id: runs for claim, runs in asked(coco_1x(tmp_path, {"schedule": schedule}))}
    notes = other_settings(load_claims()["large-objects-gain-more"], claims["large-objects-gain-more"])
    assert notes[0] == "batch size: 8 here, 16 in the source"


@pytest.mark.parametrize("side", [800, 96])
def test_the_table_of_verdicts_says_so(tmp_path, side):
    """From a study's file to verdicts.csv."""
    study = study_of(tmp_path, variants=[{"variant": "cascade_rcnn"}], baseline="Cascade R-CNN", frameworks=["mmdet"],
                     claims=["last-stage-loses-ap50"],
                     protocol_override={"input": {"test_short_side": side}})  # fmt: skip
    truth = write_truth(tmp_path, study)
    write_run(tmp_path, study.runs[0].run, truth, misses({"(3,3)": 0.4}))
    write_clean_audit(tmp_path, study)
    write_verdicts(ResampledStudy(study, tmp_path, 50))
    table = pd.read_csv(tmp_path / "studies" / "made_up" / "verdicts.csv", keep_default_na=False)
    (row,) = table.to_dict("records")
    reason = "shorter side in testing: 96 here, 800 in the source (FPN, Section 5.2)"
    assert (row["verdict"] == "not comparable", row["reasons"]) == (side == 96, reason if side == 96 else "")


def test_every_value_of_a_protocol_has_its_row():
    assert set(RULES) == set(protocol_keys()) == set(protocol_values(load_protocol("coco_1x", {}, "test")))
    assert all(rule.why.endswith(".") for rule in RULES.values())
    assert {rule.weight for rule in RULES.values()} == {"reason", "note"}


def test_the_page_has_the_table():
    page = (PROJECT / "docs" / "evidence.md").read_text(encoding="utf-8")
    rows = [f"| `{key}` | {rule.weight} | {rule.why} |" for key, rule in RULES.items()]
    assert [line for line in page.splitlines() if re.match(r"\| `[a-z0-9_.]+` \| (reason|note) \|", line)] == rows


def test_every_row_can_weigh():
    """Each value that a source gives is compared: a source that gives another one than the protocol's differs in it."""
    protocol = load_protocol("decoupled_coco_1x", {}, "test")
    source = find_schedule("decoupled_1x", "test")
    assert protocol_differences(protocol, source) == []
    compared = set()
    for key, given in source.given.items():
        other = source.given | {key: given._replace(value=-1)}
        (found,) = protocol_differences(protocol, type(source)(**(vars(source) | {"given": other})))
        compared.add(found.key)
    assert compared == set(source.given)


def test_a_value_by_reference_says_whose_it_is():
    value = find_schedule("fscascade_1x", "test").given["heads.width"]
    assert value == (1024, "FPN, Section 4.2")
    assert find_schedule("decoupled_1x", "test").given["schedule.base_lr"] == (0.01, "")
    assert "schedule.batch_size" not in find_schedule("fscascade_1x", "test").given, "absent is absent"
    assert find_schedule("fscascade_not_given", "test").given == {}


def dataset(**changes):
    card = load_dataset_card("coco2017")
    return card.model_copy(update=changes)


@pytest.mark.parametrize(
    ("card", "reasons"),
    [
        (dataset(name="coco_elsewhere"), ()),
        (dataset(categories=("person", "car")), ("data: coco2017 here has other categories than coco2017",)),
        (
            dataset(data=dataset().data.model_copy(update={
                "val": dataset().data.val.model_copy(update={"annotations": "mine.json", "annotation_count": 12}),
                "train": dataset().data.train.model_copy(update={"image_count": None}),
            })),
            (
                "data: training images: not said by the card here, 118,287 in the source",
                "data: validation annotations: 12 here, 36,781 in the source",
            ),
        ),
        (dataset(name="mine", categories=("a",)), ("data: mine here, coco2017 in the source",)),
    ],
    ids=["another name", "other categories", "other annotations", "other data"],
)  # fmt: skip
def test_data_are_compared_by_what_they_are(card, reasons):
    run = make_run("cascade_rcnn").model_copy(update={"dataset": card})
    assert reasons_not_comparable(load_claims()["cascade-loses-low-iou"], [run], CLEAN) == reasons


@pytest.mark.parametrize(
    ("backbone", "changes", "reasons"),
    [
        ("resnet50_caffe", {}, ()),
        ("resnet50", {"name": "mine"}, ()),
        ("resnet50", {"base_channels": 16}, ("backbone: base_channels 16 here, 64 in the source (resnet50)",)),
        ("resnet101", {"name": "resnet50"}, ("backbone: depth 101 here, 50 in the source (resnet50)",)),
        ("resnet101", {}, ("backbone: resnet101 here, resnet50 in the source",)),
        ("resnet50_random", {}, ("initial weights: random here, trained on ImageNet in the source",)),
    ],
)
def test_networks_are_compared_by_what_they_are(backbone, changes, reasons):
    found = load_backbone(backbone, "test").model_copy(update=changes)
    run = make_run("cascade_rcnn").model_copy(update={"backbone": found})
    assert reasons_not_comparable(load_claims()["cascade-loses-low-iou"], [run], CLEAN) == reasons


def schedule(content):
    return content["schedules"][0]


MISTAKES = [
    (lambda c: c.update(otherwise=["yolo"]), "schedule fscascade_1x: otherwise: unknown file 'yolo'; there are: "),
    (lambda c: schedule(c).update(values={"heads": {"wide": 3}}), "heads.wide: a protocol has no such value; did you "),
    (lambda c: schedule(c).update(values={"heads": {"width": 0}}), "heads.width: input should be greater than"),
    (lambda c: schedule(c).update(values={"heads": {"width": "x"}}), "heads.width: input should be a valid integer"),
    (lambda c: schedule(c).update(values={"schedule": {"steps": [1]}}), "schedule.steps: no value of its own; "),
    (lambda c: schedule(c).update(not_given=["width"]), "not_given: width: a protocol has no such value"),
    (lambda c: schedule(c).update(iterations=9), "schedules.0: iterations and epochs exclude each other"),
    (lambda c: schedule(c).update(epochs=None, iterations=9), "iterations: they need schedule.batch_size"),
    (lambda c: schedule(c).update(dataset="mine"), "schedules.0: epochs need a dataset of known size"),
    (lambda c: schedule(c).update(epochs=None, drops=[1]), "schedules.0: drops need iterations or epochs"),
    (lambda c: c["schedules"].append(schedule(c)), "schedules: the name 'fscascade_1x' is given twice"),
    (lambda c: c.update(name="other"), "name: 'other' must equal the file's name 'fscascade'"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_a_mistake_in_a_source_s_file_is_one_line(tmp_path, change, message):
    for name in ("fscascade", "cascade_rcnn", "fpn", "detectron"):
        content = read_yaml(FOLDER / f"{name}.yaml")
        if name == "fscascade":
            change(content)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    with refused("fscascade.yaml", message):
        load_source_protocols(tmp_path)
