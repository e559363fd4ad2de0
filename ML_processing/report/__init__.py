"""The report: one HTML file that needs nothing beside it."""

from __future__ import annotations

from ML_processing.report.page import report

__all__ = ["report"]
