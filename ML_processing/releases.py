"""What ONNX each CMSSW release reads."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from MLTools.NanoML.errors import ConfigError

__all__ = ["IR", "OPSET", "Target", "target"]

OPSET, IR = 15, 8
"""What is written: the newest that every release of the table reads."""


@dataclass(frozen=True)
class Target:
    """Where a model is to run.

    Attributes
    ----------
    cmssw
        The release as the user named it, or None.
    onnxruntime
        Version of its ONNX Runtime, or None where it is not established.
    opset, ir
        The newest that it reads.
    """

    cmssw: str | None
    onnxruntime: str | None
    opset: int
    ir: int


def target(cmssw: str | None) -> Target:
    """Limits of a release such as "CMSSW_14_0_X"; without one, of the oldest release of the table.

    Raises
    ------
    ConfigError
        The release is not in the table (releases.json).
    """
    if cmssw is None:
        return Target(None, None, OPSET, IR)
    number = _number(cmssw.removeprefix("CMSSW_"))
    for entry in _known():
        if _number(entry["first"]) <= number <= _number(entry["last"]):
            return Target(cmssw, entry["onnxruntime"], entry["opset"], entry["ir"])
    known = ", ".join(f"{entry['first']} to {entry['last'].replace('_99', '_x')}" for entry in _known())
    raise ConfigError(
        f"export.cmssw: which ONNX Runtime {cmssw} has is not known here. Known are CMSSW {known}. "
        f"Without export.cmssw the model is written for ONNX opset {OPSET} and IR {IR}: try whether it loads."
    )


@cache
def _known() -> list[dict[str, Any]]:
    """Entries of the table whose limits are known."""
    content = json.loads((files(__package__) / "releases.json").read_text(encoding="utf-8"))
    return [entry for entry in content["releases"] if entry["opset"] is not None]


def _number(text: str) -> tuple[int, int]:
    """(14, 0) of "14_0", "14_0_X" or "14_0_19_patch1"; (0, 0) of anything else."""
    found = re.match(r"(\d+)_(\d+)(?:_|$)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
