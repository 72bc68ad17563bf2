"""Weights under common names: drawn from the seed, or read from a file."""
