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
PROPOSAL_LIMITS = (100, 300, 1000)
"""Numbers of proposals per image at which average recall is given."""
EVERY_IOU = np.uint16(2 ** len(IOU_THRESHOLDS) - 1)
"""Bit t stands for IoU threshold t; all of them."""
