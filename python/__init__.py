"""NanoML: from CMS NanoAOD to a trained network that runs inside CMSSW.

This package holds all that runs inside CMSSW or on the grid. It needs nothing of
``data_processing`` and ``ML_processing``, which both build on it.
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__"]
