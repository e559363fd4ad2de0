"""Four-vectors: the package vector, without what it takes longest to import."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

__all__ = ["vector_package"]

_SYMPY = "sympy"


def vector_package() -> ModuleType:
    """The package vector; the first call imports it.

    It imports sympy where that is installed, for vectors whose components are formulas. That takes longer than all
    else that a short job needs, and no array of events has such components: unless somebody imported sympy before,
    it is not found here, and `vector.VectorSympy` is None in this process, as where sympy is not installed.
    """
    if _SYMPY in sys.modules or "vector" in sys.modules:
        return importlib.import_module("vector")
    sys.modules[_SYMPY] = None  # type: ignore[assignment]  # Python takes this for a module that is not there
    try:
        return importlib.import_module("vector")
    finally:
        del sys.modules[_SYMPY]
