"""Checks here and now what a way of working needs."""

from __future__ import annotations

from MLTools.NanoML.doctor.probe import Finding, State
from MLTools.NanoML.doctor.ways import WAYS, Examination, examine, guess

__all__ = ["WAYS", "Examination", "Finding", "State", "examine", "guess"]
