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
        *("config.load", "corrections.era", "corrections.evaluation", "corrections.jets", "errors", "model.model"),
        *("nanoaod.events", "nanoaod.flat", "nanoaod.folds", "nanoaod.weights"),
        *("corrections.triggers", "corrections.weights", "rootio.rootfile"),
        *("selection.cutflow", "selection.selection", "selection.tryout"),
    )
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if ".corrections." in name:
        pytest.importorskip("correctionlib")
    monkeypatch.chdir(ROOT)
    module: ModuleType = importlib.import_module(name)
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0
    assert found.failed == 0, name
