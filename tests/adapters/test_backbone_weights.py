"""Files of backbone weights: every format gives the same features in both frameworks; what does not fit is refused."""

import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from backbone_sides import FRAMEWORKS, build, image, small
from torch import Tensor

from adapters.weights.backbone_weights import read_backbone_weights, torchvision_name
from adapters.weights.caffe_pickle import read_caffe_pickle, torchvision_name_of
from cascadebench.core.errors import InputError
from cascadebench.core.files import sha256_of
from cascadebench.detectors.backbone import Backbone, Weights

TRAINING = {"frozen_stages": 2, "batch_norm": "fixed_statistics"}


def from_file(path: Path, format: str = "torchvision", **architecture) -> Backbone:
    """Make a backbone that starts from a file."""
    weights = Weights(path=str(path), sha256=sha256_of(path), format=format)
    return small(weights=weights, **architecture)


def features(framework: str, backbone: Backbone) -> list[Tensor]:
    """Outputs of the residual stages after loading the weights."""
    part = build(framework, backbone, **TRAINING)
    part.load()
    with torch.no_grad():
        return part.stages(image())


def made_up(norm: str = "batch") -> dict[str, Tensor]:
    """Random weights of a ResNet-50 of 32 base channels, by torchvision's names."""
    part = build("detectron2", small(base_channels=32, norm=norm), **TRAINING)
    random = torch.Generator().manual_seed(1)
    made = {}
    for name, tensor in part.state_dict().items():
        common = part.common_name(name)
        if common and common.startswith("backbone."):
            translated = torchvision_name(common)
            if tensor.dim() == 4:
                made[translated] = torch.randn(tensor.shape, generator=random) * (2 / tensor[0].numel()) ** 0.5
            elif translated.endswith(("weight", "running_var")):
                made[translated] = torch.rand(tensor.shape, generator=random) * 0.5 + 0.5
            else:
                made[translated] = torch.randn(tensor.shape, generator=random) * 0.1
    return made


def without_statistics(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights where every batch norm has mean 0 and variance 1."""
    neutral = {"running_mean": torch.zeros_like, "running_var": torch.ones_like}
    return {name: neutral.get(name.rpartition(".")[2], torch.clone)(tensor) for name, tensor in state.items()}


def caffe2_blobs(state: dict[str, Tensor], norm: str = "bn", statistics: bool = False) -> dict[str, np.ndarray]:
    """Write weights under Caffe2's names, with the classifier and the stem's bias that such files have."""
    given = {name: tensor.numpy() for name, tensor in state.items()}
    blobs = {"conv1_w": given["conv1.weight"], "conv1_b": np.ones(32, np.float32), "fc1000_w": np.ones((9, 9))}
    blobs["fc1000_b"] = np.ones(9, np.float32)
    suffixes = {"weight": "s", "bias": "b"} | ({"running_mean": "rm", "running_var": "riv"} if statistics else {})
    for tensor, suffix in suffixes.items():
        blobs[f"{'res_' if norm == 'bn' else ''}conv1_{norm}_{suffix}"] = given[f"bn1.{tensor}"]
    for stage, number in enumerate([3, 4, 6, 3], start=1):
        for block in range(number):
            branches = {"2a": ("conv1", "bn1"), "2b": ("conv2", "bn2"), "2c": ("conv3", "bn3")}
            if block == 0:
                branches["1"] = ("downsample.0", "downsample.1")
            for branch, (convolution, own_norm) in branches.items():
                ours, theirs = f"layer{stage}.{block}", f"res{stage + 1}_{block}_branch{branch}"
                blobs[f"{theirs}_w"] = given[f"{ours}.{convolution}.weight"]
                for tensor, suffix in suffixes.items():
                    blobs[f"{theirs}_{norm}_{suffix}"] = given[f"{ours}.{own_norm}.{tensor}"]
    return blobs


class Python2Pickler(pickle._Pickler):
    """Writes strings and bytes as Python 2 did, whose pickles Detectron's files are."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, text: str | bytes) -> None:
        content = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[bytes] = dispatch[str] = save_string


def assert_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """Equal but for the last digits."""
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_torchvisions_weights_give_torchvisions_features(name, framework, tmp_path):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)(weights=None).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.normal_(module.running_mean, std=0.1)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    groups = {"groups": 32, "width_per_group": 4} if name.startswith("resnext") else {}
    depth = 18 if name == "resnet18" else 50
    ours = features(framework, from_file(tmp_path / "weights.pth", depth=depth, base_channels=64, **groups))
    expected = []
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image()))))
        for number in range(1, 5):
            x = getattr(theirs, f"layer{number}")(x)
            expected.append(x)
    assert_same(ours, expected)


