"""The versions that were tested, constraints.txt, go with what pyproject.toml asks for."""

from __future__ import annotations

import os
import shutil
import subprocess
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


def test_an_environment_that_is_there_gets_them(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "setup.py", FILE.name):
        shutil.copy(FILE.with_name(name), tmp_path)
    (tmp_path / ".venv").mkdir()
    for name in (".created", ".installed-all,xrootd,dask,tensorboard,mlflow,test,dev,doc"):
        (tmp_path / ".venv" / name).touch()

    def make(*constraints: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "--dry-run", "install", *constraints]
        alone = {"PATH": os.environ["PATH"]}  # without the settings of a make that runs these tests
        return subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, check=False)

    assert "pip install" not in make().stdout
    assert f"--constraint {FILE.name}" in make(f"CONSTRAINTS={FILE.name}").stdout
    assert "CONSTRAINTS=none.txt: there is no such file" in make("CONSTRAINTS=none.txt").stderr
