"""The search for good settings of the training."""

from __future__ import annotations

import importlib.util

from MLTools.NanoML.errors import NanoMLError

__all__: list[str] = []

if importlib.util.find_spec("optuna") is None:
    raise NanoMLError("tune: the Python package optuna is missing. Install it: pip install 'nanoml[tune]'.")
