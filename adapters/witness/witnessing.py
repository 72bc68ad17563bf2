"""A run's witness: everything once."""

from typing import Any

from adapters.contract import Adapter
from adapters.inspection.control_rows import undisturbed
from adapters.inspection.probe_inputs import drawn_order
from adapters.training.assembly import Built
from adapters.witness.double_precision import double_precision
from adapters.witness.fixtures import fix_weights, like, saved_records
from adapters.witness.heads import head_quantities, loss_quantities
from adapters.witness.initial_numbers import initial_quantities
from adapters.witness.later_rois import passing_quantities
from adapters.witness.pictures import order_quantities, picture_quantities
from adapters.witness.subject import Subject
from adapters.witness.test_pass import test_quantities
from adapters.witness.training_step import step_quantities
from adapters.witness.updates import update_quantities
from cascadebench.controls.witness import Quantity


def witness(adapter: Adapter, built: Built) -> list[Quantity]:
    """Let what was built do each of its things once.

    Afterwards the objects are spent: the model has other weights and is in double precision, the engine has trained
    three steps. What the framework draws from at random is as it was.

    Returns
    -------
    list of Quantity
        In the order of the steps; the same bytes for the same run on the same machine.
    """
    run, subject = built.run, Subject(built, adapter.witnessed, adapter.common_names(built.run))
    built.loader.num_workers = 0
    with saved_records(len(run.dataset.categories)) as records, undisturbed(built.model):
        built.dataset.records = [like(records[one.width < one.height], one) for one in built.dataset.records]
        noted = [*initial_quantities(subject), *order_quantities(built, drawn_order(run))]
        noted += picture_quantities(subject, records)
        built.model.double()
        fix_weights(subject)
        noted += update_quantities(subject)
        with double_precision():
            fix_weights(subject)
            noted += step_quantities(subject, records)
            noted += head_quantities(subject)
            noted += loss_quantities(subject)
            noted += passing_quantities(subject)
            noted += test_quantities(adapter, subject, records[0])
    return noted


def as_entries(noted: list[Quantity]) -> list[dict[str, Any]]:
    """Quantities as ``witness.json`` has them; what nobody wants is left out."""
    return [quantity.model_dump(exclude_none=True) | {"value": quantity.value} for quantity in noted]
