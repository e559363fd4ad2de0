"""What makes the invented corrections of the example, for tests that need others."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from MLTools.NanoML.loading import import_file

_PATH = Path(__file__).resolve().parents[2] / "examples" / "corrections" / "invented.py"
_MODULE = import_file(_PATH, "invented")
binning, category, correction, formula = _MODULE.binning, _MODULE.category, _MODULE.correction, _MODULE.formula


def write(path: Path, *corrections: dict[str, Any]) -> Path:
    """A file of corrections; its directory is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"schema_version": 2, "corrections": corrections}).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def pileup(name: str, path: Path, description: str = "", **more: str) -> None:
    """A file of pile-up weights; `more` are inputs that are not usual."""
    keys = {"nominal": 1.0, "up": 1.1, "down": 0.9}
    bins = {key: binning("NumTrueInteractions", (0.0, 50.0, 100.0), [value, value]) for key, value in keys.items()}
    inputs = {"NumTrueInteractions": "real", "weights": "string", **more}
    write(path, correction(name, inputs, category("weights", bins), description))
