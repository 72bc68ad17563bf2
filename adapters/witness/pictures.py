"""One item of the training as it is read, mirrored and not, and one of the test; and the whole order."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adapters.data.training_dataset import TrainingDataset
from adapters.training.assembly import Built
from adapters.witness.framework import Item
from adapters.witness.quantities import bytes_digest, plain
from adapters.witness.subject import Subject
from cascadebench.controls.witness import Quantity
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.determinism.training_order import TrainingOrder, resized_shape

TRIED = 64
"""Items among which a mirrored and an unmirrored one are looked for."""


def picture_quantities(subject: Subject, records: Sequence[ImageRecord]) -> Iterator[Quantity]:
    """Read items of the training in the sizes of the protocol, and one picture for testing."""
    run, dataset = subject.built.run, subject.built.dataset
    for flip, position in _positions(dataset).items():
        _, _, short_side = dataset.planned(position)
        record = dataset.records[int(dataset.order.images.flat[position])]
        expected = read_plainly(record, short_side, run.protocol.input.max_long_side, flip)
        item = subject.framework.item_fields(run, dataset[position])
        name = "mirrored" if flip else "as it is"
        yield from _of_item("training pictures", name, item, expected if subject.aligned else None)
    sizes = run.protocol.input
    expected = Item(read_plainly(records[0], sizes.test_short_side, sizes.max_long_side, False).pixels)
    tested = Item(subject.framework.item_fields(run, subject.built.reader.test_image(records[0])).pixels)
    yield from _of_item("test picture", "", tested, expected if subject.aligned else None)


def _positions(dataset: TrainingDataset) -> dict[bool, int]:
    """The first item that is mirrored, and the first that is not."""
    positions: dict[bool, int] = {}
    for position in range(min(TRIED, len(dataset))):
        positions.setdefault(dataset.planned(position)[1], position)
    return positions


def read_plainly(record: ImageRecord, short_side: int, max_long_side: int, flip: bool) -> Item:
    """Read, resize and mirror a picture with Pillow alone, and its boxes by the rule of three."""
    width, height = resized_shape(record.width, record.height, short_side, max_long_side)
    with Image.open(record.path) as picture:
        pixels = np.asarray(picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
    boxes = record.boxes.astype(np.float64) * (np.array([width, height] * 2) / ([record.width, record.height] * 2))
    if flip:
        pixels, boxes = (
            pixels[:, ::-1],
            np.column_stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]]),
        )
    pixels = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    return Item(pixels, torch.from_numpy(boxes), torch.from_numpy(record.labels))


def _of_item(step: str, name: str, item: Item, expected: Item | None) -> Iterator[Quantity]:
    for part, note in (("pixels", bytes_digest), ("boxes", Tensor.tolist), ("labels", Tensor.tolist)):
        given, plainly = getattr(item, part), getattr(expected, part, None)
        if given is not None:
            wanted = None if plainly is None else note(plainly)
            yield Quantity(step=step, name=f"{part} {name}".strip(), value=note(given), wanted=wanted)
    if item.masks is not None:
        yield Quantity(step=step, name=f"masks {name}", value=bytes_digest(item.masks.to(torch.uint8)))


def order_quantities(built: Built, whole: TrainingOrder) -> Iterator[Quantity]:
    """Digest every image, flip and size of the schedule, and what the dataset would read of the first thousand."""
    order = built.dataset.order
    for part in ("images", "flips", "short_sides"):
        given, drawn = (bytes_digest(torch.from_numpy(getattr(one, part))) for one in (order, whole))
        yield Quantity(step="order", name=part.replace("_", " "), value=given, wanted=drawn)
    items = plain([built.dataset.planned(position) for position in range(min(TRIED, order.images.size))])
    yield Quantity(step="order", name=f"first {len(items)} items", value=items)
    seed = built.session.sampling.seed
    yield Quantity(step="order", name="seed of the sampling", value=seed, wanted=built.run.seed)
