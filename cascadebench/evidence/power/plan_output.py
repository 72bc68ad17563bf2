"""What a study decides, as ``cascadebench plan`` prints it."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from cascadebench.evidence.claims import SourcedClaim
from cascadebench.evidence.power.planned import FEWEST, SEEDS, PlannedQuestion
from cascadebench.study.study import Study


def shown_seeds(study: Study) -> list[int]:
    """Numbers of seeds that effects are given for, the study's own first."""
    own = len(study.file.seeds)
    return [own, *(number for number in SEEDS if number != own)]


def print_effects(study: Study, questions: Sequence[PlannedQuestion], console: Console) -> None:
    """Print for every claim the least effect that the study decides, by the number of seeds; nothing without claims."""
    if not questions:
        return
    seeds = shown_seeds(study)
    family = next((one.design.questions for one in questions if one.design), 0)
    title = f"Effects that this study decides with 80%, each among its {family} sampled questions"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("claim", "asked in", "holds if"):
        table.add_column(heading, no_wrap=True)
    for number in seeds:
        table.add_column(f"{number} seed{'s' if number > 1 else ''}", justify="right", no_wrap=True)
    table.add_column("scatter", justify="right", no_wrap=True)
    sources = list(dict.fromkeys(one.source for one in questions))
    rows: dict[tuple[str, ...], list[str]] = {}
    for one in questions:
        effects = one.effects(seeds)
        cells = [_effect(one.claim, effects[number]) if effects else "" for number in seeds]
        row = (one.claim.id, _condition(one.claim), *cells, f"[{sources.index(one.source) + 1}]")
        rows.setdefault(row, []).append(one.framework)
    for (name, condition, *cells), frameworks in rows.items():
        row = [name, ", ".join(dict.fromkeys(frameworks)), condition, *cells]
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    console.print()
    console.print(table)
    console.print()
    for line in (*_legend(questions, seeds), *(f"[{place}] {text}" for place, text in enumerate(sources, start=1))):
        console.print(line.replace("\n", "\n    "), markup=False, highlight=False)


def _legend(questions: Sequence[PlannedQuestion], seeds: Sequence[int]) -> list[str]:
    lines = ["An effect is the distance of the true quantity from the threshold, of AP and recall in points."]
    if any(one.claim.margin for one in questions):
        lines.append(
            "margin: the least within which it is decided if the true difference is zero; *: more than the claim "
            "allows, so that it will probably be inconclusive even if it is true."
        )
    if seeds[0] < FEWEST:
        lines.append(f"One seed decides nothing, whatever the effect: verdicts need {FEWEST} seeds or more.")
    return lines


def _effect(claim: SourcedClaim, effect: float) -> str:
    """An effect, or a margin with a mark if it is more than the claim has."""
    if math.isinf(effect):
        return "none"
    if claim.margin is None:
        return _written(claim, effect)
    return f"margin {_written(claim, effect)}{'*' if effect > claim.margin else ''}"


def _condition(claim: SourcedClaim) -> str:
    """When a claim holds, in short."""
    if claim.margin is None:
        return f"{claim.asks} than {_written(claim, claim.than)}"
    around = f"{1 if claim.divided_by else 0}"
    return f"{claim.asks} than {around}, margin {_written(claim, claim.margin)}".replace("equal than", "equal to")


def _written(claim: SourcedClaim, value: float) -> str:
    """A value in points, or as it is."""
    return f"{100 * value:.3g}" if claim.unit == "fraction" else f"{value:.3g}"
