"""Published values: their form, with every difference of circumstances beside a run, and one line for every mistake."""

import pytest
import yaml
from made_up import make_run
from refusals import refused

from cascadebench.core.configuration import CONFIG, read_model, read_yaml, validated
from cascadebench.evidence.claims import load_claims
from cascadebench.evidence.comparability import published_beside
from cascadebench.evidence.published import FOLDER, PublishedFile, load_published
from cascadebench.evidence.source_protocols import find_schedule, load_source_protocols
from cascadebench.study.run import Run
from cascadebench.study_loading import load_study

BACKBONES = {"resnet50": "r50", "resnet101": "r101", "resnet50_gn": "r50_gn", "resnet101_gn": "r101_gn"}
"""Backbones of Table 10 of Cascade R-CNN, and what its rows are called."""
WARM_UP = "warm-up iterations: 1000 here, 500 in the source"
LATER = "option later_ground_truth: regressed here, dropped_and_added in the source"


def test_a_value_has_everything_that_it_belongs_to():
    value = load_published()["decoupled_rcnn.table8.cascaded_r50.GFLOPs"]
    assert (value.value, value.unit, value.measured) == (257.52, "GFLOPs", 257.52e9)
    assert (value.variant, value.options["stages"], value.test_stage) == ("decoupled_rcnn", 3, "(3,1)")
    assert value.options["regression"] == "class_specific"
    assert (value.dataset, value.split, value.framework, value.backbone) == ("coco2017", "val2017", "mmdet", "resnet50")
    assert (value.schedule.name, value.place) == ("decoupled_1x", "Table VIII")
    assert "speed on one TITAN X" in value.differs


def test_a_row_goes_before_its_table_and_the_table_before_its_file():
    values = load_published()
    assert values["cascade_rcnn.table7.r101_gn.AP"].backbone == "resnet101_gn"
    assert values["cascade_rcnn.table7.r50.AP"].backbone == "resnet50_caffe"
    assert values["cascade_rcnn.table7.x101.AP"].backbone is None, "a null in a row goes before the file's word too"
    assert values["cascade_rcnn.table7.r50.AP"].framework == "detectron"
    assert values["cascade_rcnn.table1.cascade.AP"].framework == "caffe"
    assert values["cascade_rcnn.table10.x152.AP"].differs == ("enhanced training",)


def test_percent_becomes_a_fraction_and_no_cell_is_made_up():
    values = load_published()
    assert values["fscascade.abstract.fscascade.AP"].measured == 0.432
    assert values["model_zoo_readme.results.cascade_r50_1x.AP"].measured == 0.404
    assert values["mmdetection_zoo.cascade_rcnn.r50_1x.memory_GB"].measured == 4400
    assert values["mmdetection_zoo.cascade_rcnn.r50_1x.fps"].measured == 16.1
    assert "mmdetection_zoo.cascade_rcnn.r50_20e.fps" not in values


def test_every_backbone_and_dataset_is_the_project_s():
    for kind in ("backbone", "dataset"):
        known = {path.stem for path in (CONFIG / f"{kind}s").glob("*.yaml")}
        named = {getattr(value, kind) for value in load_published().values()} - {None}
        assert named - known == set()


def test_statements_name_claims_that_exist():
    files = [read_model(PublishedFile, path) for path in FOLDER.glob("*.yaml")]
    statements = {f"{file.name}.{one.id}": one for file in files for one in file.statements}
    assert len(statements) == 4
    assert {claim for statement in statements.values() for claim in statement.claims} <= set(load_claims())


def test_lengths_of_schedules():
    assert find_schedule("detectron_1x", "test").images == 1_440_000
    assert find_schedule("mmdetection_1x", "test").images == 1_407_192
    assert find_schedule("cascade_fpn_plus", "test").images == 1_440_000
    assert find_schedule("decoupled_voc", "test").images == 198_612
    assert find_schedule("unknown", "test").images is None
    used = {value.schedule.name for value in load_published().values()}
    used |= {claim.claimed_on.schedule for claim in load_claims().values()}
    assert used == set(load_source_protocols()), "every schedule is used"


def first_table(content):
    return content["tables"][0]


def first_row(content):
    return content["tables"][0]["rows"][0]


