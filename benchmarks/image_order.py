"""Which images a training reads in which order: the adapter's, for the plain framework beside it.

Images of other shapes cost more than the harness does, so both sides have to read the same ones.
"""

from collections.abc import Iterator
from pathlib import Path

from torch.utils.data import Sampler

from cascadebench.datasets.prepared import load_split, trainable
from cascadebench.determinism.training_order import training_order
from cascadebench.study.run import Run


class ImageOrder(Sampler[int]):
    """Places in the list of training images, step after step."""

    def __init__(self, run: Run, data: Path) -> None:
        records = trainable(load_split(data, "train"))
        self.places = training_order(records, run.protocol, run.seed).images.ravel().tolist()

    def __iter__(self) -> Iterator[int]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)
