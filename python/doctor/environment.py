"""What NanoML runs in, for bug reports."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Optional

from MLTools.NanoML import __version__

__all__ = ["report"]

_PACKAGES = (
    "numpy", "awkward", "uproot", "vector", "h5py", "onnxruntime", "click", "rich", "torch", "scikit-learn", "onnx",
    "optuna", "xrootd",
)  # fmt: skip
_VARIABLES = ("CMSSW_VERSION", "SCRAM_ARCH", "VIRTUAL_ENV", "CONDA_PREFIX")
_HERE = Path(__file__).resolve().parents[1]


def report() -> list[str]:
    """Versions of NanoML, Python, the system and the packages that matter, in lines."""
    found = {name: _version(name) for name in _PACKAGES}
    lines = [
        f"nanoml {__version__} (Python {platform.python_version()})",
        f"at: {_HERE}" + (f", commit {commit}" if (commit := _commit()) else ""),
        f"python: {sys.executable}",
        f"system: {platform.platform()}",
        f"packages: {', '.join(f'{name} {version}' for name, version in found.items() if version)}",
        f"without: {', '.join(name for name, version in found.items() if not version) or 'nothing'}",
    ]
    return lines + [f"{name}: {os.environ[name]}" for name in _VARIABLES if os.environ.get(name)]


def _version(package: str) -> Optional[str]:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> Optional[str]:
    """The commit of a checkout, with "-dirty" if files differ from it."""
    if not (_HERE.parent / ".git").exists():
        return None
    command = ["git", "-C", str(_HERE.parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
