"""NanoML: from CMS NanoAOD to a trained network that runs inside CMSSW.

This package holds all that runs inside CMSSW or on the grid. It needs nothing of
``data_processing``, ``ML_processing`` and ``statistical_analysis``, which all build on it.
"""

from __future__ import annotations

import os

__version__ = "0.2.0"

__all__ = ["__version__"]

# scram writes the _cfi.py files of plugins there, but adds the directory only to packages that have no __init__.py
_CFI = os.path.join(
    os.environ.get("CMSSW_BASE", ""), "cfipython", os.environ.get("SCRAM_ARCH", ""), "MLTools", "NanoML"
)
if "CMSSW_BASE" in os.environ and os.path.isdir(_CFI):
    __path__.append(_CFI)
