"""Which tests may skip. With --strict-skips, as in .ci/run, any other skip is a failure."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_ROOT = Path(__file__).resolve().parent.parent
_HAS_CMSSW_VERSIONS = np.lib.NumpyVersion(np.__version__) < "2.0.0"
_HAS_DATA = bool(os.environ.get("NANOML_TEST_DATA")) or (_ROOT.parent / "shared" / "data").is_dir()

DECLARED = {
    "nanoAOD-tools, and the ROOT that it needs, come with CMSSW": [
        r"needs .*\b(ROOT|nanoAOD-tools|NanoAODTools)\b",
        "could not import '(ROOT|PhysicsTools|FWCore)",
        "nano_postproc.py is not in the PATH",
        "this is not CMSSW",
    ],
    "what is tested is that they are not there": ["ROOT is here", "ROOT and nanoAOD-tools are here"],
    "nanoAOD-tools reads trees alone": ["nanoAOD-tools reads no RNTuple"],
    "it would bring older versions of our packages": ["could not import 'coffea"],
    "CERN distributes it, not Debian": ["dasgoclient is not installed"],
    "it needs packages that contradict ours": [
        "salt is not in the PATH",
        "name versions of ONNX Runtime by NANOML_TEST_RUNTIMES",
    ],
    "other people's files are not copied into the repository": [r"name .* by NANOML_TEST_(COMBINE|STAU)"],
    "LaTeX is large, and only users of tables need it": ["there is no LaTeX"],
    "an example without training has no scores to check": ["is not for training"],
    "NANOML_WITHOUT hides extensions that the manual has": ["extensions of the manual are hidden"],
}
"""Why a test may skip, with patterns of what it then says."""

if _HAS_CMSSW_VERSIONS:
    DECLARED["CMSSW's uproot cannot do it"] = [r"uproot 5\.0\.\d+ (reads|writes) no (RNTuple|strings)"]
    DECLARED["what runs in CMSSW does without it"] = [
        "could not import '(ML_processing|distributed|hepdata_validator|isal|material|matplotlib|mplhep|optuna|pyhf|torch|tritonclient)",
        "a part, or what it needs, is not here",
    ]
if not _HAS_DATA:
    DECLARED["real files may not be copied into the repository"] = ["name .* by NANOML_TEST_DATA"]
if os.name == "posix":
    DECLARED["what root may do differs"] = [
        "root may read every" if os.geteuid() == 0 else "mounting a small file system takes root"
    ]
if sys.version_info < (3, 10):
    DECLARED["no PyTorch of today has a wheel for this Python"] = ["training needs Python 3.10"]
if sys.version_info < (3, 11):
    DECLARED["Python has no tomllib yet"] = ["reading pyproject.toml takes Python 3.11"]
if sys.version_info >= (3, 13):
    DECLARED["so old a version has no wheel for this Python"] = ["no wheel of ONNX Runtime"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    text = f"a test that skips for a reason that {Path(__file__).name} does not declare fails"
    parser.addoption("--strict-skips", action="store_true", help=text)


def is_declared(reason: str) -> bool:
    """Whether a test may skip for this reason."""
    return any(re.search(pattern, reason) for patterns in DECLARED.values() for pattern in patterns)


def _judge(report: Any, config: pytest.Config) -> None:
    if not config.getoption("strict_skips") or not report.skipped or hasattr(report, "wasxfail"):
        return
    path, line, reason = report.longrepr
    if not is_declared(reason):
        report.outcome = "failed"
        report.longrepr = f"{path}:{line}: {reason}\n{__file__} does not declare this reason."


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Judge the skip of a test."""
    _judge((yield).get_result(), item.config)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, None]:
    """Judge the skip of a module."""
    _judge((yield).get_result(), collector.config)
