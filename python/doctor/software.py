"""Software: Python and its packages, ROOT, CMSSW with its ONNX Runtime, GPUs; in checks, and in lines for bug reports.

Nothing is imported, which would take seconds. A check may ask programs and file systems, and does not hang with them.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from MLTools.NanoML import __version__
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extending import extensions, listed_extensions
from MLTools.NanoML.installation import TO_GET_NANOAOD_TOOLS, checkout, how_to_install, is_found

SECONDS = 4.0
"""The longest that one question takes."""
_PARTS = {
    "core": "numpy>=1.24.3 awkward>=2.1.1 uproot>=5.0.7 vector>=1.0.0 h5py>=3.8.0 onnx>=1.14.0 onnxruntime>=1.14.1 "
    "PyYAML>=6.0 click>=8.1.3 rich>=13.3.3 jsonschema>=4.17.3 Jinja2>=3.1.2 cryptography>=41.0.3",
    "data": "lz4>=4.3 xxhash>=3.0 zstandard>=0.20",
    "xrootd": "xrootd>=5.6 fsspec-xrootd>=0.2.4",
    "train": "torch>=2.9 onnxscript>=0.7 lightgbm>=4.6 scipy>=1.11 matplotlib>=3.8 mplhep>=1.0 onnx>=1.16",
    "tune": "optuna>=5.0",
}
_PARTS |= {it.extra: it.packages for it in extensions().values() if it.packages}
PARTS = {part: dict(each.split(">=") for each in packages.split()) for part, packages in _PARTS.items()}
"""The packages of each part, with the oldest version that will do, as in pyproject.toml, which CMSSW does not install."""

_MODULES = {  # packages that are imported by another name
    "PyYAML": "yaml",
    "Jinja2": "jinja2",
    "xrootd": "XRootD",
}
PACKAGE = "MLTools/NanoML"
PLUGIN = "pluginMLToolsNanoMLPlugins.so"
_REPORTED = (
    "numpy", "awkward", "uproot", "vector", "h5py", "onnxruntime", "click", "rich", "torch", "lightgbm", "onnx",
    "optuna", "xrootd",
)  # fmt: skip
_VARIABLES = ("CMSSW_VERSION", "SCRAM_ARCH", "VIRTUAL_ENV", "CONDA_PREFIX")
_HERE = Path(__file__).resolve().parents[1]
_OLDEST = (13, 3)
_SCRAM_SECONDS = 20.0  # the first time, its files come from CVMFS
_ENTER = "cd YOUR_AREA/src && cmsenv, or first: cmsrel CMSSW_14_0_19"


@dataclass(frozen=True)
class Finding:
    """The finding of one check."""

    fine: bool  # whether the thing is there, and as it should be
    found: str  # "3.11.7", "expired 2 hours ago"
    mend: str = ""  # what to do about it, a command if there is one; empty if it is fine


@dataclass(frozen=True)
class Reply:
    """A program's exit code, None if it did not answer in time, and its standard output and standard error."""

    code: Optional[int]
    text: str

    @property
    def first_line(self) -> str:
        """The first line that is not empty, for messages."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return lines[0] if lines else f"no answer in {SECONDS:.0f} s" if self.code is None else "no answer"


def has(program: str) -> bool:
    """Whether a program is in the PATH."""
    return shutil.which(program) is not None


def ask(command: Sequence[str], seconds: float = SECONDS, directory: Optional[str] = None) -> Reply:
    """Run a program. After `seconds` it is killed with all that it started; if even that fails, it is left alone."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory,
            start_new_session=True,
        )
    except OSError as problem:
        return Reply(127, str(problem))
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # what hangs in the kernel cannot even be killed
            process.communicate(timeout=0.5)
        return Reply(None, "")
    return Reply(process.returncode, (out + err).decode(errors="replace"))


def answers(path: Path, seconds: float = SECONDS) -> Optional[bool]:
    """Whether there is such a file or directory; None if its file system does not answer in time."""
    code = ask(["ls", "-d", str(path)], seconds).code
    return None if code is None else code == 0


def report() -> list[str]:
    """Versions of NanoML, Python, the system and the packages that matter, in lines, for bug reports."""
    found = {name: _version(name) for name in _REPORTED}
    lines = [
        f"nanoml {__version__} (Python {platform.python_version()})",
        f"at: {_HERE}" + (f", commit {commit}" if (commit := _commit()) else ""),
        f"python: {sys.executable}",
        f"system: {platform.platform()}",
        f"packages: {', '.join(f'{name} {version}' for name, version in found.items() if version)}",
        f"without: {', '.join(name for name, version in found.items() if not version) or 'nothing'}",
        f"extensions: {listed_extensions()}",
    ]
    return lines + [f"{name}: {os.environ[name]}" for name in _VARIABLES if os.environ.get(name)]


def _commit() -> str | None:
    """The commit of a checkout, with "-dirty" if files differ from it."""
    if not (_HERE.parent / ".git").exists():
        return None
    answer = ask(["git", "-C", str(_HERE.parent), "describe", "--always", "--dirty", "--exclude=*"])
    return answer.text.strip() if answer.code == 0 else None


