"""Curves: AP of every detector by IoU threshold."""

from typing import Any

from cascadebench.metrics.coco.rules import AP_AT_IOU
from cascadebench.report.data.study_results import StudyResults
from cascadebench.report.parts.charts import Drawing, Encodings, Figure, figure
from cascadebench.report.parts.iou_curves import (
    band_caption,
    common_domain,
    curves,
    over_seeds,
    seed_choices,
    shown_by_title,
    with_intervals,
)
from cascadebench.report.parts.section import Section


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
    drawings = (
        Drawing(
            title,
            f"{title}: AP times 100 at IoU thresholds from 0.50 to 0.95, one line per detector.",
            curves(part, Encodings(results.all_labels, part["label"]), "AP × 100", [0, common_domain(data)[1]]),
            shows=shows[title],
        )
        for title, part in data.groupby("panel", sort=False)
    )
    caption = "Headline test stage. The scale is the same in all panels." + band_caption(data)
    return figure("ap-by-iou", caption, "headline", drawings, seeds=seed_choices(results))


def build(results: StudyResults) -> dict[str, Any]:
    """The figure of AP by IoU."""
    return {"ap": ap_figure(results)}


SECTION = Section("curves", "AP by IoU threshold", build, entry="AP by IoU")
