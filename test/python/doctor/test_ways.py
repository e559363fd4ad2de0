"""`nanoml doctor`, whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.commands import start as command
from MLTools.NanoML.doctor.probe import Finding
from MLTools.NanoML.doctor.ways import CHECKS, WAYS, CheckState, examine, guess


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "MLTools.NanoML.cli", "doctor", *arguments]
    given = {name: value for name, value in os.environ.items() if not name.startswith(("CMSSW", "X509"))}
    return subprocess.run(line, cwd=cwd, env={**given, **environment}, capture_output=True, text=True, check=False)


def test_ways_name_checks_that_there_are() -> None:
    assert tuple(WAYS) == command.WAYS
    for way in WAYS.values():
        named = [*way.needs, *way.options]
        assert len(named) == len(set(named))
        assert set(named) <= set(CHECKS)
    assert set(CHECKS) == {name for way in WAYS.values() for name in (*way.needs, *way.options)}


@pytest.mark.parametrize("way", WAYS)
def test_nowhere_a_traceback(way: str, nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that has nothing of CERN's."""
    monkeypatch.chdir(nothing)
    done = CliRunner().invoke(nanoml, ["doctor", "--for", way, "--json"], standalone_mode=False)
    found = json.loads(done.output)
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert set(states) >= {*WAYS[way].needs, *WAYS[way].options}
    assert done.return_value == (0 if found["ready"] else 1)
    assert found["ready"] == ("missing" not in states.values())
    for check in found["checks"]:
        assert check["found"]
        assert (check["state"] == "fine") <= (not check["mend"])
        assert "could not be checked" not in check["found"]


def test_it_says_what_to_do(tmp_path: Path) -> None:
    done = run("--for", "crab", cwd=tmp_path, HOME=str(tmp_path), PATH="/nowhere", COLUMNS="200")
    assert done.returncode == 1
    assert "-> source /cvmfs/cms.cern.ch/common/crab-setup.sh" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Missing for crab: ")
    assert "a guess" not in done.stdout


@pytest.mark.parametrize("way", ["condor", "crab"])
def test_it_answers_where_packages_of_nanoml_are_missing(way: str, tmp_path: Path) -> None:
    hide = "import sys; sys.modules.update(dict.fromkeys(['yaml', 'numpy', 'jinja2']))"
    program = f"{hide}; from MLTools.NanoML.cli import main; main()"
    line = [sys.executable, "-c", program, "doctor", "--for", way, "--json"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert {*WAYS[way].needs} <= {check["name"] for check in json.loads(done.stdout)["checks"]}


def test_a_check_that_breaks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Finding:
        raise RuntimeError("boom")

    monkeypatch.setitem(CHECKS, "GPU", broken)  # type: ignore[index]
    found = examine("laptop")
    assert found.findings["GPU"].found == "could not be checked: RuntimeError: boom"
    assert found.state("GPU") is CheckState.ABSENT
    monkeypatch.setitem(CHECKS, "Python", broken)  # type: ignore[index]
    assert "Python" in examine("laptop").missing


def test_the_way_is_guessed(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert guess() == "laptop"
    (nothing / "sbatch").symlink_to(shutil.which("sh", path=os.defpath) or "/bin/sh")
    monkeypatch.setenv("PATH", str(nothing))
    assert guess() == "slurm"
    monkeypatch.setenv("CMSSW_BASE", "/somewhere")
    assert guess() == "cmssw"
    monkeypatch.setattr("socket.gethostname", lambda: "lxplus947.cern.ch")
    assert guess() == "lxplus"
    assert run(cwd=nothing, HOME=str(nothing), PATH=os.defpath).stdout.splitlines()[1].startswith("(a guess")