def test_every_format_gives_the_same_features_in_both_frameworks(tmp_path):
    state = without_statistics(made_up())
    torch.save(state, tmp_path / "torchvision.pth")
    classifier = {"fc.weight": torch.ones(9, 9), "fc.bias": torch.ones(9)}
    counted = {"bn1.num_batches_tracked": torch.tensor(3)}
    caffe = state | classifier | counted | {"conv1.bias": torch.ones(32)}
    torch.save({"state_dict": OrderedDict(caffe), "meta": {"epoch": 3}}, tmp_path / "caffe.pth")
    blobs = caffe2_blobs(state)
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(blobs, protocol=2))
    with (tmp_path / "python2.pkl").open("wb") as file:
        Python2Pickler(file, protocol=2).dump({"blobs": blobs | {"conv1_w_momentum": np.ones(3)}})
    (tmp_path / "new.pkl").write_bytes(pickle.dumps({"model": blobs, "__author__": "Caffe2"}, protocol=5))
    expected = features("mmdet", from_file(tmp_path / "torchvision.pth", base_channels=32))
    assert all(level.std() > 0.01 for level in expected)
    for framework in FRAMEWORKS:
        assert_same(features(framework, from_file(tmp_path / "torchvision.pth", base_channels=32)), expected)
        for name in ("caffe.pth", "bare.pkl", "python2.pkl", "new.pkl"):
            assert_same(features(framework, from_file(tmp_path / name, "caffe", base_channels=32)), expected)


def test_a_pickles_own_statistics_are_kept(tmp_path):
    state = made_up()
    (tmp_path / "some.pkl").write_bytes(pickle.dumps(caffe2_blobs(state, statistics=True)))
    read = read_backbone_weights(tmp_path / "some.pkl", "caffe")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


def test_weights_with_group_norm(tmp_path):
    state = made_up("group")
    torch.save({name.replace("bn", "gn"): tensor for name, tensor in state.items()}, tmp_path / "some.pth")
    (tmp_path / "some.pkl").write_bytes(pickle.dumps(caffe2_blobs(state, "gn")))
    group = {"base_channels": 32, "norm": "group"}
    expected = features("mmdet", from_file(tmp_path / "some.pth", "caffe", **group))
    for framework in FRAMEWORKS:
        for name in ("some.pth", "some.pkl"):
            assert_same(features(framework, from_file(tmp_path / name, "caffe", **group)), expected)
    torch.save(made_up(), tmp_path / "batch.pth")
    with pytest.raises(InputError, match=r"bn1\.running_mean: no place in the backbone small \(and 105 more\)"):
        features("mmdet", from_file(tmp_path / "batch.pth", **group))


@pytest.mark.parametrize(
    ("name", "translated"),
    [
        ("res_conv1_bn_s", "bn1.weight"),
        ("conv1_gn_b", "bn1.bias"),
        ("res2_0_branch2a_bn_gamma", "layer1.0.bn1.weight"),
        ("res4_22_branch2c_bn_beta", "layer3.22.bn3.bias"),
        ("res5_0_branch1_bn_running_var", "layer4.0.downsample.1.running_var"),
        ("res3_1_branch2b_bn_running_mean", "layer2.1.bn2.running_mean"),
        ("pred_w", ""),
        ("res2_0_branch2a_bn_s_momentum", ""),
        ("res2_0_branch2d_w", None),
        ("conv_rpn_w", None),
    ],
)
def test_names_of_caffe2(name, translated):
    assert torchvision_name_of(name) == translated


