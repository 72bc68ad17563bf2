"""The audit on the terminal, or in a log: what is wrong first, every value with the place that it was read from."""

import json
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cascadebench.controls.audit import Audit, Finding, FindingKind, grouped

TITLES: dict[FindingKind, str] = {
    "violation": "Violations",
    "accepted": "Accepted violations, with the reason that the study's file gives",
    "framework difference": "Framework differences, with the reason that the control's definition states",
    "own rule": "A framework's own rules, where the protocol keeps them",
}


def print_audit(outcome: Audit, console: Console) -> None:
    """Print a table for every kind of finding that occurs, then the verdict."""
    for kind, title in TITLES.items():
        groups = grouped(outcome.of_kind(kind))
        if groups:
            console.print(_table(title, groups))
            console.print()
    console.print(Text(f"{outcome.study}: {outcome.verdict}"))


def _table(title: str, groups: Sequence[Sequence[Finding]]) -> Table:
    """For every group of findings: its runs and their value, what they were compared with, and why."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("control", "run", "value", "read from"):
        table.add_column(heading, overflow="fold")
    for group in groups:
        first = group[0]
        # With all digits; nothing where nothing was read.
        value = json.dumps(first.value, ensure_ascii=False) if first.read_from else ""
        table.add_row(*_texts(first.control, _runs(group, "run"), value, first.read_from))
        if first.other_run:
            other = json.dumps(first.other, ensure_ascii=False)
            table.add_row(*_texts("  compared with", _runs(group, "other_run"), other, first.other_read_from))
        table.add_row("  reason", Text(first.reason, style="italic"), end_section=True)
    return table


def _texts(*cells: str) -> list[Text]:
    """Cells in which nothing is taken for markup: code has square brackets."""
    return [Text(cell) for cell in cells]


def _runs(group: Sequence[Finding], key: str) -> str:
    """Ids of the runs of a group, one per line."""
    return "\n".join(dict.fromkeys(getattr(finding, key) for finding in group))
