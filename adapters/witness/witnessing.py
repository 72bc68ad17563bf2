"""A run's witness: everything once."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from adapters.contract import Adapter
from adapters.inspection.control_rows import Control, undisturbed
from adapters.inspection.probe_inputs import drawn_order
from adapters.training.assembly import Built
from adapters.witness.detecting import detection_quantities
from adapters.witness.double_precision import double_precision
from adapters.witness.fixtures import fix_weights, like, saved_records
from adapters.witness.heads import head_quantities, loss_quantities
from adapters.witness.initial_numbers import initial_quantities
from adapters.witness.later_rois import passing_quantities
from adapters.witness.pictures import order_quantities, picture_quantities
from adapters.witness.subject import Subject
from adapters.witness.training_step import step_quantities
from adapters.witness.updates import update_quantities
from cascadebench.controls.witness import OF_THE_SEED, Quantity
from cascadebench.core.files import canonical_json
from cascadebench.datasets.prepared import ImageRecord


def witness(adapter: Adapter, built: Built, controls: Sequence[Control]) -> list[Quantity]:
    """Let what was built do each of its things once.

    Afterwards the objects are spent: the model has other weights and is in double precision, the engine has trained
    three steps. What the frameworks draw from at random is as it was.

    Parameters
    ----------
    controls : sequence of Control
        What was read back from the same objects.

    Returns
    -------
    list of Quantity
        The same for the same run on the same machine, to the bit.
    """
    subject = Subject(adapter, built, {control.name: control.value for control in controls})
    with prepared(subject) as records:
        return [*of_the_seed(subject, records), *of_the_detector(subject, records)]


def witness_at_inspection(adapter: Adapter, built: Built, controls: Sequence[Control]) -> list[Quantity]:
    """The same, but what begins from fixed weights is done once in a process for all seeds of a detector."""
    subject = Subject(adapter, built, {control.name: control.value for control in controls})
    decides = built.run.identity()
    del decides["seed"]
    shared = _of_detectors(canonical_json(decides))
    with prepared(subject) as records:
        own = list(of_the_seed(subject, records))
        if not shared:
            done = list(of_the_detector(subject, records))
            shared.extend(quantity for quantity in done if quantity.step not in OF_THE_SEED)
            return own + done
    return own + shared


@functools.cache
def _of_detectors(detector: str) -> list[Quantity]:
    """A place for what a detector did, whatever its seed."""
    return []


@contextmanager
def prepared(subject: Subject) -> Iterator[list[ImageRecord]]:
    """Save the fixed pictures, and let the training read them while the block runs."""
    built = subject.built
    built.loader.num_workers = 0
    with saved_records(len(built.run.dataset.categories)) as records, undisturbed(built.model):
        built.dataset.records = [like(records[one.width < one.height], one) for one in built.dataset.records]
        yield records


def of_the_seed(subject: Subject, records: list[ImageRecord]) -> Iterator[Quantity]:
    """What comes from the run's seed: initial numbers, order, and the pictures that stand at its beginning."""
    yield from initial_quantities(subject)
    yield from order_quantities(subject.built, drawn_order(subject.built.run))
    yield from picture_quantities(subject, records)


def of_the_detector(subject: Subject, records: list[ImageRecord]) -> Iterator[Quantity]:
    """What the detector does from fixed weights: three updates, a training step, its heads by themselves, a test."""
    subject.built.model.double().train()
    fix_weights(subject)
    yield from update_quantities(subject)
    with double_precision():
        fix_weights(subject)
        yield from step_quantities(subject, records)
        yield from head_quantities(subject)
        yield from loss_quantities(subject)
        yield from passing_quantities(subject)
        yield from detection_quantities(subject, records[0])


def as_entries(noted: list[Quantity]) -> list[dict[str, Any]]:
    """Quantities as ``witness.json`` has them; what nobody wants is left out."""
    return [quantity.model_dump(exclude_none=True) | {"value": quantity.value} for quantity in noted]
