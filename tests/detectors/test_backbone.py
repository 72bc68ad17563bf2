"""Backbones by name and the cards of their weights, without any framework."""

from pathlib import Path

import pytest
import yaml
from refusals import refused
from small_studies import changed_study

from cascadebench.core.configuration import CONFIG, PROJECT, read_named
from cascadebench.core.errors import InputError
from cascadebench.core.files import sha256_of
from cascadebench.detectors.backbone import Backbone, Weights, WeightsCard, load_backbone
from cascadebench.study_loading import load_study

RGB = {"channel_order": "rgb", "pixel_mean": [123.675, 116.28, 103.53], "pixel_std": [58.395, 57.12, 57.375]}
BGR = {"channel_order": "bgr", "pixel_mean": [103.53, 116.28, 123.675], "pixel_std": [1.0, 1.0, 1.0]}
NAMES = [
    "resnet101", "resnet101_caffe", "resnet101_gn", "resnet18", "resnet18_narrow", "resnet50", "resnet50_caffe",
    "resnet50_gn", "resnet50_random", "resnext101_32x4d", "resnext101_64x4d",
]  # fmt: skip


def write(folder: Path, name: str, **content) -> str:
    """Write a YAML file and return its path."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": name} | content))
    return str(path)


def test_there_are_these_backbones():
    assert sorted(path.stem for path in (CONFIG / "backbones").glob("*.yaml")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_backbone_has_the_input_of_its_weights(name):
    backbone = load_backbone(name)
    caffe = name.endswith(("_caffe", "_gn"))
    for key, value in (BGR if caffe else RGB).items():
        assert getattr(backbone, key) == (value if isinstance(value, str) else tuple(value)), key
    assert backbone.stride_in_1x1 == name.endswith("_caffe")
    assert backbone.norm == ("group" if name.endswith("_gn") else "batch")
    assert (backbone.weights is None) == (name in ("resnet18_narrow", "resnet50_random"))
    if backbone.weights:
        assert backbone.weights.format == ("caffe" if caffe else "torchvision")


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIG / "weights").glob("*.yaml")))
def test_every_card_of_weights_names_its_file_and_is_used(name):
    card = read_named(WeightsCard, CONFIG / "weights", name, "test")
    assert f"-{card.sha256}.pth" in card.source, "the file's name ends in its checksum"
    assert card.path.startswith("${")
    used = [load_backbone(backbone).weights for backbone in NAMES]
    assert sum(one is not None and one.sha256 == card.sha256 for one in used) == 1


@pytest.mark.parametrize(
    ("name", "blocks", "channels", "inner"),
    [
        ("resnet18_narrow", [2, 2, 2, 2], [16, 32, 64, 128], [16, 32, 64, 128]),
        ("resnet50", [3, 4, 6, 3], [256, 512, 1024, 2048], [64, 128, 256, 512]),
        ("resnet101_gn", [3, 4, 23, 3], [256, 512, 1024, 2048], [64, 128, 256, 512]),
        ("resnext101_32x4d", [3, 4, 23, 3], [256, 512, 1024, 2048], [128, 256, 512, 1024]),
        ("resnext101_64x4d", [3, 4, 23, 3], [256, 512, 1024, 2048], [256, 512, 1024, 2048]),
    ],
)
def test_architectures(name, blocks, channels, inner):
    backbone = load_backbone(name)
    assert (backbone.blocks, backbone.channels, backbone.inner_channels) == (blocks, channels, inner)


@pytest.mark.parametrize("name", NAMES)
def test_the_user_guide_says_where_the_weights_go(name):
    guide = (PROJECT / "docs" / "user-guide.md").read_text()
    (line,) = [line for line in guide.splitlines() if line.startswith(f"| `{name}` |")]
    weights = load_backbone(name).weights
    if weights:
        variable = weights.path.removeprefix("${").removesuffix("}")
        assert f"`{variable}`: `" in line and f"-{weights.sha256}.pth`" in line


def test_a_backbone_and_weights_of_ones_own(tmp_path):
    card = write(
        tmp_path, "mine_weights", description="Mine.", source="Me.", path="mine.pth", sha256="0" * 64, format="caffe",
        stride_in_1x1=True, **BGR,
    )  # fmt: skip
    backbone = load_backbone(write(tmp_path, "mine", depth=152, weights=card))
    assert (backbone.depth, backbone.blocks, backbone.stride_in_1x1) == (152, [3, 8, 36, 3], True)
    assert backbone.weights == Weights(path="mine.pth", sha256="0" * 64, format="caffe")
    random = load_backbone(write(tmp_path, "random", depth=50, stride_in_1x1=True, **RGB))
    assert (random.weights, random.stride_in_1x1) == (None, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"depth": 50}, "mine.yaml: channel_order: missing; a backbone with random weights says it itself"),
        ({"depth": 50, "weights": "torchvision_resnet50"} | RGB, "channel_order: the card of the weights"),
        ({"depth": 50, "weights": "torchvision_resnet50", "stride_in_1x1": False}, "stride_in_1x1: the card of"),
        (
            {"depth": 50, "weights": "imagenet"},
            "mine.yaml: weights: unknown name 'imagenet'; in weights/ there are: det",
        ),
        ({"depth": 49} | RGB, "depth: input should be 18, 34, 50, 101 or 152"),
        ({"depth": 50, "groups": 32} | RGB, "groups and width_per_group: a ResNeXt has both"),
        ({"depth": 50, "width_per_group": 4} | RGB, "groups and width_per_group: a ResNeXt has both"),
        ({"depth": 18, "groups": 32, "width_per_group": 4} | RGB, "groups: depth 18 has basic blocks"),
        (
            {"depth": 18, "norm": "group", "base_channels": 16} | RGB,
            "norm: group norm needs channels in multiples of 32",
        ),
        (
            {"depth": 50, "norm": "group", "groups": 4, "width_per_group": 4} | RGB,
            "norm: group norm needs channels in multiples of 32",
        ),
        ({"depth": 18, "norm": "layer"} | RGB, "norm: input should be 'batch' or 'group'"),
    ],
)
def test_a_mistake_in_a_backbone_is_one_line(content, message, tmp_path):
    with refused(message, "mine.yaml"):
        load_backbone(write(tmp_path, "mine", **content))


def test_group_norm_needs_a_pyramid_that_it_divides(tmp_path):
    study = changed_study(tmp_path, backbones=["resnet50_gn"], protocol_override={"neck": {"channels": 48}})
    with pytest.raises(InputError, match=r"neck\.channels: 48; backbone resnet50_gn has group norm, .* multiple of 32"):
        load_study(study)


def test_weights_are_found_by_environment_and_checksum(tmp_path, monkeypatch):
    path = tmp_path / "some.pth"
    path.write_bytes(b"weights")
    weights = Weights(path="${SOME_WEIGHTS}", sha256=sha256_of(path)[:8], format="caffe")
    with pytest.raises(InputError, match=r"set the environment variable in '\$\{SOME_WEIGHTS\}'"):
        weights.find()
    monkeypatch.setenv("SOME_WEIGHTS", str(path))
    assert weights.find() == path
    path.write_bytes(b"other weights")
    with pytest.raises(InputError, match=f"some.pth has SHA-256 {sha256_of(path)}, expected {weights.sha256}"):
        weights.find()
    path.unlink()
    with pytest.raises(InputError, match="no file"):
        weights.find()


def test_the_runs_of_a_backbone_differ_by_its_architecture_and_not_by_the_place_of_its_weights():
    run = load_study("coco_1x").runs[0].run

    def id_with(**changes) -> str:
        return run.model_copy(update={"backbone": run.backbone.model_copy(update=changes)}).id

    assert id_with() == run.id
    assert id_with(weights=run.backbone.weights.model_copy(update={"path": "/elsewhere"})) == run.id
    changed = [{"groups": 32, "width_per_group": 4}, {"norm": "group"}, {"stride_in_1x1": True}, {"weights": None}]
    assert len({run.id, *(id_with(**change) for change in changed)}) == 5
    assert Backbone.model_validate(run.backbone.model_dump(), strict=True) == run.backbone
