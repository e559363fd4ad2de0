"""The examples in docstrings of functions and classes that users import."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = [
    f"MLTools.NanoML.{name}"
    for name in (
        *("config.load", "corrections.jets", "corrections.triggers", "corrections.weights", "errors", "model.model"),
        *("nanoaod.events", "nanoaod.flat", "nanoaod.folds", "nanoaod.weights"),
        *("rootio.rootfile", "selection.selection", "selection.tryout"),
    )
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    module: ModuleType = importlib.import_module(name)
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0
    assert found.failed == 0, name
