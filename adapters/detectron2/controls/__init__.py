"""Effective values of a run in Detectron2, read back from its built objects or probed by how they behave."""
