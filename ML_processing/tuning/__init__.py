"""The search for good settings of the training."""

from __future__ import annotations

import importlib.util

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.installation import how_to_install

PAGE = "tune.md"


if importlib.util.find_spec("optuna") is None:
    raise NanoMLError(f"tune: the Python package optuna is missing. Install it: {how_to_install('tune')}.")
