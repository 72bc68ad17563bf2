"""Detections on a few validation images, chosen by a rule, for the report."""
