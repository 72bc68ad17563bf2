"""A study's results as one file for others: an RO-Crate in a zip."""

from cascadebench.export.study_crate import Published
from cascadebench.export.study_export import export_study

__all__ = ["Published", "export_study"]
