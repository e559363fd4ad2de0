"""What all tests share: where the input files are, and which parts are here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# a part that has been taken out takes its tests with it
collect_ignore = [part for part in ("data_processing", "ML_processing") if not (ROOT / part).is_dir()]


def _input_files(kind: str) -> list[Path]:
    directory = Path(os.environ.get("NANOML_TEST_DATA") or ROOT.parent / "shared" / "data")
    files = sorted((directory / kind).rglob("*.root"))
    if not files:
        pytest.skip(f"no NanoAOD files in {directory / kind}: name their directory by NANOML_TEST_DATA")
    return files


@pytest.fixture(scope="session")
def real_files() -> dict[str, Path]:
    """NanoAOD of CMS of several versions, by its name without ".root"."""
    return {path.stem: path for path in _input_files("real")}


@pytest.fixture(scope="session")
def mc_files() -> dict[str, list[Path]]:
    """Simulated NanoAOD, by the name of its dataset."""
    files: dict[str, list[Path]] = {}
    for path in _input_files("mc"):
        files.setdefault(path.parent.name, []).append(path)
    return files


@pytest.fixture(scope="session")
def sample() -> Path:
    """The directory of the example's input files, one directory for each dataset."""
    return ROOT / "examples" / "data"
