"""Corrections of simulation and data by the files of CMS's object groups (correctionlib), for arrays of any shape."""

from __future__ import annotations

from MLTools.NanoML.corrections.era import Corrections
from MLTools.NanoML.corrections.evaluation import Correction, CorrectionFile
from MLTools.NanoML.nanoaod.weights import Factor

PAGE = "howto/corrections.md"
__all__ = ["Correction", "CorrectionFile", "Corrections", "Factor"]
