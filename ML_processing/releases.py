"""What ONNX each CMSSW release, and each ONNX Runtime, reads."""

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
"""What is written unless the target is older: every release from CMSSW_12_4 on reads it."""


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

    @property
    def name(self) -> str:
        """In words."""
        runtime = f"ONNX Runtime {self.onnxruntime}" if self.onnxruntime else ""
        if self.cmssw:
            return f"{self.cmssw} ({runtime})" if runtime else self.cmssw
        return runtime or "CMSSW from 12_4 on"


def target(cmssw: str | None = None, onnxruntime: str | None = None) -> Target:
    """Limits of a release such as "CMSSW_14_0_X", or of an ONNX Runtime; of neither, what is usual.

    Raises
    ------
    ConfigError
        The release is not in the table (releases.json), the ONNX Runtime is older than the table, or both are given.
    """
    if cmssw and onnxruntime:
        raise ConfigError(f"{cmssw} and ONNX Runtime {onnxruntime}: name one of them, a release has its own.")
    if onnxruntime:
        return Target(None, onnxruntime, *_limits(onnxruntime))
    if cmssw is None:
        return Target(None, None, OPSET, IR)
    number = _number(cmssw.removeprefix("CMSSW_"))
    for entry in _table()["releases"]:
        if _number(entry["first"]) <= number <= _number(entry["last"]):
            version = entry["onnxruntime"]
            return Target(cmssw, version, *_limits(version or entry["at_least"]))
    known = ", ".join(
        f"{entry['first']} to {entry['last'].replace('_99', '_x')}" for entry in _table()["releases"]
    )
    raise ConfigError(
        f"export.cmssw: which ONNX Runtime {cmssw} has is not known here. Known are CMSSW {known}. "
        f"Without export.cmssw the model is written for ONNX opset {OPSET} and IR {IR}: try whether it loads."
    )


def _limits(onnxruntime: str) -> tuple[int, int]:
    """Opset and IR that an ONNX Runtime reads."""
    version = _number(onnxruntime.replace(".", "_"))
    runtimes = [
        entry for entry in _table()["runtimes"] if _number(entry["from"].replace(".", "_")) <= version
    ]
    if not runtimes:
        raise ConfigError(
            f"ONNX Runtime {onnxruntime}: is no version that is known here, as 1.17.1 is; the oldest is 1.0."
        )
    return int(runtimes[-1]["opset"]), int(runtimes[-1]["ir"])


@cache
def _table() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((files(__package__) / "releases.json").read_text(encoding="utf-8"))
    return content


def _number(text: str) -> tuple[int, int]:
    """(14, 0) of "14_0", "14_0_X" or "14_0_19_patch1"; (0, 0) of anything else."""
    found = re.match(r"(\d+)_(\d+)(?:_|$)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
