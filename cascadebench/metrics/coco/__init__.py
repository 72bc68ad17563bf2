"""COCO average precision at every IoU threshold, its intervals, what is computed from it, and the tables of a study."""

EVALUATION_REVISION = 4
"""Raised when the numbers that the evaluation gives may change."""
