"""Curves: AP of every detector by IoU threshold, among which a reader chooses framework, backbone and seed."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from cascadebench.metrics.coco.rules import AP_AT_IOU
from cascadebench.report.data.study_results import StudyResults
from cascadebench.report.parts.charts import (
    ALL_SEEDS,
    Drawing,
    Encodings,
    Figure,
    figure,
    iou_axis,
    tooltips,
    zero_line,
)
from cascadebench.report.parts.section import Section


def curves(
    data: pd.DataFrame, encodings: Encodings, value: str, domain: list[float], zero: bool = False
) -> alt.LayerChart:
    """Lines with points over the IoU of the seed chosen, a band around means that have one; a line at `zero`."""
    y = alt.Y("value:Q", title=value, scale=alt.Scale(domain=domain, nice=True))
    tooltip = tooltips(
        ("label:N", "Detector"), ("iou:Q", "IoU", ".2f"), ("value:Q", value, ".2f"), ("seeds:Q", "Seeds")
    )
    seed = alt.param(name="seed", value=ALL_SEEDS)
    points = data.drop(columns=["panel", "facet"]).assign(interval=data["interval"].where(data["interval"], None))
    base = alt.Chart(points).transform_filter(alt.datum.seed == seed)
    base = base.encode(x=iou_axis(), color=encodings.color, tooltip=tooltip)
    line = base.mark_line().encode(y=y, strokeDash=encodings.dash)
    layers = [line, base.mark_point(filled=True, size=45, opacity=1).encode(y=y, shape=encodings.shape)]
    if (data["seeds"] > 1).any() or data["interval"].any():
        banded = base.transform_filter("isValid(datum.low)")
        layers.insert(0, banded.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title=value), y2="high:Q"))
    if zero:
        layers.insert(0, zero_line())
    return alt.layer(*layers).add_params(seed)


_CURVE = ["panel", "facet", "label", "iou"]


def over_seeds(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Mean, smallest and largest value over the seeds at every IoU threshold; then every seed alone, if several."""
    data = pd.DataFrame(rows, columns=[*_CURVE, "seed", "value"]).dropna(subset=["value"])
    grouped = data.groupby(_CURVE, sort=False)["value"]
    summary = grouped.agg(value="mean", low="min", high="max", seeds="count").reset_index().assign(seed=ALL_SEEDS)
    if data["seed"].nunique() > 1:
        summary = pd.concat([summary, data.assign(seeds=1)], ignore_index=True)
    return summary.round({"value": 3, "low": 3, "high": 3})


def with_intervals(data: pd.DataFrame, results: StudyResults, gap_of_facet: Mapping[str, str]) -> pd.DataFrame:
    """Bands that are 95% intervals in place of the range of the seeds, where ``intervals.csv`` has them.

    Without names of gaps by their facets, headline test stages are drawn.
    """
    detectors = {(title, one.label): one for title, group in results.panels_with_imported() for one in group}
    data = data.astype({"low": float, "high": float}).assign(interval=False)
    for index, row in data[data["seed"] == ALL_SEEDS].iterrows():
        detector = detectors[row["panel"], row["label"]]
        stage, gap = ("", gap_of_facet[row["facet"]]) if gap_of_facet else (detector.headline, "")
        ends = results.interval(detector, f"AP{round(row['iou'] * 100)}", test_stage=stage, gap=gap)
        if ends:
            data.loc[index, ["low", "high"]] = [round(100 * end, 3) for end in ends]
            data.loc[index, "interval"] = True
    return data


def band_caption(data: pd.DataFrame) -> str:
    """What the band around a line is."""
    if data["interval"].any():
        return " Bands are 95% intervals over the images, and over the seeds where there are several."
    return " Bands go from the lowest seed to the highest." if (data["seeds"] > 1).any() else ""


def seed_choices(results: StudyResults) -> dict[str, str]:
    """Seeds that a reader can choose, in words; none where there is but one."""
    if not results.several_seeds:
        return {}
    return {ALL_SEEDS: "mean of all"} | {str(seed): f"seed {seed} alone" for seed in results.study.file.seeds}


def shown_by_title(results: StudyResults) -> dict[str, dict[str, str]]:
    """What a panel shows, by its title."""
    return {
        title: {"Framework": detectors[0].framework_title, "Backbone": detectors[0].backbone}
        for title, detectors in results.panels_with_imported()
    }


def common_domain(data: pd.DataFrame) -> list[float]:
    """One range of values for all panels of a figure, with zero in it, so that they can be compared by eye."""
    low = min(float(data[["low", "value"]].min(axis=None)), 0)
    high = max(float(data[["high", "value"]].max(axis=None)), 0)
    margin = max(0.05 * (high - low), 0.5)
    return [low - margin if low < 0 else 0, high + margin]


def ap_figure(results: StudyResults) -> Figure:
    """AP at every IoU threshold, one panel per framework."""
    rows = [
        {"panel": title, "facet": "", "label": detector.label, "iou": iou, "seed": str(seed)} | {"value": 100 * value}
        for title, detectors in results.panels_with_imported()
        for detector in detectors
        for name, iou in AP_AT_IOU.items()
        for seed, value in detector.by_seed(results.headline_rows, name).items()
    ]
    data, shows = with_intervals(over_seeds(rows), results, {}), shown_by_title(results)
    labels = list(dict.fromkeys([*results.labels, *(run.file.title for run in results.imported)]))
    drawings = (
        Drawing(
            title,
            f"{title}: AP times 100 at IoU thresholds from 0.50 to 0.95, one line per detector.",
            curves(part, Encodings(labels, part["label"]), "AP × 100", [0, common_domain(data)[1]]),
            shows=shows[title],
        )
        for title, part in data.groupby("panel", sort=False)
    )
    caption = "Headline test stage. The scale is the same in all panels." + band_caption(data)
    return figure("ap-by-iou", caption, "headline", drawings, seeds=seed_choices(results))


SECTION = Section("curves", "AP by IoU threshold", lambda results: {"ap": ap_figure(results)}, entry="AP by IoU")
