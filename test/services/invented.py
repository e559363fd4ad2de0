"""What makes the invented corrections of the example, for tests that need others."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

_PATH = Path(__file__).resolve().parents[2] / "examples" / "corrections" / "invented.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("invented_corrections", _PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_MODULE = _load()
binning, category, correction, formula = _MODULE.binning, _MODULE.category, _MODULE.correction, _MODULE.formula
