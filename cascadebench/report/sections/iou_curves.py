"""Curves over the IoU threshold, AP and gaps, among which a reader chooses framework, backbone and seed."""

import re
from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from cascadebench.report.data.study_results import AP_BY_IOU, IOU_PERCENTS, StudyResults
from cascadebench.report.parts.charts import ALL_SEEDS, Encodings, Figure, panel


def iou_axis() -> alt.X:
    """IoU thresholds from 0.50 to 0.95."""
    scale = alt.Scale(domain=[0.48, 0.97], nice=False)
    return alt.X(
        "iou:Q", scale=scale, title="IoU threshold", axis=alt.Axis(values=[0.5, 0.6, 0.7, 0.8, 0.9], format=".1f")
    )


def _curves(
    data: pd.DataFrame, encodings: Encodings, value: str, domain: list[float], zero: bool = False
) -> alt.LayerChart:
    """Lines with points over the IoU of the seed chosen, a band around means that have one; a line at `zero`."""
    y = alt.Y("value:Q", title=value, scale=alt.Scale(domain=domain, nice=True))
    tooltip = [
        alt.Tooltip("label:N", title="Detector"),
        alt.Tooltip("iou:Q", title="IoU", format=".2f"),
        alt.Tooltip("value:Q", title=value, format=".2f"),
        alt.Tooltip("seeds:Q", title="Seeds"),
    ]
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
        layers.insert(0, alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule().encode(y="zero:Q"))
    return alt.layer(*layers).add_params(seed)


_CURVE = ["panel", "facet", "label", "iou"]


