"""One sampler of anchors and RoIs for all frameworks: from equal candidates all of them train on the same ones.

It draws by NumPy on the CPU, for every image of a step and every sampler of a model by itself. So the framework, the
device, and how a step is divided into passes or among processes have no part in what is drawn.
"""

from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapters.training.seeding import seed_torch
from cascadebench.determinism.training_order import sampling_seed

RPN, REGRESSION, FIRST_STAGE = 0, 1, 2
"""Numbers of a model's samplers, the same in every framework; those of later stages follow that of the first."""


def draw(positive: Tensor, negative: Tensor, number: int, positive_fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Draw positives up to their share, then negatives up to the number; all of either where there are not enough.

    Parameters
    ----------
    positive, negative : Tensor, bool [N]
        What every candidate of an image is; one that is neither is not drawn. Their order is part of the draw: anchors
        level by level from the finest, row by row, by aspect ratio; proposals by falling score, then the ground truth
        that joins them.
    number : int
        Greatest number of candidates to draw, 1 or more.
    positive_fraction : float
        Greatest share of positives in that number, 0 to 1.
    seed : int
        Of this image and sampler, 0 or more (:func:`cascadebench.determinism.training_order.sampling_seed`).

    Returns
    -------
    positives, negatives : Tensor, int64
        Places of those drawn, rising, on the device of the candidates.

    Example
    -------
    >>> positive = torch.tensor([True, False, False, True])
    >>> [places.tolist() for places in draw(positive, ~positive, number=8, positive_fraction=0.5, seed=0)]
    [[0, 3], [1, 2]]
    """
    random = np.random.default_rng(seed)
    kinds = torch.stack([positive, negative]).cpu().numpy()  # the only wait for the device
    positives = _some(kinds[0], int(number * positive_fraction), random)
    negatives = _some(kinds[1], number - len(positives), random)
    return tuple(torch.from_numpy(places).to(positive.device) for places in (positives, negatives))


def _some(candidate: np.ndarray, number: int, random: np.random.Generator) -> np.ndarray:
    """Places of so many candidates; of few among many NumPy draws without touching the others."""
    places = np.flatnonzero(candidate)
    if len(places) <= number:
        return places
    return places[np.sort(random.choice(len(places), number, replace=False, shuffle=False))]


class ImageSampling:
    """Seeds of the sampling in one process.

    Parameters
    ----------
    seed : int
        The run's.
    first_column : int
        Place of this process's first image in the batch of a step.
    """

    def __init__(self, seed: int, first_column: int) -> None:
        self.seed, self.first_column = seed, first_column
        self.begin(0)

    def begin(self, iteration: int) -> None:
        """Begin a step: what is sampled next is its first image, whatever samples it."""
        self.iteration, self._sampled = iteration, Counter()

    def govern(self, owner: Any, method: str, sampler: int) -> None:
        """Let a method that is called for one image after another sample each by that image's own seed.

        Parameters
        ----------
        owner : object
            It gets a method of its own in place of its class's; nothing happens where it has one already. Its
            ``image_seed`` is set for :func:`draw`; where that is None or missing, the framework's own sampler draws,
            and torch is seeded.
        sampler : int
            Number of the sampler: :data:`RPN`, :data:`REGRESSION`, :data:`FIRST_STAGE` or above.
        """
        if method in vars(owner):
            return
        sample: Callable = getattr(owner, method)

        @wraps(sample)
        def sample_image(*arguments: Any, **named: Any) -> Any:
            column = self.first_column + self._sampled[sampler]
            self._sampled[sampler] += 1
            seed = sampling_seed(self.seed, self.iteration, column, sampler)
            if getattr(owner, "image_seed", None) is None:
                seed_torch(seed)
            else:
                owner.image_seed = seed
            return sample(*arguments, **named)

        setattr(owner, method, sample_image)
