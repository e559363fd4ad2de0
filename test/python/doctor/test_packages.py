from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from MLTools.NanoML.doctor import packages

ROOT = Path(__file__).resolve().parents[3]


def required() -> dict[str, dict[str, str]]:
    """The packages of each part, as pyproject.toml has them."""
    text = (ROOT / "pyproject.toml").read_text()

    def listed(key: str) -> dict[str, str]:
        (block,) = re.findall(rf"^{key} = \[(.*?)\]$", text, re.M | re.S)
        return dict(re.findall(r'"([\w-]+)>=([\d.]+)"', block))

    return {
        "core": listed("dependencies"),
        **{name: listed(name) for name in packages.PARTS if name != "core"},
    }


def test_the_table_is_that_of_the_packaging() -> None:
    assert required() == packages.PARTS


def test_the_packages_of_the_tests_are_here() -> None:
    finding = packages.part("core")
    assert finding.fine, finding.found
    assert re.search(r"uproot \d+\.\d+", finding.found)
    assert packages.python().fine
    assert sys.executable in packages.python().found


def test_what_is_missing_or_old_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"numpy": "999.1", "no-such-package": "1.0", "click": "1.0"}
    monkeypatch.setitem(packages.PARTS, "tune", wanted)
    finding = packages.part("tune")
    assert not finding.fine
    assert re.fullmatch(r"no no-such-package; numpy [\d.]+ \(older than 999\.1\)", finding.found)
    assert finding.mend == f"pip install '{ROOT}[tune]'"


def test_a_package_without_a_version_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(packages.PARTS, "tune", {"json": "1.0"})
    assert packages.part("tune").fine


def test_in_cmssw_its_python_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(packages.PARTS, "train", {"no-such-package": "1.0"})
    monkeypatch.setenv("CMSSW_BASE", "/somewhere")
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert packages.part("train").mend.startswith("in a shell without cmsenv: python3 -m venv ~/nanoml && ")
