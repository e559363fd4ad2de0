"""Python, and the packages of each part of NanoML."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import sys

from MLTools.NanoML.doctor.finding import Finding
from MLTools.NanoML.installation import how_to_install

__all__ = ["PARTS", "part", "python"]

PARTS: dict[str, dict[str, str]] = {
    "core": {
        "numpy": "1.24.3",
        "awkward": "2.1.1",
        "uproot": "5.0.7",
        "vector": "1.0.0",
        "h5py": "3.8.0",
        "onnxruntime": "1.14.1",
        "PyYAML": "6.0",
        "click": "8.1.3",
        "rich": "13.3.3",
        "jsonschema": "4.17.3",
        "Jinja2": "3.1.2",
        "cryptography": "41.0.3",
    },
    "data": {"lz4": "4.3", "xxhash": "3.0", "zstandard": "0.20"},
    "xrootd": {"xrootd": "5.6", "fsspec-xrootd": "0.2.4"},
    "train": {
        "torch": "2.5",
        "scikit-learn": "1.7",
        "threadpoolctl": "3.2",
        "matplotlib": "3.8",
        "mplhep": "1.0",
        "onnx": "1.16",
    },
    "tune": {"optuna": "5.0"},
}
"""The packages of each part, with the oldest version that will do, as in pyproject.toml, which CMSSW does not install."""

# where the name to import is another
_MODULES = {
    "PyYAML": "yaml",
    "Jinja2": "jinja2",
    "scikit-learn": "sklearn",
    "xrootd": "XRootD",
    "fsspec-xrootd": "fsspec_xrootd",
}


def python() -> Finding:
    """Check the version of Python: 3.9, and for training 3.10."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info >= (3, 10):
        return Finding(True, found)
    return Finding(True, f"{found}: all but training, which needs 3.10")


def part(name: str) -> Finding:
    """Check that the packages of a part are here and new enough. None is imported, which would take seconds."""
    versions = {package: _version(package) for package in PARTS[name]}
    missing = [package for package, version in versions.items() if version is None]
    old = [
        f"{package} {version} (older than {PARTS[name][package]})"
        for package, version in versions.items()
        if version and _numbers(version) < _numbers(PARTS[name][package])
    ]
    if missing or old:
        told = [f"no {', '.join(missing)}"] if missing else []
        return Finding(False, "; ".join([*told, *old]), how_to_install("all" if name == "core" else name))
    return Finding(True, ", ".join(f"{package} {version}".strip() for package, version in versions.items()))


def _version(package: str) -> str | None:
    """The version of a package; empty if it is here but does not say; None if it is not here."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "" if importlib.util.find_spec(_MODULES.get(package, package)) else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0])[:3])
