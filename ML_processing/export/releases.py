"""The versions of ONNX that each CMSSW release, and each ONNX Runtime, reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.schema.plain import parsed

OPSET, IR = 15, 8
"""The versions that are written unless the target is older: every release from CMSSW_12_4 on reads it."""
_SAFE_FROM = (12, 4)  # the first release that reads it
_RELEASE = re.compile(r"CMSSW_(\d+)_(\d+)(?:_[A-Za-z0-9_-]+)?")


@dataclass(frozen=True)
class Target:
    """Where a model is to run."""

    cmssw: str | None  # the release as the user named it
    onnxruntime: str | None  # version of its ONNX Runtime; None if it is not established
    opset: int  # the newest that it reads, or is sure to read
    ir: int
    dynamo: bool = False  # whether PyTorch's new exporter writes for it
    warning: str = ""  # what the user must know about this target; usually empty

    @property
    def name(self) -> str:
        """In words."""
        runtime = f"ONNX Runtime {self.onnxruntime}" if self.onnxruntime else ""
        if self.cmssw:
            return f"{self.cmssw} ({runtime})" if runtime else self.cmssw
        return runtime or "CMSSW from 12_4 on"


def target(cmssw: str | None = None, onnxruntime: str | None = None) -> Target:
    """Limits of a release such as "CMSSW_14_0_X", or of an ONNX Runtime; without both, what CMSSW reads from 12_4 on.

    A release whose ONNX Runtime is not established, such as one that is newer than the table (releases.json), gets the
    form that every release from CMSSW_12_4 on reads, with a warning. A ConfigError says that there is no such release, or
    that it or the ONNX Runtime is too old.
    """
    if cmssw and onnxruntime:
        raise ConfigError(f"{cmssw} and ONNX Runtime {onnxruntime}: name one of them, a release has its own.")
    if onnxruntime:
        return Target(None, onnxruntime, *_limits(onnxruntime))
    if cmssw is None:
        return Target(None, None, OPSET, IR)
    name = _RELEASE.fullmatch(cmssw)
    if name is None:
        raise ConfigError(
            f'export.cmssw: "{cmssw}" is not the name of a CMSSW release, such as CMSSW_14_0_X or CMSSW_14_0_19_patch1.'
        )
    number = int(name[1]), int(name[2])
    for entry in _table()["releases"]:
        version = entry["onnxruntime"]
        if _number(entry["first"]) <= number <= _number(entry["last"]) and (version or entry["at_least"]):
            return Target(cmssw, version, *_limits(version or entry["at_least"]))
    if number < _SAFE_FROM:
        raise ConfigError(
            f"export.cmssw: which ONNX Runtime {cmssw} has is not known here, and releases before 12_4 may not read ONNX "
            f"opset {OPSET} and IR {IR}. Known are CMSSW {_known()}. If you know the version: nanoml export --onnxruntime."
        )
    return Target(
        cmssw,
        None,
        OPSET,
        IR,
        warning=f"which ONNX Runtime {cmssw} has is not known here: the model is written for ONNX opset {OPSET} and IR {IR}, which "
        "every known release from CMSSW_12_4 on reads. In an area of the release, `nanoml doctor --for cmssw` finds "
        "the version; `nanoml export --onnxruntime VERSION` writes for it.",
    )


def _known() -> str:
    """The releases of the table whose ONNX Runtime is established, at least as from which version on."""
    return ", ".join(
        f"{entry['first']} to {entry['last'].replace('_99', '_x')}"
        for entry in _table()["releases"]
        if entry["onnxruntime"] or entry["at_least"]
    )


def _limits(onnxruntime: str) -> tuple[int, int, bool]:
    """Opset and IR that an ONNX Runtime reads, and whether the new exporter writes for it."""
    version = _number(onnxruntime.replace(".", "_"))
    runtimes = [entry for entry in _table()["runtimes"] if _number(entry["from"].replace(".", "_")) <= version]
    if not runtimes:
        raise ConfigError(f"ONNX Runtime {onnxruntime}: is not a known version, such as 1.17.1; the oldest is 1.0.")
    return int(runtimes[-1]["opset"]), int(runtimes[-1]["ir"]), bool(runtimes[-1].get("dynamo"))


@cache
def _table() -> dict[str, Any]:
    return parsed((files(__package__) / "releases.json").read_text(encoding="utf-8"))


def _number(text: str) -> tuple[int, int]:
    """(14, 0) for "14_0"; (0, 0) for anything that does not begin with two numbers."""
    found = re.match(r"(\d+)_(\d+)(?:_|$)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
