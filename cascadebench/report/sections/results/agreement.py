"""The same detector in two frameworks: by how much they differ, paired over images and seeds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import altair as alt
import pandas as pd

from cascadebench.evidence.hypotheses import AGREEMENT_MARGIN, AGREEMENT_REASON, agreement_id
from cascadebench.metrics.coco.rules import AP_AT_IOU
from cascadebench.report.data.study_results import DetectorRecord, StudyResults, framework_title
from cascadebench.report.parts.cells import (
    ABSENT,
    Cell,
    Column,
    Group,
    Row,
    Spread,
    Table,
    ap_columns,
    from_to,
    listing,
    note,
    points,
    signed_points,
)
from cascadebench.report.parts.charts import Drawing, Figure, figure, iou_axis, tooltips, zero_line
from cascadebench.report.parts.detector_rows import range_caption
from cascadebench.report.parts.section import Section, has_runs
from cascadebench.report.parts.verdict_words import decided_with, interval, needed
from cascadebench.report.sections.results.claims import all_verdicts
from cascadebench.uncertainty.gaps import framework_gap
from cascadebench.uncertainty.intervals import Ends

WORDS = {"supported": "equal", "not supported": "not equal"}
"""What a verdict on equality says; the others say it themselves."""


@dataclass(frozen=True)
class Pair:
    """The same detector in two frameworks."""

    name: str
    first: DetectorRecord
    second: DetectorRecord

    def values(self, results: StudyResults, column: str) -> tuple[dict[int, float], dict[int, float]]:
        """Headline values in both, of the seeds that both have."""
        first, second = (detector.by_seed(results.headline_rows, column) for detector in (self.first, self.second))
        both = [seed for seed in first if seed in second]
        return {seed: first[seed] for seed in both}, {seed: second[seed] for seed in both}

    def difference(self, results: StudyResults, column: str) -> Spread:
        """First minus second, seed by seed."""
        return Spread.of_differences(*self.values(results, column))

    @property
    def gap(self) -> str:
        """Name of the difference in ``intervals.csv``, and of the frameworks in ``verdicts.csv``."""
        return framework_gap(self.first.framework, self.second.framework)

    def interval(self, results: StudyResults, column: str) -> Ends | None:
        """Interval of the difference."""
        return results.interval(self.first, column, gap=self.gap)

    def verdict(self, results: StudyResults) -> dict[str, Any] | None:
        """The row of ``verdicts.csv`` on whether both are equal; None if nobody asked."""
        key = agreement_id(self.first.runs[0].run.variant), self.gap, self.first.backbone
        found = (row for row in all_verdicts(results) if (row["claim"], row["framework"], row["backbone"]) == key)
        return next(found, None)


def framework_pairs(results: StudyResults) -> Iterator[tuple[str, list[Pair]]]:
    """Every two frameworks of the study under a title, with the detectors that have results in both."""
    for first, second in combinations(results.study.file.frameworks, 2):
        others = {(other.label, other.backbone): other for other in results.detectors if other.framework == second}
        pairs = [
            Pair(results.with_backbone(one.label, one.backbone), one, others[one.label, one.backbone])
            for one in results.detectors
            if one.framework == first and (one.label, one.backbone) in others
        ]
        title = f"{framework_title(first)} minus {framework_title(second)}"
        yield title, [pair for pair in pairs if pair.difference(results, "AP").values]


def agreement_table(results: StudyResults) -> Table:
    """AP in both frameworks, and the difference at every IoU threshold with its interval."""
    groups = [Group(title, tuple(_row(results, pair) for pair in pairs)) for title, pairs in framework_pairs(results)]
    frameworks = results.study.file.frameworks
    names = [framework_title(name) for name in frameworks] if len(frameworks) == 2 else ["first", "second"]
    columns = (
        Column("Detector", kind="text"),
        *(Column(name, group="AP") for name in names),
        Column("AP", group="difference"),
        Column(f"Equal within {points(AGREEMENT_MARGIN)}", kind="text", group="difference"),
        *ap_columns("difference"),
    )
    caption = (
        f"Average precision × 100 of the same detector in two frameworks, at the headline test stage, and the "
        f"difference, {names[0]} minus {names[1]}, paired by seed."
    )
    if any(pair.interval(results, "AP") for _, pairs in framework_pairs(results) for pair in pairs):
        caption += " Under a difference its 95% interval, from resamples of the images that both share."
    caption += (
        f" Equal within {points(AGREEMENT_MARGIN)}: a test of equivalence on AP, in one family with the claims; in "
        "brackets the interval that decides it."
    )
    caption = f"{caption} {results.coverage_warning(gaps_alone=True)}".rstrip()
    return Table("agreement-values", caption + range_caption(results), columns, tuple(groups))


def _row(results: StudyResults, pair: Pair) -> Row:
    cells = [Cell(points(Spread.of(values).mean)) for values in pair.values(results, "AP")]
    for column in ("AP", *AP_AT_IOU):
        spread = pair.difference(results, column)
        seeds = spread.range(100, 1)
        notes = from_to(pair.interval(results, column)) + note(seeds)
        cells.append(Cell(signed_points(spread.mean).text or points(None), notes))
        if column == "AP":
            cells.append(_verdict_cell(pair.verdict(results)))
    both, planned = len(pair.difference(results, "AP").values), len(pair.first.runs)
    seeds = f"{both} {'seed' if both == 1 else 'seeds'}" + ("" if both == planned else f" of {planned}")
    return Row(Cell(pair.name, note(seeds)), tuple(cells))


def _verdict_cell(verdict: Mapping[str, Any] | None) -> Cell:
    """Whether both frameworks are equal, with the interval that decides it."""
    if verdict is None:
        return Cell(ABSENT)
    lines = note(interval(verdict, "adjusted_", short=True)) + note(needed(verdict))
    return Cell(WORDS.get(verdict["verdict"], verdict["verdict"]), lines, folded=note(decided_with(verdict)))


def _points(results: StudyResults, pair: Pair) -> pd.DataFrame:
    """Difference and both ends of its interval, times 100, at every IoU threshold that has one."""
    rows = []
    for column, iou in AP_AT_IOU.items():
        mean = pair.difference(results, column).mean
        if mean is not None:
            low, high = pair.interval(results, column) or (mean, mean)
            values = {"value": mean, "low": low, "high": high}
            rows.append({"iou": iou} | {key: round(100 * value, 3) for key, value in values.items()})
    return pd.DataFrame(rows)


def agreement_figure(results: StudyResults) -> Figure:
    """Difference at every IoU threshold with its interval, a panel per detector and pair of frameworks."""
    drawn = [
        (title, pair, data)
        for title, pairs in framework_pairs(results)
        for pair in pairs
        if len(data := _points(results, pair))
    ]
    if not drawn:
        return Figure("agreement-by-iou", "", "agreement-values", ())
    every = pd.concat([data for _, _, data in drawn])
    largest = max(1.0, float(every[["low", "high"]].abs().to_numpy().max()))
    several = len(results.study.file.frameworks) > 2
    drawings = (
        Drawing(
            f"{pair.name} ({title})" if several else pair.name,
            f"{pair.name}, {title}: difference of AP times 100 at IoU thresholds from 0.50 to 0.95, with its interval.",
            _chart(data, [-largest, largest]),
            height=150,
        )
        for title, pair, data in drawn
    )
    first, second = results.study.file.frameworks[:2]
    above = f"Above the zero line {framework_title(first)} is better, below it {framework_title(second)}."
    caption = "Above the zero line the first framework is better." if several else above
    caption += " The scale is the same in all panels."
    if (every["low"] < every["high"]).any():
        caption += " Bands are 95% intervals. A band that spans zero leaves open which is better; it shows no equality."
    return figure("agreement-by-iou", caption, "agreement-values", drawings)


def _chart(data: pd.DataFrame, domain: list[float]) -> alt.LayerChart:
    """A line with its band around zero."""
    title = "Difference of AP × 100"
    scale = alt.Scale(domain=domain, nice=True)
    tooltip = tooltips(
        ("iou:Q", "IoU", ".2f"), ("value:Q", title, "+.2f"), ("low:Q", "from", "+.2f"), ("high:Q", "to", "+.2f")
    )
    base = alt.Chart(data).encode(x=iou_axis(), tooltip=tooltip)
    color = alt.ColorValue("#2f8fc4")  # stands out from both backgrounds
    y = alt.Y("value:Q", title=title, scale=scale)
    return alt.layer(
        zero_line(),
        base.mark_area(opacity=0.25).encode(y=alt.Y("low:Q", title=title, scale=scale), y2="high:Q", color=color),
        base.mark_line().encode(y=y, color=color),
        base.mark_point(filled=True, size=36, opacity=1).encode(y=y, color=color),
    )


def agreement_sentence(results: StudyResults) -> str:
    """For how many detectors the frameworks are equal within the margin, and why that margin."""
    pairs = [pair for _, of_frameworks in framework_pairs(results) for pair in of_frameworks]
    words = [verdict["verdict"] for verdict in (pair.verdict(results) for pair in pairs) if verdict]
    if not words:
        return f"Whether they are equal is not judged yet; “cascadebench intervals {results.study.name}” does it."
    counted = listing([f"{WORDS.get(word, word)} for {words.count(word)}" for word in dict.fromkeys(words)])
    margin = f"Equal means that AP differs by less than {points(AGREEMENT_MARGIN)} points. {AGREEMENT_REASON}"
    return f"{margin} Of {len(pairs)} detectors: {counted}."


def _several_frameworks(results: StudyResults) -> bool:
    return has_runs(results) and len(results.study.file.frameworks) > 1


def build(results: StudyResults) -> dict[str, Any]:
    """Differences between the frameworks as a sentence, a figure and a table."""
    table = agreement_table(results)
    sentence = "" if table.empty else agreement_sentence(results)
    return {"sentence": sentence, "differences": agreement_figure(results), "values": table}


SECTION = Section("agreement", "Frameworks", build, needs=_several_frameworks)
