"""Controls of a learning-rate schedule, from the rates that its built objects gave, iteration by iteration."""

from collections.abc import Iterator, Sequence
from typing import Any


def milestones_and_warmup(rates: Sequence[float], read_from: str) -> Iterator[tuple[str, Any, str]]:
    """Yield the ``schedule.*`` controls as (name, value, read_from).

    Parameters
    ----------
    rates : sequence of float
        Learning rate of every iteration of the schedule.
    """
    peak = max(rates)
    yield "schedule.iterations", len(rates), read_from
    yield "schedule.learning_rate_first", round(rates[0], 12), read_from
    yield "schedule.learning_rate_peak", round(peak, 12), read_from
    yield "schedule.learning_rate_last", round(rates[-1], 12), read_from
    # The frameworks' warm-ups sum in different orders; the last bits are no difference.
    full = next(iteration for iteration, rate in enumerate(rates) if rate >= peak * (1 - 1e-9))
    yield "schedule.warmup_iterations", full, read_from
    drops = [i for i in range(1, len(rates)) if rates[i] < rates[i - 1] * (1 - 1e-6)]
    yield "schedule.milestones", drops, read_from
