"""Detections from elsewhere."""