def python() -> Finding:
    """Check the version of Python: 3.9, and for training 3.10."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info >= (3, 10):
        return Finding(True, found)
    return Finding(True, f"{found}: all but training, which needs 3.10")


def packages(part: str) -> Finding:
    """Check that the packages of a part are here and new enough."""
    versions = {package: _version(package) for package in PARTS[part]}
    missing = [package for package, version in versions.items() if version is None]
    old = [
        f"{package} {version} (older than {PARTS[part][package]})"
        for package, version in versions.items()
        if version and _numbers(version) < _numbers(PARTS[part][package])
    ]
    if missing or old:
        absent = [f"no {', '.join(missing)}"] if missing else []
        mend = how_to_install("all" if part == "core" else part)
        # CMSSW's builds have PyTorch for Python since November 2025
        if versions.get("torch") and not old and "CMSSW_BASE" in os.environ and sys.version_info >= (3, 10):
            mend = "beside the release's PyTorch: python3 -m venv --system-site-packages ~/nanoml && ~/nanoml/bin/pip install "
            mend += " ".join(missing)
        return Finding(False, "; ".join([*absent, *old]), mend)
    return Finding(True, ", ".join(f"{package} {version}".strip() for package, version in versions.items()))


def _version(package: str) -> str | None:
    """The version of a package; empty if it is here without one; None if it is not here."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "" if importlib.util.find_spec(_MODULES.get(package, package.replace("-", "_"))) else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0])[:3])


def root() -> Finding:
    """Check that Python finds ROOT."""
    if importlib.util.find_spec("ROOT") is None:
        mend = "only for --engine nanoaodtools: cmsenv, or pip install root"
        return Finding(False, "Python finds none; NanoML reads and writes ROOT files without it", mend)
    answer = ask(["root-config", "--version"]) if has("root-config") else None
    return Finding(True, answer.text.strip() if answer and answer.code == 0 else "Python finds it")


def nanoaod_tools() -> Finding:
    """Check that Python finds nanoAOD-tools."""
    if not is_found("PhysicsTools.NanoAODTools"):
        mend = f"only for modules (nanoml skim --module) and --engine nanoaodtools: {TO_GET_NANOAOD_TOOLS}"
        return Finding(False, "Python finds no PhysicsTools.NanoAODTools", mend)
    return Finding(True, "PhysicsTools.NanoAODTools")


def cmssw() -> Finding:
    """Check that this is the environment of a release that NanoML's Python runs in."""
    name = os.environ.get("CMSSW_VERSION", "")
    if not os.environ.get("CMSSW_BASE"):
        return Finding(False, "CMSSW_BASE is not set: this is not a CMSSW environment", _ENTER)
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
        mend = "leave Python environments that hide the release's packages: deactivate, unset PYTHONPATH, then cmsenv"
        return Finding(False, f"Python finds {here}, but {name} has {expected}", mend)
    too_new = _models_that_are_too_new(Path(base), here) if base else []
    if too_new:
        mend = f"nanoml export TRAINING --onnxruntime {here} -o MODEL.onnx"
        return Finding(False, f"{here} cannot read {', '.join(too_new)}", mend)
    if in_table == here:
        return Finding(True, f"{here}, export.cmssw: {name}")
    known = f"the table says {in_table}" if in_table else f"{name} is not in the table"
    return Finding(True, f"{here} ({known}): export models by nanoml export --onnxruntime {here}")


def _by_scram(base: str) -> str | None:
    """Version of the release's ONNX Runtime, without the hash that CMS's builds append."""
    answer = ask(["scram", "tool", "info", "onnxruntime"], _SCRAM_SECONDS, directory=base)
    found = re.search(r"^\s*Version\s*:\s*(\d+(?:\.\d+)+)", answer.text, re.M)
    return found[1] if answer.code == 0 and found else None


def _by_table(name: str) -> str | None:
    from MLTools.NanoML.stages import import_part

    try:
        version: str | None = import_part("ML_processing.export.releases").target(name).onnxruntime
    except NanoMLError:  # ML_processing is not here, or the release is not in its table
        return None
    return version


def _models_that_are_too_new(base: Path, onnxruntime: str) -> list[str]:
    """Models of `nanoml export` in the area's packages that this ONNX Runtime cannot read, each with the reason."""
    from MLTools.NanoML.model import twin_of
    from MLTools.NanoML.model.file import read_header
    from MLTools.NanoML.stages import import_part

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


def cmssw_area() -> Finding:
    """Check that NanoML is in the area, under the name that it must have, and has been built."""
    base = os.environ.get("CMSSW_BASE")
    if not base:
        return Finding(False, "CMSSW_BASE is not set: this is not a CMSSW environment", _ENTER)
    source = Path(base, "src", PACKAGE)
    if not source.is_dir():
        place = checkout()
        is_clone = place is not None and (place / ".git").exists()
        mend = f"git clone {place} {source}" if is_clone else f"put a clone of NanoML at {source}"
        return Finding(False, f"{source} is not there", mend)
    plugin = Path(base, "lib", os.environ.get("SCRAM_ARCH", ""), PLUGIN)
    if not plugin.is_file():
        return Finding(False, f"{source} is not built", "cd $CMSSW_BASE/src && scram b -j4")
    newest = max((path.stat().st_mtime for path in source.glob("*/*.cc")), default=0.0)
    if newest > plugin.stat().st_mtime:
        return Finding(False, f"{source} was changed after it was built", "cd $CMSSW_BASE/src && scram b -j4")
    return Finding(True, str(source))


def gpu() -> Finding:
    """Check which GPUs the driver knows."""
    none = "training uses the processor, which is enough for networks of a few thousand weights"
    if not has("nvidia-smi"):
        return Finding(False, "none (no nvidia-smi)", none)
    answer = ask(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"])
    cards = [line.strip() for line in answer.text.splitlines() if line.strip()]
    if answer.code != 0 or not cards:
        return Finding(False, f"nvidia-smi: {answer.first_line}", none)
    return Finding(True, "; ".join(cards))
