"""Effective values of a run in MMDetection, read back from its built objects or probed by how they behave."""
