"""Common random numbers: the images, flips and sizes of every training step, and the seed of every step.

They come from the run's seed alone, so that every variant and every framework sees the same images in the same order
with the same flips, and an interrupted training goes on exactly as if it had never stopped.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cascadebench.datasets.prepared import ImageRecord
from cascadebench.study.protocol import Protocol

_ORDER, _AUGMENTATION, _STEP, _SAMPLING = 1, 2, 3, 4  # independent streams of one seed


@dataclass(frozen=True)
class TrainingOrder:
    """What every step of a training reads."""

    images: np.ndarray
    """int64 [iterations, batch_size]: positions in the list of training records."""
    flips: np.ndarray
    """bool [iterations, batch_size]: whether the image is mirrored left to right."""
    short_sides: np.ndarray
    """int64 [iterations, batch_size]: length to which the shorter side is resized, in pixels."""

    def digest(self) -> str:
        """SHA-256 over the three arrays, 64 hex digits: equal digests mean equal orders."""
        digest = hashlib.sha256()
        for array in (self.images, self.flips, self.short_sides):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def training_order(records: Sequence[ImageRecord], protocol: Protocol, seed: int) -> TrainingOrder:
    """Draw the order of a whole training.

    Every epoch is a new permutation. With aspect-ratio grouping, portrait images (width < height) and the others wait
    in a bucket each and a batch leaves as soon as its bucket is full, so that no image is dropped between epochs.
    """
    schedule = protocol.schedule
    shape = (schedule.iterations, schedule.batch_size)
    portrait = np.array([record.width < record.height for record in records])
    if not protocol.input.aspect_ratio_grouping:
        portrait[:] = False
    images = np.empty(shape, dtype=np.int64)
    buckets: dict[bool, list[int]] = {False: [], True: []}
    filled, epoch = 0, 0
    while filled < schedule.iterations:
        for position in np.random.default_rng([seed, _ORDER, epoch]).permutation(len(records)):
            bucket = buckets[bool(portrait[position])]
            bucket.append(int(position))
            if len(bucket) == schedule.batch_size and filled < schedule.iterations:
                images[filled] = bucket
                bucket.clear()
                filled += 1
        epoch += 1
    random = np.random.default_rng([seed, _AUGMENTATION])
    flips = random.random(shape) < protocol.input.flip_probability
    short_sides = random.choice(np.array(protocol.input.train_short_sides, dtype=np.int64), size=shape)
    return TrainingOrder(images, flips, short_sides)


def resized_shape(width: int, height: int, short_side: int, max_long_side: int) -> tuple[int, int]:
    """Width and height after scaling the shorter side to `short_side`, the longer never above `max_long_side`.

    The ratio is kept and each side is rounded half up, as in both frameworks.
    """
    scale = short_side / min(width, height)
    if max(width, height) * scale > max_long_side:
        scale = max_long_side / max(width, height)
    return int(width * scale + 0.5), int(height * scale + 0.5)


def consumed_chain(before: str, images: Iterable[tuple[int, bool, int]]) -> str:
    """Add one step to the chain over all that a training consumes.

    Parameters
    ----------
    before : str
        The chain up to the step before; empty before the first.
    images : iterable of (int, bool, int)
        Image id, whether it is mirrored, and its shorter side in pixels, in the order of the whole batch.

    Returns
    -------
    str
        64 hex digits: equal chains mean that everything up to here was equal.
    """
    step = "".join(f"{image_id}{'-' if flip else '+'}{side} " for image_id, flip, side in images)
    return hashlib.sha256(f"{before}{step}".encode()).hexdigest()


def planned_chains(records: Sequence[ImageRecord], order: TrainingOrder, max_long_side: int) -> Iterator[str]:
    """Yield the chain after every step of a training that consumes what is planned, and nothing else."""
    chain = ""
    for images, flips, short_sides in zip(order.images, order.flips, order.short_sides, strict=True):
        step = (
            (record.id, flip, min(resized_shape(record.width, record.height, short_side, max_long_side)))
            for record, flip, short_side in zip(
                (records[image] for image in images), flips.tolist(), short_sides.tolist(), strict=True
            )
        )
        chain = consumed_chain(chain, step)
        yield chain


def step_seed(seed: int, iteration: int) -> int:
    """Seed of the random numbers of one training step, 0 <= value < 2**63."""
    return _seed([seed, _STEP, iteration])


def sampling_seed(seed: int, iteration: int, column: int, sampler: int) -> int:
    """Seed with which a sampler of a model samples one image of a step, 0 <= value < 2**63.

    Parameters
    ----------
    column : int
        Place of the image in the batch of the step, over all processes.
    sampler : int
        Number of the sampler in the model.
    """
    return _seed([seed, _SAMPLING, iteration, column, sampler])


def _seed(numbers: list[int]) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