MISTAKES = [
    (lambda c: c.update(colour="red"), "colour: unknown key; allowed:"),
    (lambda c: c.update(name="other"), "name: 'other' must equal the file's name"),
    (lambda c: c.pop("dataset"), "table results, row cascade_r50_1x: dataset: missing in the row"),
    (lambda c: c.update(schedule="5x") or first_table(c).pop("schedule"), "schedule: unknown schedule '5x'"),
    (lambda c: first_table(c).update(columns=["mAP"]), "table results: columns: unknown metric 'mAP'; there are: AP"),
    (lambda c: first_table(c).update(variant="yolo"), "variant: unknown variant 'yolo'; there are: cascade_"),
    (lambda c: first_table(c).update(options={"depth": 3}), "options: cascade_rcnn has no option 'depth'"),
    (lambda c: first_table(c).update(variant=None, options={"stages": 3}), "options: there is no variant"),
    (lambda c: first_table(c).update(test_stage="3"), "test_stage: '3' is no test stage"),
    (lambda c: first_table(c).update(framework="yolo"), "tables.0.framework: input should be 'mmdet'"),
    (lambda c: first_row(c).update(values=[40.4, 1.0]), "row cascade_r50_1x: values: 2 values for 1 columns"),
    (lambda c: first_row(c).update(values=["40.4"]), "tables.0.rows.0.values.0: input should be a valid number"),
    (lambda c: first_table(c)["rows"].append(first_row(c)), "'model_zoo_readme.results.cascade_r50_1x.AP' is given"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_a_mistake_is_one_line(tmp_path, change, message):
    content = read_yaml(FOLDER / "model_zoo_readme.yaml")
    change(content)
    (tmp_path / "model_zoo_readme.yaml").write_text(yaml.safe_dump(content))
    with refused(message, "model_zoo_readme.yaml"):
        load_published(tmp_path)


def test_no_file_repeats_a_name_of_another():
    names = [read_model(PublishedFile, path).name for path in FOLDER.glob("*.yaml")]
    assert len(names) == len(set(names)) == 5


def beside(run, test_stage, metric="AP"):
    return {found.value.id: found.differences for found in published_beside(run, test_stage, [metric])}


def with_parts(run, **parts):
    """The run with some values changed, as if it had been planned so."""
    value = run.model_dump(mode="json")
    for part, change in parts.items():
        value[part] = value[part] | change
    return validated(Run, value, "test")


def test_the_zoo_s_cascade_has_few_differences():
    run = make_run("cascade_rcnn")
    found = beside(run, "(3,1-3) logits")
    assert found["mmdetection_zoo.cascade_rcnn.r50_1x.AP"] == (
        WARM_UP,
        LATER,
        "memory and speed on its own GPUs",
    )
    assert next(iter(found)) == "mmdetection_zoo.cascade_rcnn.r50_1x.AP", "the fewest differences come first"
    longer = found["mmdetection_zoo.cascade_rcnn.r50_20e.AP"]
    assert longer[0] == "training: 1,440,000 images here, 2,345,320 in the source (20e)"


def test_every_difference_is_told():
    found = beside(make_run("cascade_rcnn"), "(3,1-3) probabilities")
    assert found["mmdetection_zoo.cascade_rcnn.r50_caffe_1x.AP"] == (
        "initial weights: resnet50 here, resnet50_caffe in the source",
        WARM_UP,
        "score rule: (3,1-3) probabilities here, (3,1-3) logits in the source",
        LATER,
        "memory and speed on its own GPUs",
    )
    assert found["cascade_rcnn.table1.cascade.AP"] == (
        "framework: mmdet here, caffe in the source",
        "initial weights: resnet50 here, resnet50_caffe in the source",
        "batch size: 16 here, 8 in the source",
        "learning rate: 0.02 here, 0.005 in the source",
        "drops of the rate: 67%, 89% here, 67% in the source",
        "learning rate of biases over that of weights: 1 here, 2 in the source (Detectron, core/config.py)",
        "weight decay of biases over that of weights: 1 here, 0 in the source (Detectron, core/config.py)",
        "batch norm: fixed_statistics here, frozen in the source",
        "proposals in training: 1000 here, 2000 in the source (FPN, Section 5.2)",
        "beta of smooth L1 of the proposals (0: L1): 0 here, 0.111111 in the source (Detectron, modeling/FPN.py)",
        "samples of RoIAlign: 0 here, 2 in the source (Detectron, the 1x configurations of R-50-FPN)",
        "RoIs per image: 512 here, 256 in the source",
        "beta of smooth L1 of the heads (0: L1): 0 here, 1 in the source",
        "score rule: (3,1-3) probabilities here, (3,1-3) last RoIs in the source",
        LATER,
    )
    assert "split: val2017 here, test-dev in the source" in found["cascade_rcnn.table6_test_dev.fpn_r50_cascade.AP"]
    assert "split: val2017 here, not given in the source" in found["model_zoo_readme.results.cascade_r50_1x.AP"]


def test_boxes_classifiers_variant_options_network_and_dataset_must_agree():
    run = make_run("cascade_rcnn")
    assert {"cascade_rcnn.table2.stage2.AP"} == set(beside(run, "(2,2)"))
    assert {"cascade_rcnn.table2.stage3.AP"} == set(beside(run, "(3,3)")), "Table X of Decoupled R-CNN is ResNet-101"
    two = make_run("cascade_rcnn", {"stages": 2})
    assert {"cascade_rcnn.table4.stages2.AP"} == set(beside(two, "(2,1-2) probabilities"))
    assert not beside(make_run("cascade_rcnn", backbone="resnet18_narrow"), "(3,3)")
    assert not beside(make_run("cascade_rcnn", dataset="blood_cells"), "(3,3)")
    average = make_run("cascade_rcnn", {"stage_loss": "avg"})
    assert {"cascade_rcnn.table3.both_avg.AP"} == set(beside(average, "(3,1-3) last RoIs"))
    elsewhere = with_parts(run, variant={"folder": "/somewhere"})
    assert not published_beside(elsewhere, "(3,3)"), "a variant of somebody's own is none of the published ones"


def test_an_option_about_which_paper_and_code_disagree_is_a_difference():
    found = beside(make_run("decoupled_rcnn"), "(3,1)", "parameters_M")
    assert found["decoupled_rcnn.table8.cascaded_r50.parameters_M"] == (
        "batch size: 16 here, 8 in the source",
        "learning rate: 0.02 here, 0.01 in the source",
        f"{WARM_UP} (MMDetection, schedule_1x.py)",
        "option regression: class_agnostic here, class_specific in the source",
        "speed on one TITAN X",
        "parameters: those that learn",
    )
    exact = beside(make_run("decoupled_rcnn", {"regression": "class_specific"}), "(3,1)", "parameters_M")
    assert not any(text.startswith("option") for text in exact["decoupled_rcnn.table8.cascaded_r50.parameters_M"])
    assert not beside(make_run("decoupled_rcnn", {"nms_reg": 0.7}), "(3,1)")


def test_another_reading_is_the_same_detector():
    """A source that does not say how features are merged is beside every way of merging them."""
    found = beside(make_run("fscascade", {"merge": "sum"}), "(3,3)")
    assert "option merge: sum here, not given in the source" in found["fscascade.abstract.fscascade.AP"]
    assert not beside(make_run("fscascade", {"cfs": False}), "(3,3)")


def test_a_short_training_says_how_short():
    short = make_run("cascade_rcnn", schedule={"iterations": 1000, "steps": [800], "warmup_iterations": 10})
    found = beside(short, "(3,3)")
    assert "training: 16,000 images here, 1,440,000 in the source (180k iterations of 8 images)" in next(
        iter(found.values())
    )


def test_a_source_that_says_little_is_shown_with_what_it_does_not_say():
    found = beside(make_run("fscascade"), "(3,3)")
    assert found == {
        "fscascade.abstract.fscascade.AP": (
            "framework: mmdet here, not given in the source",
            "backbone: resnet50 here, not given in the source",
            "training: 1,440,000 images here, and the source's schedule (not given) is not known in numbers",
            "split: val2017 here, not given in the source",
            "option merge: mean here, not given in the source",
            "option share_gradient: True here, not given in the source",
            "option borrowed_loss: full here, not given in the source",
            "option embed: linear here, not given in the source",
            "option later_ground_truth: regressed here, not given in the source",
            "no ensemble, no further enhancements",
        )
    }


@pytest.mark.parametrize("backbone", BACKBONES)
def test_table_10_stands_beside_the_runs_of_its_study(backbone):
    """Its text says masks on the first stage; its numbers and its authors' configurations have the last."""
    for planned in load_study("cascade_table_10").runs:
        if planned.run.backbone.name == backbone:
            stage = "(3,1-3) last RoIs" if planned.run.variant.stages == 3 else "(1,1)"
            found = {found.value.id: found.differences for found in published_beside(planned.run, stage, ["mask_AP"])}
            row = f"cascade_rcnn.table10.{BACKBONES[backbone]}{'_cascade' if planned.run.variant.stages == 3 else ''}"
            assert ("the text says masks on the first stage" in found[f"{row}.mask_AP"]) == row.endswith("_cascade")
    first = make_run("cascade_mask_rcnn", {"mask_on": "first"}, backbone=backbone)
    assert not [one for one in published_beside(first, "(3,1-3) last RoIs") if one.value.id.count(".table10.")]


def test_all_metrics_of_the_headline():
    metrics = {found.value.metric for found in published_beside(make_run(), "(1,1)")}
    assert {"AP", "AP50", "AP90", "APs", "GFLOPs", "parameters_M", "seconds_per_image", "model_size_MB"} <= metrics
