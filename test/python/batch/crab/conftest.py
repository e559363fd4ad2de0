"""An analysis whose skims CRAB runs, and a stand-in for CRAB's client."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

CLIENT = Path(__file__).resolve().parents[3] / "services" / "crabclient.py"
FILES = {"WZ": "/store/mc/a/WZ.root", "ZG": "/store/mc/a/ZG.root"}


@dataclass(frozen=True)
class Crab:
    """The directory that is the stand-in's server."""

    path: Path

    @property
    def calls(self) -> list[list[str]]:
        """What the client was called with, but for the questions how tasks go."""
        lines = (self.path / "calls.jsonl").read_text().splitlines() if any(self.path.glob("calls*")) else []
        return [call for call in map(json.loads, lines) if call[0] != "status"]

    def says(
        self, request: str, server: str = "SUBMITTED", jobs: Mapping[str, Any] | None = None, **more: Any
    ) -> None:
        """Let the server say this of a task from now on."""
        content = {"server": server, "scheduler": "SUBMITTED" if jobs else "", "jobs": jobs or {}, **more}
        (self.path / f"{request}.json").write_text(json.dumps(content))

    def set(self, name: str, text: str = "") -> None:
        """Make it refuse, be silent or die."""
        (self.path / name).write_text(text)

    def unset(self, name: str) -> None:
        """Let it work again."""
        (self.path / name).unlink()


@pytest.fixture
def crab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Crab:
    """CRAB's client is in the PATH."""
    server, binaries = tmp_path / "server", tmp_path / "bin"
    server.mkdir()
    binaries.mkdir()
    script = binaries / "crab"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(CLIENT))} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CRAB_STAND_IN", str(server))
    monkeypatch.setenv("CMSSW_VERSION", "CMSSW_13_3_3")
    monkeypatch.setenv("PATH", os.pathsep.join([str(binaries), os.environ["PATH"]]))
    return Crab(server)


@pytest.fixture
def analysis(tmp_path: Path) -> Callable[..., Path]:
    """Makes the configuration of an analysis of the grid's files, in a directory with a name that shells stumble over."""
    pytest.importorskip("data_processing")
    base = tmp_path / "it's [my] $place"
    base.mkdir()

    def make(
        files: Mapping[str, str] = FILES,
        cut: str = "MET_pt > 30",
        site: str | None = "T2_CH_CERN",
        **batch: Any,
    ) -> Path:
        content = {
            "luminosity": 1.0,
            "datasets": {
                name: {"files": file, "class": name, "cross_section": 1.0} for name, file in files.items()
            },
            "skim": {"cut": cut},
            "batch": {**({"grid": {"site": site}} if site else {}), **batch},
        }
        path = base / "ana.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return make
