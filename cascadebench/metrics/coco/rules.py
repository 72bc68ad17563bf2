"""COCO's constants, computed as pycocotools computes them, because a comparison may turn on the last bit."""

import numpy as np

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""float64 [10]. Not the decimal fractions: 0.6 and 0.9, for instance, come out one unit of the last place away."""
LEAST_IOU = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
"""float64 [10], the IoU from which a detection matches; equality passes."""
RECALLS = np.linspace(0.0, 1.0, 101)
"""float64 [101], at which the interpolated precision is read."""
AREA_ENDS = np.array([[0, 1e5**2], [0, 32**2], [32**2, 96**2], [96**2, 1e5**2]], dtype=np.float64)
"""float64 [4, 2], lowest and highest area in square pixels of all, small, medium, large; both ends belong to it."""
SPACING = float(np.spacing(1))
"""Added to the denominator of precision."""
EVERY_IOU = np.uint16(2 ** len(IOU_THRESHOLDS) - 1)
"""Bit t stands for IoU threshold t; all of them."""
IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU thresholds 0.50, 0.55, ..., 0.95 as the table holds them; select by equality."""
AREAS = ("all", "small", "medium", "large")
"""Ranges of ground-truth area: any, up to 32^2, 32^2 to 96^2, from 96^2 square pixels, ends included."""
MAX_DETS = (1, 10, 100)
"""Highest-scored detections that count, per image and category."""
LIMITS = tuple((area, count) for area in AREAS for count in MAX_DETS if area == "all" or count == MAX_DETS[-1])
"""Pairs of area and max_dets in the table: those that COCO's twelve numbers need."""
AP_AT_IOU = {f"AP{round(100 * iou)}": iou for iou in IOUS}
"""AP50, AP55, ..., AP95 and their IoU thresholds."""