def test_weights_that_do_not_fit_are_refused_in_one_line(framework, tmp_path):
    state, path = made_up(), tmp_path / "weights.pth"
    missing = {name: tensor for name, tensor in state.items() if not name.startswith("layer2.0.downsample.1.")}
    before = build(framework, small(base_channels=32), **TRAINING).state_dict()
    for given, complaint in [
        (missing, r"layer2\.0\.downsample\.1\.\w+: missing \(and 3 more\)"),
        (state | {"conv1.weight": torch.zeros(8, 3, 7, 7)}, r"conv1\.weight: not the right shape: \[8, 3, 7, 7\], the"),
        (
            state | {"layer5.0.conv1.weight": torch.zeros(1)},
            r"layer5\.0\.conv1\.weight: no place in the backbone small",
        ),
        (state | {"conv1.bias": torch.zeros(32)}, r"conv1\.bias: no place"),
        (state | {"epoch": 3}, r"epoch: a int; a tensor is expected"),
        ([state], "holds a list; a state dict is expected"),
    ]:
        torch.save(given, path)
        part = build(framework, from_file(path, base_channels=32), **TRAINING)
        with pytest.raises(InputError, match=complaint) as caught:
            part.load()
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        assert all(torch.equal(tensor, before[name]) for name, tensor in part.state_dict().items()), "nothing is loaded"
    backbone = from_file(path, base_channels=32)
    wrong = backbone.model_copy(update={"weights": backbone.weights.model_copy(update={"sha256": "0" * 64})})
    with pytest.raises(InputError, match=f"has SHA-256 {sha256_of(path)}, expected 0000"):
        build(framework, wrong, **TRAINING).load()


class Calls:
    """Calls something of Python's when it is unpickled without care."""

    def __init__(self, function, *arguments) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def test_a_file_that_runs_code_is_refused_and_does_not_run(tmp_path):
    mark = tmp_path / "ran"
    (tmp_path / "some.pkl").write_bytes(pickle.dumps({"conv1_w": Calls(Path.touch, mark)}))
    torch.save({"conv1.weight": Calls(Path.touch, mark)}, tmp_path / "some.pth")
    for name, complaint in (("some.pkl", "not read as a pickle"), ("some.pth", "not read: no file")):
        with pytest.raises(InputError, match=f"{name}: {complaint}") as caught:
            read_backbone_weights(tmp_path / name, "caffe")
        assert "\n" not in str(caught.value)
        assert not mark.exists()
    pickle.loads((tmp_path / "some.pkl").read_bytes())  # noqa: S301 (shows that the file would have run)
    assert mark.exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"conv1_w": Calls(eval, "1")}, "it asks for builtins.eval"),
        ({"conv1_w": Calls(np.load, "x.npy")}, "it asks for numpy.load"),
        ({"conv1_w": Calls(getattr, "text", "upper")}, "it asks for builtins.getattr"),
        ({"conv1_w": np.array([object()])}, "it asks for builtins.object"),
        ({"conv1_w": np.array(["text"], dtype=object)}, "conv1_w: not an array of floating-point numbers"),
        ({"conv1_w": [1.0]}, "conv1_w: not an array of floating-point numbers"),
        ({"conv_rpn_w": np.ones(1)}, "conv_rpn_w: no tensor of a residual network"),
        ({"conv1_gn_s": np.ones(1), "res_conv1_bn_s": np.ones(1)}, "the file has bn1.weight twice"),
        ([1], "holds a list; a dictionary of arrays is expected"),
    ],
)
def test_a_pickle_of_something_else_is_refused(content, complaint, tmp_path):
    path = tmp_path / "some.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=complaint) as caught:
        read_caffe_pickle(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"\x80\x02(X", b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04"]
)
@pytest.mark.parametrize("name", ["some.pkl", "some.pth"])
def test_a_damaged_file_is_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: not read") as caught:
        read_backbone_weights(tmp_path / name, "caffe")
    assert "\n" not in str(caught.value)


def test_the_codec_of_old_pickles_is_latin1_alone(tmp_path):
    (tmp_path / "some.pkl").write_bytes(pickle.dumps({"conv1_w": Calls(__import__("_codecs").encode, "a", "rot13")}))
    with pytest.raises(InputError, match="it asks for the codec 'rot13'"):
        read_caffe_pickle(tmp_path / "some.pkl")


def test_only_names_of_backbones_have_torchvisions():
    assert torchvision_name("backbone.stage2.0.shortcut.norm.bias") == "layer2.0.downsample.1.bias"
    with pytest.raises(ValueError, match="no tensor of a backbone"):
        torchvision_name("neck.lateral2.weight")
