"""Configuration: every mistake is one clear line, before any work."""

import pytest
from refusals import refused
from small_studies import changed_study

from cascadebench.core.configuration import CONFIG, read_yaml, validated
from cascadebench.core.errors import InputError
from cascadebench.study.protocol import Protocol
from cascadebench.study.study_file import load_protocol
from cascadebench.study_loading import load_study

MISTAKES = [
    ({"colour": "red"}, "colour: unknown key; allowed: name, title"),
    ({"seeds": "0"}, "seeds: input should be a valid"),
    ({"seeds": [0.5]}, "seeds.0: input should be a valid integer"),
    ({"seeds": [-1]}, "seeds.0"),
    ({"seeds": [3, 3]}, "seeds: a value is given twice"),
    ({"frameworks": ["mmdet", "yolo"]}, "frameworks: unknown framework 'yolo'; known: detectron2, mmdet"),
    ({"variants": [{"variant": "faster"}]}, "variants[0].variant: unknown variant 'faster'"),
    (
        {"variants": [{"variant": "faster_rcnn", "options": {"stages": 2}}]},
        "variants[0].options: faster_rcnn has no option 'stages'; options: iou_threshold, regression",
    ),
    (
        {"variants": [{"variant": "cascade_rcnn", "options": {"stage_loss": "sum"}}]},
        "cascade_rcnn.stage_loss: 'sum': allowed: decay, avg",
    ),
    ({"variants": [{"variant": "faster_rcnn"}] * 2}, "variants[1].label: 'Faster R-CNN FPN' is taken"),
    ({"baseline": "Mask R-CNN"}, "baseline: 'Mask R-CNN' is no variant's label"),
    ({"dataset": "imagenet"}, "dataset: unknown name 'imagenet'"),
    ({"protocol": "fast"}, "protocol: unknown name 'fast'"),
    ({"backbones": ["vgg"]}, "backbones: unknown name 'vgg'"),
    ({"protocol_override": {"schedule": {"iterations": "many"}}}, "protocol_override: schedule.iterations"),
    ({"protocol_override": {"schedule": {"speed": 1}}}, "schedule.speed: unknown key; allowed: iterations"),
    ({"execution": {"gpus": True}}, "execution.gpus: input should be a valid integer"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_a_mistake_in_a_study_is_one_line(tmp_path, change, message):
    with refused(message, "changed.yaml"):
        load_study(changed_study(tmp_path, **change))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not valid YAML"),
        ("- a\n- b", "a mapping of keys to values is expected"),
        ("name: a\nname: b", "line 1 column 1 not valid YAML: the key 'name' is given twice"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_malformed_yaml_is_one_line(tmp_path, text, message):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with refused(message, "study.yaml"):
        load_study(str(path))


def test_a_number_in_exponent_form_is_a_number(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("x: 1e-4\ny: 5E+2\nz: 1.5e3\nname: 1e\n")
    assert read_yaml(path) == {"x": 1e-4, "y": 500.0, "z": 1500.0, "name": "1e"}


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"steps": [500, 400]}, "steps must rise"),
        ({"steps": [600]}, "the last of steps must come before iterations"),
        ({"warmup_iterations": 460}, "warmup_iterations must end before"),
    ],
)
def test_a_schedule_must_make_sense(schedule, message):
    content = read_yaml(CONFIG / "protocols" / "tiny.yaml")
    whole = {"iterations": 600, "batch_size": 4, "base_lr": 0.1, "warmup_iterations": 50, "warmup_factor": 0.1}
    content["schedule"] = whole | {"steps": [450]} | schedule
    with pytest.raises(InputError, match=message):
        validated(Protocol, content, "p.yaml")


def test_learning_rate_of_the_1x_schedule():
    rate = load_protocol("coco_1x", {}, "test").schedule.learning_rate
    assert rate(0) == pytest.approx(0.02 * 0.001)
    assert rate(500) == pytest.approx(0.02 * 0.5005)
    assert rate(1000) == rate(59_999) == 0.02
    assert rate(60_000) == rate(79_999) == pytest.approx(0.002)
    assert rate(80_000) == pytest.approx(0.0002)