def _over_seeds(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Mean, smallest and largest value over the seeds at every IoU threshold; then every seed alone, if several."""
    data = pd.DataFrame(rows, columns=[*_CURVE, "seed", "value"]).dropna(subset=["value"])
    grouped = data.groupby(_CURVE, sort=False)["value"]
    summary = grouped.agg(value="mean", low="min", high="max", seeds="count").reset_index().assign(seed=ALL_SEEDS)
    if data["seed"].nunique() > 1:
        summary = pd.concat([summary, data.assign(seeds=1)], ignore_index=True)
    return summary.round({"value": 3, "low": 3, "high": 3})


def _with_intervals(data: pd.DataFrame, results: StudyResults, gap_of_facet: Mapping[str, str]) -> pd.DataFrame:
    """Bands that are 95% intervals in place of the range of the seeds, where ``intervals.csv`` has them.

    Parameters
    ----------
    gap_of_facet : mapping of str to str
        Name of the gap by the facet; empty: headline test stages are drawn.
    """
    detectors = {(title, one.label): one for title, group in results.panels_with_imported() for one in group}
    data = data.astype({"low": float, "high": float}).assign(interval=False)
    for place, row in data[data["seed"] == ALL_SEEDS].iterrows():
        detector = detectors[row["panel"], row["label"]]
        stage, gap = ("", gap_of_facet[row["facet"]]) if gap_of_facet else (detector.headline, "")
        ends = results.interval(detector, f"AP{round(row['iou'] * 100)}", test_stage=stage, gap=gap)
        if ends:
            data.loc[place, ["low", "high"]] = [round(100 * end, 3) for end in ends]
            data.loc[place, "interval"] = True
    return data


def _band_words(data: pd.DataFrame) -> str:
    """What the band around a line is."""
    if data["interval"].any():
        return " Bands are 95% intervals from resamples of the images, and of the seeds where there are several."
    return " Bands go from the lowest seed to the highest." if (data["seeds"] > 1).any() else ""


def _seeds(results: StudyResults) -> dict[str, str]:
    """Seeds that a reader can choose, in words; none where there is but one."""
    if not results.several_seeds:
        return {}
    return {ALL_SEEDS: "mean of all"} | {str(seed): f"seed {seed} alone" for seed in results.study.file.seeds}


def _shows(results: StudyResults) -> dict[str, dict[str, str]]:
    """What a panel shows, by its title."""
    return {
        title: {"Framework": detectors[0].framework_title, "Backbone": detectors[0].backbone}
        for title, detectors in results.panels_with_imported()
    }


def _domain(data: pd.DataFrame) -> list[float]:
    """One range of values for all panels of a figure, with zero in it, so that they can be compared by eye."""
    low = min(float(data[["low", "value"]].min(axis=None)), 0)
    high = max(float(data[["high", "value"]].max(axis=None)), 0)
    margin = max(0.05 * (high - low), 0.5)
    return [low - margin if low < 0 else 0, high + margin]


def ap_figure(results: StudyResults) -> Figure:
    """AP at every IoU threshold, one panel per framework."""
    rows = [
        {"panel": title, "facet": "", "label": detector.label, "iou": percent / 100, "seed": str(seed)}
        | {"value": 100 * value}
        for title, detectors in results.panels_with_imported()
        for detector in detectors
        for name, percent in zip(AP_BY_IOU, IOU_PERCENTS, strict=True)
        for seed, value in detector.by_seed(results.headline_rows, name).items()
    ]
    data, panels, shows = _with_intervals(_over_seeds(rows), results, {}), [], _shows(results)
    for title, part in data.groupby("panel", sort=False):
        encodings = Encodings(results.all_labels, part["label"])
        description = f"{title}: AP times 100 at IoU thresholds from 0.50 to 0.95, one line per detector."
        chart = _curves(part, encodings, "AP × 100", [0, _domain(data)[1]])
        panels.append(panel(f"ap-by-iou-{len(panels) + 1}", title, description, chart, shows=shows[title]))
    caption = "Headline test stage. The scale is the same in all panels." + _band_words(data)
    return Figure("ap-by-iou", caption, "headline", tuple(panels), seeds=_seeds(results))


_LAST_STAGE_GAP = re.compile(r"stage (\d+) - (?:baseline|stage (\d+))")


def _gap_title(results: StudyResults, gap: str, stages: int) -> str | None:
    """Title of a gap that is drawn: the last stage against the baseline and against the stage before; else None."""
    match = _LAST_STAGE_GAP.fullmatch(gap)
    if not match or int(match[1]) != stages or (match[2] and int(match[2]) != stages - 1):
        return None
    return gap.replace(" - ", " − ").replace("baseline", results.baseline)


def gap_figure(results: StudyResults) -> Figure:
    """Gaps of the last stage at every IoU threshold, one panel per gap and framework."""
    gaps = {str(run): rows for run, rows in results.tables["gaps"].groupby("run", sort=False)}
    rows = [
        {"panel": title, "facet": facet, "label": d.label, "iou": row["iou"], "seed": str(record.run.seed)}
        | {"value": 100 * row["gap_ap"]}
        for title, detectors in results.panels()
        for d in detectors
        for record in d.runs
        if record.id in gaps
        for row in gaps[record.id].to_dict("records")
        if (facet := _gap_title(results, row["gap"], record.run.variant.stages))
    ]
    names = {
        _gap_title(results, row["gap"], record.run.variant.stages): row["gap"]
        for record in results.runs
        if record.id in gaps
        for row in gaps[record.id].to_dict("records")
    }
    data, panels, shows = _with_intervals(_over_seeds(rows), results, names), [], _shows(results)
    encodings = Encodings(results.labels, data["label"])
    # Sorted by gap, the frameworks stand beside each other.
    for (facet, title), part in sorted(data.groupby(["facet", "panel"], sort=False), key=lambda item: item[0][0]):
        description = f"{title}, {facet}: difference of AP times 100 at IoU thresholds from 0.50 to 0.95."
        chart = _curves(part, encodings, "Difference of AP × 100", _domain(data), zero=True)
        name, shown = f"gaps-by-iou-{len(panels) + 1}", shows[title] | {"Gap": facet}
        panels.append(panel(name, f"{title}: {facet}", description, chart, height=220, shows=shown))
    caption = "Above the zero line the last stage is better. The scale is the same in all panels."
    caption += _band_words(data)
    return Figure("gaps-by-iou", caption, "gap-values", tuple(panels), seeds=_seeds(results))
