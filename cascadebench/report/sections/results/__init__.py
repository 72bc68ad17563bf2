"""Sections on what came out."""
