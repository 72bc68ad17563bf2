"""Published values beside a run, with every difference of circumstances."""

from made_up import make_run

from cascadebench.core.configuration import validated
from cascadebench.evidence.comparability import published_beside
from cascadebench.study.run import Run


def beside(run, test_stage, metric="AP"):
    return {found.value.id: found.differences for found in published_beside(run, test_stage, [metric])}


def with_parts(run, **parts):
    """The run with some values changed, as if it had been planned so."""
    value = run.model_dump(mode="json")
    for part, change in parts.items():
        value[part] = value[part] | change
    return validated(Run, value, "test")


def test_the_zoo_s_cascade_has_no_difference_but_gpus():
    run = make_run("cascade_rcnn")
    found = beside(run, "(3,1-3) logits")
    assert found["mmdetection_zoo.cascade_rcnn.r50_1x.AP"] == ("memory and speed on its own GPUs",)
    assert next(iter(found)) == "mmdetection_zoo.cascade_rcnn.r50_1x.AP", "the fewest differences come first"
    longer = found["mmdetection_zoo.cascade_rcnn.r50_20e.AP"]
    assert longer[0] == "training: 1,440,000 images here, 2,345,320 in the source (20e)"


def test_every_difference_is_told():
    found = beside(make_run("cascade_rcnn"), "(3,1-3) probabilities")
    assert found["mmdetection_zoo.cascade_rcnn.r50_caffe_1x.AP"] == (
        "initial weights: resnet50 here, resnet50_caffe in the source",
        "score rule: (3,1-3) probabilities here, (3,1-3) logits in the source",
        "memory and speed on its own GPUs",
    )
    assert found["cascade_rcnn.table1.cascade.AP"] == (
        "framework: mmdet here, caffe in the source",
        "initial weights: resnet50 here, resnet50_caffe in the source",
        "batch size: 16 here, 8 in the source",
        "learning rate: 0.02 here, 0.005 in the source",
        "RoIs per image: 512 here, 256 in the source",
        "score rule: (3,1-3) probabilities here, (3,1-3) last RoIs in the source",
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
        "option regression: class_agnostic here, class_specific in the source",
        "speed on one TITAN X",
        "parameters: those that learn",
    )
    exact = beside(make_run("decoupled_rcnn", {"regression": "class_specific"}), "(3,1)", "parameters_M")
    assert not any(text.startswith("option") for text in exact["decoupled_rcnn.table8.cascaded_r50.parameters_M"])
    assert not beside(make_run("decoupled_rcnn", {"nms_reg": 0.7}), "(3,1)")


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
            "no ensemble, no further enhancements",
        )
    }


def test_all_metrics_of_the_headline():
    metrics = {found.value.metric for found in published_beside(make_run(), "(1,1)")}
    assert {"AP", "AP50", "AP90", "APs", "GFLOPs", "parameters_M", "seconds_per_image", "model_size_MB"} <= metrics
