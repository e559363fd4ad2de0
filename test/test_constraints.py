"""The versions that were tested, constraints.txt, go with what pyproject.toml asks for."""

from __future__ import annotations

from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FILE = Path(__file__).resolve().parents[1] / "constraints.txt"


def test_each_package_has_a_version_that_is_allowed() -> None:
    lines = [line.split("==") for line in FILE.read_text().splitlines() if not line.startswith("#")]
    tested = {canonicalize_name(name): version for name, version in lines}
    needed = [each for each in map(Requirement, requires("nanoml") or []) if each.name != "nanoml"]
    assert len(needed) > 30
    for each in needed:
        version = tested.get(canonicalize_name(each.name))
        assert version, f"{each.name} is not in {FILE.name}: make constraints"
        assert each.specifier.contains(version, prereleases=True), f"{each} is asked for, {version} was tested"
