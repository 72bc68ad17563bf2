"""The 95% intervals of ``intervals.csv``, found by detector, and how they are written."""

import math
from collections.abc import Mapping

from cascadebench.report.data.collect import Detector, StudyResults
from cascadebench.report.parts.cells import Line, points, signed_points

Ends = tuple[float, float]
Key = tuple[str, str, str, str, str, str]
"""Label, framework, backbone, test stage, gap, quantity."""

OVER_ALL = "0.50-0.95"
"""What ``intervals.csv`` calls the mean over all IoU thresholds, COCO's AP."""


def known_intervals(results: StudyResults) -> dict[Key, Ends]:
    """Both ends of every interval that there is."""
    words = ("label", "framework", "backbone", "test_stage", "gap", "quantity")
    return {
        tuple(row[word] for word in words): (row["low"], row["high"])
        for row in results.tables["intervals"].to_dict("records")
        if math.isfinite(row["low"]) and math.isfinite(row["high"])
    }


def interval_of(
    known: Mapping[Key, Ends], detector: Detector, column: str, test_stage: str = "", gap: str = ""
) -> Ends | None:
    """Interval of a column of ``ap.csv`` at a test stage, or of a gap; None if there is none."""
    quantity = OVER_ALL if column == "AP" else column
    return known.get((detector.label, detector.framework, detector.backbone, test_stage, gap, quantity))


def reach(ends: Ends | None) -> tuple[Line, ...]:
    """Write the interval of an AP, which reaches as far down as up: ``±3.1``."""
    return (Line(f"±{points((ends[1] - ends[0]) / 2)}", "muted"),) if ends else ()


def from_to(ends: Ends | None) -> tuple[Line, ...]:
    """Write the interval of a difference: ``+4.3 to +10.2``."""
    return (Line(" to ".join(signed_points(end).text for end in ends), "muted"),) if ends else ()
