"""Detectron2's adapter."""
