"""The report: one HTML file per study that opens offline and explains itself."""

from cascadebench.report.page import write_report

__all__ = ["write_report"]
