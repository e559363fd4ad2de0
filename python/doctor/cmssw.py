"""CMSSW: the release, its ONNX Runtime, and NanoML in its area."""

from __future__ import annotations

import importlib.metadata
import os
import re
from pathlib import Path

from MLTools.NanoML.doctor.finding import Finding
from MLTools.NanoML.doctor.outside import ask
from MLTools.NanoML.errors import NanoMLError

__all__ = ["area", "onnx_runtime", "release"]

PACKAGE = "MLTools/NanoML"
PLUGIN = "pluginMLToolsNanoMLPlugins.so"
_OLDEST = (13, 3)
_SCRAM_SECONDS = 20.0  # the first time, its files come from CVMFS
_ENTER = "cd YOUR_AREA/src && cmsenv, or first: cmsrel CMSSW_14_0_19"


def release() -> Finding:
    """Check that this is the environment of a release that NanoML's Python runs in."""
    name = os.environ.get("CMSSW_VERSION", "")
    if not os.environ.get("CMSSW_BASE"):
        return Finding(False, "CMSSW_BASE is not set: this is no CMSSW environment", _ENTER)
    number = re.match(r"CMSSW_(\d+)_(\d+)", name)
    if number and (int(number[1]), int(number[2])) < _OLDEST:
        return Finding(False, f"{name} is older than 13_3, whose packages NanoML needs", _ENTER)
    return Finding(True, f"{name} ({os.environ.get('SCRAM_ARCH', '?')}) in {os.environ['CMSSW_BASE']}")


def onnx_runtime() -> Finding:
    """Compare the ONNX Runtime that Python finds with that of the release, and with what the models in the area need.

    The release's is what SCRAM says or, if it says nothing, what is in the table of `nanoml export`.
    """
    name = os.environ.get("CMSSW_VERSION")
    try:
        here = importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError:
        return Finding(False, "Python finds none", "cmsenv, in an area of CMSSW_13_3 or newer")
    if not name:
        return Finding(True, f"{here}, outside CMSSW")
    base = os.environ.get("CMSSW_BASE")
    of_release, in_table = _by_scram(base) if base else None, _by_table(name)
    expected = of_release or in_table
    if expected not in (None, here):
        return Finding(
            False,
            f"Python finds {here}, but {name} has {expected}",
            "leave Python environments that hide the release's packages: deactivate, unset PYTHONPATH, then cmsenv",
        )
    too_new = _models_that_are_too_new(Path(base), here) if base else []
    if too_new:
        return Finding(
            False,
            f"{here} cannot read {', '.join(too_new)}",
            f"nanoml export TRAINING --onnxruntime {here} -o MODEL.onnx",
        )
    if in_table == here:
        return Finding(True, f"{here}, export.cmssw: {name}")
    known = f"the table says {in_table}" if in_table else f"{name} is not in the table"
    return Finding(True, f"{here} ({known}): export models by nanoml export --onnxruntime {here}")


def _by_scram(base: str) -> str | None:
    """Version of the release's ONNX Runtime, without the hash that CMS's builds put behind it."""
    answer = ask(["scram", "tool", "info", "onnxruntime"], _SCRAM_SECONDS, directory=base)
    found = re.search(r"^\s*Version\s*:\s*(\d+(?:\.\d+)+)", answer.text, re.M)
    return found[1] if answer.code == 0 and found else None


def _by_table(name: str) -> str | None:
    from MLTools.NanoML.workflow.stages import import_part

    try:
        version: str | None = import_part("ML_processing.export.releases").target(name).onnxruntime
    except NanoMLError:  # the part is not here, or the release not in its table
        return None
    return version


def _models_that_are_too_new(base: Path, onnxruntime: str) -> list[str]:
    """Models of `nanoml export` in the area's packages that this ONNX Runtime cannot read, each with the reason."""
    from MLTools.NanoML.model import twin_of
    from MLTools.NanoML.model.file import read_header
    from MLTools.NanoML.workflow.stages import import_part

    try:
        limits = import_part("ML_processing.export.releases").target(onnxruntime=onnxruntime)
    except NanoMLError:
        return []
    found = []
    for path in sorted((base / "src").glob("*/*/data/**/*.onnx")):
        if not twin_of(path).is_file():
            continue
        header = read_header(path)
        if (header.opset or 0) > limits.opset or (header.ir or 0) > limits.ir:
            needed = f"opset {header.opset}, IR {header.ir}; at most {limits.opset} and {limits.ir}"
            found.append(f"{path.relative_to(base / 'src')} ({needed})")
    return found


def area() -> Finding:
    """Check that NanoML is in the area, under the name that it must have, and built."""
    base = os.environ.get("CMSSW_BASE")
    if not base:
        return Finding(False, "CMSSW_BASE is not set: this is no CMSSW environment", _ENTER)
    source = Path(base, "src", PACKAGE)
    if not source.is_dir():
        return Finding(False, f"{source} is not there", f"git clone REPOSITORY {source}")
    plugin = Path(base, "lib", os.environ.get("SCRAM_ARCH", ""), PLUGIN)
    if not plugin.is_file():
        return Finding(False, f"{source} is not built", "cd $CMSSW_BASE/src && scram b -j4")
    newest = max((path.stat().st_mtime for path in source.glob("*/*.cc")), default=0.0)
    if newest > plugin.stat().st_mtime:
        return Finding(False, f"{source} was changed after it was built", "cd $CMSSW_BASE/src && scram b -j4")
    return Finding(True, str(source))
