"""Variants and backbones as cards, and the test stages of a cascade."""
