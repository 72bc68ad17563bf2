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
from adapters.witness.pictures import order_quantities, picture_quantities
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
    common_name, run = adapter.common_names(built.run), built.run
    built.loader.num_workers = 0
    with saved_records(len(run.dataset.categories)) as records, undisturbed(built.model):
        planned = built.dataset.records
        built.dataset.records = [like(records[one.width < one.height], one) for one in planned]
        noted = [*initial_quantities(adapter, built), *order_quantities(built, drawn_order(run))]
        noted += picture_quantities(built, records, adapter.witnessed.item_fields)
        with double_precision():
            built.model.double()
            noted += update_quantities(built, common_name)
            fix_weights(built.model, common_name, run)
            noted += step_quantities(adapter, built, records)
            noted += head_quantities(adapter, built)
            noted += loss_quantities(adapter, built)
            noted += test_quantities(adapter, built, records[0])
    return noted


def as_entries(noted: list[Quantity]) -> list[dict[str, Any]]:
    """Quantities as ``witness.json`` has them; what nobody wants is left out."""
    return [quantity.model_dump(exclude_none=True) | {"value": quantity.value} for quantity in noted]
