from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from MLTools.NanoML import __version__, installation

ROOT = Path(__file__).resolve().parents[2]


def test_in_a_checkout_its_parts_are_installed_from_it() -> None:
    assert installation.checkout() == ROOT
    assert installation.how_to_install("train") == f"pip install '{ROOT}[train]'"


@pytest.mark.parametrize("there", [True, False])
def test_a_wheel_knows_the_checkout_that_it_is_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    class Wheel:
        def read_text(self, name: str) -> str:
            assert name == "direct_url.json"
            return json.dumps({"url": f"file://{tmp_path}/my%20checkout" if there else "https://somewhere/nanoml.whl"})

    def distribution(_: str) -> Any:
        return Wheel()

    checkout = tmp_path / "my checkout"
    (checkout / "python").mkdir(parents=True)
    (checkout / "pyproject.toml").touch()
    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    monkeypatch.setattr(installation, "__file__", str(tmp_path / "site-packages/MLTools/NanoML/installation.py"))
    expected = f"pip install '{checkout}[tune]'" if there else "pip install '.[tune]', in a checkout of NanoML"
    assert installation.how_to_install("tune") == expected


CONDA = {"PyYAML": "pyyaml", "Jinja2": "jinja2", "torch": "pytorch", "matplotlib": "matplotlib-base"}
CONDA |= {"xxhash": "python-xxhash", "isal": "python-isal"}
"""Packages that have other names in conda-forge."""


def _lowest(versions: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", versions.partition(",")[0])]


def test_the_version_is_the_last_one_of_the_changelog_and_of_the_citation() -> None:
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    assert (released[0], cited) == (__version__, __version__)


def test_the_environment_of_conda_is_that_of_the_packaging() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    wanted = {"python": ">=3.10"}  # training needs it
    parts = "dependencies|all|data|fast|corrections|train|tune|fit|publish|xrootd|dask"
    for block in re.findall(rf"^(?:{parts}) = \[(.*?)\]$", text, re.M | re.S):
        for name, versions in re.findall(r'"([\w-]+)(>=[\d.]+(?:,<[\d.]+)?)"', block):
            name = CONDA.get(name, name)
            wanted[name] = max(wanted.get(name, ""), versions, key=_lowest)
    *packages, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert pip == {"pip": ["-e ."]}
    found = (re.match(r"([\w-]+)(.*)", package) for package in packages if package != "pip")
    assert {it[1]: it[2] for it in found if it} == wanted


FILE = ROOT / "constraints.txt"


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
