"""What a training really consumed, held against what was planned for it."""

import json
from collections.abc import Sequence

from adapters.training.training_session import TrainingSession
from cascadebench.core.errors import Fault
from cascadebench.core.files import whole_lines
from cascadebench.results.layout import RunFolder


def check_consumed(session: TrainingSession, done: int, planned: Sequence[str]) -> None:
    """Compare the images, flips and sizes of the first `done` steps, as the batches said, with the planned ones.

    Parameters
    ----------
    planned : sequence of str
        The chain after every step (:func:`cascadebench.determinism.training_order.planned_chains`).

    Raises
    ------
    Fault
        At the first iteration that consumed something else; another attempt would end in the same way.
    """
    if not done or session.consumed == planned[done - 1]:
        return
    log = RunFolder(session.out).train_log
    logged = [json.loads(line).get("consumed_sha256") for line in whole_lines(log)]
    pairs = enumerate(zip(logged, planned, strict=False))
    first = next((step for step, (found, wanted) in pairs if found != wanted), done - 1)
    raise Fault(
        f"{log}: from iteration {first} on the images, flips or sizes that were trained on are not the planned ones; "
        f"delete {session.checkpoint.parent} to train anew",
        final=True,
    )
