"""A bad model, or one that does not fit, is one message and no output: of `nanoml score` and in nanoAOD-tools."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import uproot
from click.testing import CliRunner

from MLTools.NanoML.commands.root import score as command
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.score import score
from services.nanoaodtools import loop

pytest.importorskip("data_processing.skim.skim")
pytest.importorskip("onnxruntime")

CASES = {
    "truncated": "cannot load it.*truncated",
    "lacking": "y, which the file lacks|has no branch y",
    "nan": r"1 of \d events have a score that is NaN or infinite",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three events, of which the second has NaN."""
    path = tmp_path / "in.root"
    ids = {"run": np.ones(3, "u4"), "luminosityBlock": np.ones(3, "u4"), "event": np.arange(3, dtype="u8")}
    with uproot.recreate(path) as file:
        file["Events"] = {**ids, "x": np.array([0.0, np.nan, 1.0], "f4")}
    return path


@pytest.fixture(params=CASES)
def bad(request: pytest.FixtureRequest, linear_model: Callable[..., Path]) -> tuple[Path, str]:
    """A model, and what is said of it."""
    path = linear_model(["y" if request.param == "lacking" else "x"])
    if request.param == "truncated":
        path.write_bytes(path.read_bytes()[:300])
    return path, CASES[request.param]


def test_score(tmp_path: Path, source: Path, bad: tuple[Path, str]) -> None:
    model, message = bad
    done = CliRunner().invoke(
        command, ["--model", str(model), "-o", str(tmp_path / "out"), "--workers", "1", str(source)]
    )
    assert isinstance(done.exception, NanoMLError)
    assert re.search(message, str(done.exception))
    assert not list((tmp_path / "out").rglob("*.root"))


def test_nano_module(source: Path, bad: tuple[Path, str]) -> None:
    model, message = bad
    with pytest.raises(NanoMLError, match=message):
        loop([score(model)()], source)
