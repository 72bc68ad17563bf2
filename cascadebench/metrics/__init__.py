"""Metrics, a package for each."""
