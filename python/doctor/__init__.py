"""Checks here and now what a way of working needs."""

from __future__ import annotations

from MLTools.NanoML.doctor.probe import CheckState, Finding
from MLTools.NanoML.doctor.ways import WAYS, Examination, examine, guess

__all__ = ["WAYS", "CheckState", "Examination", "Finding", "examine", "guess"]
