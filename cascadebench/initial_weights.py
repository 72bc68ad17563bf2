"""Common random numbers for weights: every part of a detector starts from the same numbers in every framework.

Adapters translate their framework's names into the common ones below. A tensor is drawn from the run's seed and its
common name alone, so variants share the weights of the parts that they share.

Common names: ``backbone.stem.conv.weight``, ``backbone.stage1.0.conv1.weight``,
``backbone.stage1.0.norm1.running_var``, ``backbone.stage2.0.shortcut.conv.weight``,
``backbone.stage2.0.shortcut.norm.bias``, ``neck.lateral2.weight`` (from residual stage 1, the finest) to
``neck.lateral5``, ``neck.output2.bias`` to ``neck.output5``, ``rpn.conv.weight``, ``rpn.objectness.weight``,
``rpn.deltas.weight``, and for every head, from 1: ``heads.1.fc1.weight``, ``heads.1.fc2.bias``,
``heads.1.classifier.weight`` (background last), ``heads.1.regressor.weight``.
"""

import math
import re
import zlib

import numpy as np

_WEIGHTS = 4  # stream of the run's seed; see cascadebench.training_order for the others


def initial_tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Draw one tensor.

    Residual convolutions: normal, variance 2 / fan-out (He). Pyramid and fully connected layers: uniform, variance
    1 / fan-in (Caffe2's Xavier). RPN and classifiers: normal, deviation 0.01; box regressors of heads: 0.001. Biases 0;
    norms start as the identity.

    Parameters
    ----------
    name : str
        Common name.
    shape : tuple of int
        Outputs first, as PyTorch stores weights.
    seed : int
        The run's seed.

    Returns
    -------
    ndarray, float32

    Raises
    ------
    ValueError
        If the name is none of the common ones.
    """
    if re.search(r"\bnorm\d*\.(weight|running_var)$", name):
        return np.ones(shape, dtype=np.float32)
    if re.search(r"\bnorm\d*\.(bias|running_mean)$", name) or name.endswith(".bias"):
        return np.zeros(shape, dtype=np.float32)
    random = np.random.default_rng([seed, _WEIGHTS, zlib.crc32(name.encode())])
    if re.fullmatch(r"backbone\..*conv\d*\.weight", name):
        return _normal(random, shape, math.sqrt(2 / (shape[0] * math.prod(shape[2:]))))
    if re.fullmatch(r"neck\..*\.weight|heads\.\d+\.fc\d\.weight", name):
        bound = math.sqrt(3 / math.prod(shape[1:]))
        return (random.random(shape, dtype=np.float32) * 2 - 1) * np.float32(bound)
    if re.fullmatch(r"rpn\..*\.weight|heads\.\d+\.classifier\.weight", name):
        return _normal(random, shape, 0.01)
    if re.fullmatch(r"heads\.\d+\.regressor\.weight", name):
        return _normal(random, shape, 0.001)
    raise ValueError(f"no common name of a weight: {name!r}")


def _normal(random: np.random.Generator, shape: tuple[int, ...], deviation: float) -> np.ndarray:
    """Normal numbers of mean 0, float32."""
    return random.standard_normal(shape, dtype=np.float32) * np.float32(deviation)
