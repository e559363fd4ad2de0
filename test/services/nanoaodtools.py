"""Which nanoAOD-tools there is."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import pytest

__all__ = ["MISSING", "is_there", "needs_cmssw_tools", "needs_nanoaodtools", "postprocessor"]

_OUTPUT = "PhysicsTools.NanoAODTools.postprocessing.framework.output"


def is_there(module: str) -> bool:
    """Whether a module can be imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def postprocessor() -> Any:
    """The class PostProcessor of nanoAOD-tools."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ROOT of PyPI says that it is new
        from PhysicsTools.NanoAODTools.postprocessing.framework.postprocessor import PostProcessor
    return PostProcessor


def _is_cmssw() -> bool:
    spec = importlib.util.find_spec(_OUTPUT) if is_there(_OUTPUT) else None
    return bool(spec and spec.origin and "'Short_t'" in Path(spec.origin).read_text())


MISSING = [name for name in ("ROOT", _OUTPUT) if not is_there(name)]
needs_nanoaodtools = pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}")
needs_cmssw_tools = pytest.mark.skipif(
    not _is_cmssw(),
    reason="needs CMSSW's nanoAOD-tools: a standalone one has no 16-bit integers and other counters",
)
