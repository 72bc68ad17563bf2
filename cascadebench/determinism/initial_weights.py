"""Common random numbers for weights: every part of a detector starts from the same numbers in every framework.

Adapters translate their framework's names into the common ones below. A tensor is drawn from the run's seed and its
common name alone, so variants share the weights of the parts that they share.

Common names: ``backbone.stem.conv.weight``, ``backbone.stage1.0.conv1.weight``,
``backbone.stage1.0.norm1.running_var``, ``backbone.stage2.0.shortcut.conv.weight``,
``backbone.stage2.0.shortcut.norm.bias``, ``neck.lateral2.weight`` (from residual stage 1, the finest) to
``neck.lateral5``, ``neck.output2.bias`` to ``neck.output5``, ``rpn.conv.weight``, ``rpn.objectness.weight``,
``rpn.deltas.weight``, and for every head, from 1: ``heads.1.fc1.weight``, ``heads.1.fc2.bias``,
``heads.1.classifier.weight`` (background last), ``heads.1.regressor.weight``. Layers of one task alone are
``heads.1.classification.fc1.weight`` and ``heads.1.regression.fc1.weight``, or the residual convolutions
``heads.1.regression.block0.conv1.weight``, ``.block0.norm1.weight``, ``.block0.shortcut.conv.weight`` to ``.block4``.
What FSCascade adds is ``heads.2.embedding.weight`` and ``heads.2.reduction.weight``. A mask branch has
``heads.1.mask.conv1.weight`` to ``.conv4``, ``heads.1.mask.deconv.weight`` and ``heads.1.mask.predictor.weight``.
What a variant from outside the project adds has names of its own, such as ``variant.gate.weight``.
"""

import math
import re
import zlib

import numpy as np

from cascadebench.study.run import Run

OWN_NAMES = "variant."
"""What the common names of the layers begin with that a variant adds and names itself."""
_WEIGHTS = 4  # stream of the run's seed; see cascadebench.determinism.training_order for the others


def initial_tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Draw one tensor, float32.

    Residual convolutions and those of mask branches: normal, variance 2 / fan-out (He). Pyramid and fully connected
    layers: uniform, variance 1 / fan-in (Caffe2's Xavier). RPN and classifiers: normal, deviation 0.01; box regressors
    and mask predictors: 0.001. Biases 0; norms start as the identity, embeddings at zero, reductions as the mean of
    what they reduce. Layers that a variant names itself: uniform, variance 1 / fan-in, and vectors 1.

    `shape` has the outputs first, as PyTorch stores weights; `seed` is the run's. ValueError: `name` is none of the
    common ones.
    """
    if re.search(r"\bnorm\d*\.(weight|running_var)$", name):
        return np.ones(shape, dtype=np.float32)
    if re.search(r"\bnorm\d*\.(bias|running_mean)$", name) or name.endswith((".bias", ".embedding.weight")):
        return np.zeros(shape, dtype=np.float32)
    if name.endswith(".reduction.weight"):
        parts = shape[1] // shape[0]
        return np.tile(np.eye(shape[0], dtype=np.float32), parts) / np.float32(parts)
    random = _random(name, seed)
    residual = r"(backbone\..*|heads\.\d+\.regression\.block\d\..*)conv\d*\.weight"
    if re.fullmatch(residual, name) or re.fullmatch(r"heads\.\d+\.mask\.(conv\d|deconv)\.weight", name):
        # The deconvolution has inputs first, and as many of them as outputs.
        return _normal(random, shape, math.sqrt(2 / (shape[0] * math.prod(shape[2:]))))
    if re.fullmatch(r"neck\..*\.weight|heads\.\d+\.((classification|regression)\.)?fc\d\.weight", name):
        return _uniform(random, shape, math.sqrt(3 / math.prod(shape[1:])))
    if re.fullmatch(r"rpn\..*\.weight|heads\.\d+\.classifier\.weight", name):
        return _normal(random, shape, 0.01)
    if re.fullmatch(r"heads\.\d+\.(regressor|mask\.predictor)\.weight", name):
        return _normal(random, shape, 0.001)
    if name.startswith(OWN_NAMES):
        vector = len(shape) < 2
        return np.ones(shape, np.float32) if vector else _uniform(random, shape, math.sqrt(3 / math.prod(shape[1:])))
    raise ValueError(f"no common name of a weight: {name!r}")


def drawn_as_pytorch(run: Run, name: str) -> bool:
    """Whether a tensor starts as PyTorch draws a linear layer: in Decoupled R-CNN's later stages, if so chosen."""
    return run.variant.options.get("later_weights") == "pytorch" and bool(
        re.fullmatch(r"heads\.[2-9]\.(regression|classification)\.fc\d\.(weight|bias)", name)
    )


def pytorch_tensor(name: str, shape: tuple[int, ...], fan_in: int, seed: int) -> np.ndarray:
    """Draw a weight or a bias of a linear layer as PyTorch does, uniform with bound 1 / sqrt(fan-in); float32."""
    return _uniform(_random(name, seed), shape, 1 / math.sqrt(fan_in))


def _random(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, _WEIGHTS, zlib.crc32(name.encode())])


def _uniform(random: np.random.Generator, shape: tuple[int, ...], bound: float) -> np.ndarray:
    """Uniform numbers between minus and plus `bound`, float32."""
    return (random.random(shape, dtype=np.float32) * 2 - 1) * np.float32(bound)


def _normal(random: np.random.Generator, shape: tuple[int, ...], deviation: float) -> np.ndarray:
    """Normal numbers of mean 0, float32."""
    return random.standard_normal(shape, dtype=np.float32) * np.float32(deviation)
