"""The plan of a study as a table and as JSON, with its sums."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from cascadebench.execution.plan import (
    BYTES_PER_DETECTION,
    BYTES_PER_ITERATION,
    BYTES_PER_PARAMETER,
    CHECKPOINTS,
    RATES,
    Device,
    Figure,
    RunPlan,
    device_of,
)
from cascadebench.study.study import Study


def totals(plans: Sequence[RunPlan], device: Device) -> dict[str, Any]:
    """Sums over a study of what is known; `..._unknown` counts the runs of which nothing is."""
    return {
        "runs": {state: sum(plan.state == state for plan in plans) for state in ("done", "resumable", "to do")},
        "device": device,
        "hours": _sum(plan.hours for plan in plans),
        "hours_unknown": sum(plan.hours.value is None for plan in plans),
        "megabytes": _sum(plan.megabytes for plan in plans),
        "megabytes_unknown": sum(plan.megabytes.value is None for plan in plans),
    }


def _sum(figures: Iterable[Figure]) -> float:
    return sum(figure.value for figure in figures if figure.value is not None)


def json_of(study: Study, plans: Sequence[RunPlan]) -> dict[str, Any]:
    """The plan as one object, for programs."""
    return {
        "study": study.name,
        "runs": [asdict(plan) for plan in plans],
        "totals": totals(plans, device_of(study)),
        "assumptions": {
            "multiply_adds_per_second": dict(RATES),
            "training_to_inference": 3,
            "checkpoints": CHECKPOINTS,
            "bytes_per_parameter": BYTES_PER_PARAMETER,
            "bytes_per_detection": BYTES_PER_DETECTION,
            "bytes_per_iteration": BYTES_PER_ITERATION,
        },
    }


def print_plan(study: Study, plans: Sequence[RunPlan], console: Console) -> None:
    """Print runs, what each takes, and the sums."""
    device = device_of(study)
    table = Table(title=study.file.title, title_justify="left", box=None, pad_edge=False)
    for heading in ("variant", "framework", "backbone", "seed", "run", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("iterations", f"{device} hours", "MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    sources: list[str] = []
    for plan in plans:
        for figure in (plan.hours, plan.megabytes):
            if figure.source not in sources:
                sources.append(figure.source)
        figures = [f"{_shown(figure)} [{sources.index(figure.source) + 1}]" for figure in (plan.hours, plan.megabytes)]
        done = f"{plan.iterations_done:,} of {plan.iterations:,}"
        row = [plan.label, plan.framework, plan.backbone, str(plan.seed), plan.run, plan.state, done, *figures]
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    console.print(table)
    console.print()
    for number, source in enumerate(sources, start=1):
        console.print(f"[{number}] {source}", markup=False, highlight=False)
    sums = totals(plans, device)
    states = ", ".join(f"{number} {state}" for state, number in sums["runs"].items())
    hours = f"{sums['hours']:,.2f} {device} hours to go" + _and_unknown(sums["hours_unknown"])
    disk = f"{sums['megabytes']:,.0f} MB in the end" + _and_unknown(sums["megabytes_unknown"])
    console.print(f"\n{len(plans)} runs: {states}; {hours}; {disk}", highlight=False)


def _shown(figure: Figure) -> str:
    return "?" if figure.value is None else f"{figure.value:,.2f}"


def _and_unknown(unknown: int) -> str:
    return f" (and {unknown} run(s) of which nothing is known)" if unknown else ""
