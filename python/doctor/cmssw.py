"""CMSSW: the release, its ONNX Runtime, and NanoML in its area."""

from __future__ import annotations

import importlib.metadata
import os
import re
from pathlib import Path

from MLTools.NanoML.doctor.finding import Finding
from MLTools.NanoML.errors import NanoMLError

__all__ = ["area", "onnx_runtime", "release"]

PACKAGE = "MLTools/NanoML"
PLUGIN = "pluginMLToolsNanoMLPlugins.so"
_OLDEST = (13, 3)
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
    """Compare the ONNX Runtime that Python finds with that of the release."""
    name = os.environ.get("CMSSW_VERSION")
    try:
        here = importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError:
        return Finding(False, "Python finds none", "cmsenv, in an area of CMSSW_13_3 or newer")
    if not name:
        return Finding(True, f"{here}, of no release")
    expected = _of_release(name)
    if expected is None or expected == here:
        return Finding(True, f"{here}, export.cmssw: {name}" + ("" if expected else " (not in the table)"))
    return Finding(
        False,
        f"Python finds {here}, but {name} has {expected}",
        "leave environments of Python's that hide the release's packages: deactivate, unset PYTHONPATH, then cmsenv",
    )


def _of_release(name: str) -> str | None:
    from MLTools.NanoML.pipeline import import_part

    try:
        version: str | None = import_part("ML_processing", "releases").target(name).onnxruntime
    except NanoMLError:  # the part is not here, or the release not in its table
        return None
    return version


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
