"""What a way of working needs, checked here and now: one small module for each kind of thing."""

from __future__ import annotations

from MLTools.NanoML.doctor.examination import Examination, examine
from MLTools.NanoML.doctor.finding import Finding, State
from MLTools.NanoML.doctor.ways import WAYS, guess

__all__ = ["WAYS", "Examination", "Finding", "State", "examine", "guess"]
