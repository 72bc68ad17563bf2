"""Detectron's pickles of Caffe weights, read without running code, under torchvision's names.

Such a file (``R-50.pkl``) holds a dictionary of numpy arrays with Caffe2's names. A pickle may call anything that it
names while it is read; this reader knows the few names that arrays need and refuses every other.
"""

import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from cascadebench.core.errors import InputError

NORM_TENSORS = {
    "s": "weight", "gamma": "weight", "b": "bias", "beta": "bias", "rm": "running_mean", "riv": "running_var",
    "running_mean": "running_mean", "running_var": "running_var",
}  # fmt: skip
_OF_NORM = "|".join(NORM_TENSORS)
_CONVOLUTIONS = {"1": "downsample.0", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
_NORMS = {"1": "downsample.1", "2a": "bn1", "2b": "bn2", "2c": "bn3"}


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """Stand in for the codec by which Python 3 writes bytes into old pickles."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the codec {encoding!r}")
    return text.encode("latin1")


class ArrayUnpickler(pickle.Unpickler):
    """Reads dictionaries, lists, strings, numbers and numpy arrays; nothing else can be named."""

    _ARRAY = np.ndarray((0,)).__reduce__()[0]
    _ARRAY_OF_BUFFER = np.zeros(1).__reduce_ex__(5)[0]
    ALLOWED = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): _ARRAY,
        ("numpy._core.multiarray", "_reconstruct"): _ARRAY,
        ("numpy.core.numeric", "_frombuffer"): _ARRAY_OF_BUFFER,
        ("numpy._core.numeric", "_frombuffer"): _ARRAY_OF_BUFFER,
        ("_codecs", "encode"): _latin1_bytes,
        ("collections", "OrderedDict"): OrderedDict,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return what the pickle names, if it is allowed."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no part of an array")
        return self.ALLOWED[module, name]


def read_caffe_pickle(path: Path) -> dict[str, np.ndarray]:
    """Read the weights of a residual network.

    Parameters
    ----------
    path : Path
        A pickled dictionary of arrays, bare or under the key ``model`` or ``blobs``.

    Returns
    -------
    dict of str to ndarray
        By torchvision's names; a batch norm of which the file has only scale and bias has mean 0 and variance 1. The
        bias of the stem's convolution is left out, as both frameworks do, and so is the classifier.

    Raises
    ------
    InputError
        If the file is no such pickle, asks for code, or holds a name that no residual network has.
    """
    given: dict[str, np.ndarray] = {}
    batch_norms = set()
    for name, value in read_arrays(path).items():
        translated = torchvision_name_of(str(name))
        if translated == "":
            continue
        if translated is None:
            raise InputError(f"{path}: {name}: no tensor of a residual network")
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            raise InputError(f"{path}: {name}: not an array of floating-point numbers")
        if translated in given:
            raise InputError(f"{path}: {name}: the file has {translated} twice")
        given[translated] = value
        if "_bn_" in name:
            batch_norms.add(translated.rpartition(".")[0])
    for norm in sorted(batch_norms):
        for statistic, number in (("running_mean", 0), ("running_var", 1)):
            if f"{norm}.weight" in given:
                given.setdefault(f"{norm}.{statistic}", np.full_like(given[f"{norm}.weight"], number))
    return given


def first_line(error: Exception) -> str:
    """First line of what an exception says, else its name."""
    return (str(error) or type(error).__name__).splitlines()[0]


def read_arrays(path: Path) -> dict[str, Any]:
    """Unpickle a dictionary of arrays, bare or under ``model`` or ``blobs``; raises InputError if it is none."""
    try:
        with path.open("rb") as file:
            content = ArrayUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise InputError(f"{path}: not read as a pickle of arrays: {first_line(error)}") from error
    for key in ("model", "blobs"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}; a dictionary of arrays is expected")
    return content


def torchvision_name_of(name: str) -> str | None:
    """Translate ``res2_0_branch2a_bn_s`` into ``layer1.0.bn1.weight``; empty for what is left out, None if unknown."""
    if name.endswith("_momentum") or re.fullmatch(r"(fc1000|pred)_[wb]|conv1_b", name):
        return ""
    if name == "conv1_w":
        return "conv1.weight"
    if found := re.fullmatch(rf"(?:res_)?conv1_[bg]n_({_OF_NORM})", name):
        return f"bn1.{NORM_TENSORS[found[1]]}"
    if found := re.fullmatch(r"res(\d)_(\d+)_branch(1|2[abc])_w", name):
        return f"layer{int(found[1]) - 1}.{found[2]}.{_CONVOLUTIONS[found[3]]}.weight"
    if found := re.fullmatch(rf"res(\d)_(\d+)_branch(1|2[abc])_[bg]n_({_OF_NORM})", name):
        return f"layer{int(found[1]) - 1}.{found[2]}.{_NORMS[found[3]]}.{NORM_TENSORS[found[4]]}"
    return None
