"""Skims that are killed, started twice, or that read damaged files: all that is there afterwards is whole."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from MLTools.NanoML.rootio.baskets import PlainBranch
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import RootFile
from processes import nanoml
from services.rootfiles import record_of

READ = ("run", "luminosityBlock", "event", "MET_pt", "Muon_pt", "Muon_eta", "Jet_pt", "HLT_IsoMu24")
PHYSICS = """
import time
import awkward as ak
from MLTools.NanoML.selection import Column, Selection

class Even(Selection):
    branches = ("event", "MET_pt", "Muon_pt")
    columns = {"twice": Column("f4", "twice the missing momentum [GeV]"), "nSoft": Column("i4", "number of soft muons")}

    def select(self, events, cutflow):
        time.sleep(0.02)
        events = cutflow.cut("even", events.event % 2 == 0, events)
        events = cutflow.cut("a muon", ak.num(events.Muon.pt) > 0, events)
        return events, {"twice": 2 * events.MET.pt, "nSoft": ak.sum(events.Muon.pt < 10, axis=1)}
"""
INPUTS = [f"data{number}.root" for number in range(12)]
OPTIONS = (
    "--json", "golden.json", "--cut", "MET_pt > 10", "--selection", "physics.py:Even", "--keep", "*",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Events of the example as if they were data, in files of several baskets; and what decides on them."""
    directory = tmp_path_factory.mktemp("made")
    (directory / "golden.json").write_text(json.dumps({"1": [[1, 13001], [13003, 99999]]}))
    (directory / "physics.py").write_text(PHYSICS)
    runs = {"run": Branch("run", "uint32", "flat", "", None, "")}
    with RootFile(sample / "WZTo3LNu" / "WZTo3LNu_0.root") as file:
        for name in INPUTS:
            with NanoWriter(directory / name, {name: file.branches[name] for name in READ}, "ZLIB:1") as writer:
                for start in range(0, 400, 100):
                    arrays: dict[str, Any] = file.read(READ, start, start + 100)
                    arrays["event"] = np.asarray(arrays["event"]) + np.uint64(10_000 * INPUTS.index(name))
                    writer.events.extend(arrays)
                    writer.events.flush()
                writer.write_tree("Runs", runs, {"run": np.uint32([1])})
                writer.finish()
    return directory


@pytest.fixture
def directory(made: Path, tmp_path: Path) -> Path:
    """A directory in which they may be damaged."""
    return Path(shutil.copytree(made, tmp_path / "skim"))


def started(directory: Path, workers: int) -> subprocess.Popen[str]:
    """The command, in a group of processes of its own."""
    line = [sys.executable, "-m", "MLTools.NanoML.cli", "skim", *OPTIONS, "--workers", str(workers), "-o", "skims"]
    return subprocess.Popen(
        [*line, *INPUTS],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def here(directory: Path, output: str = "skims") -> tuple[int, str]:
    """The same command in this process."""
    done = nanoml("skim", *OPTIONS, "--workers", 1, "-o", output, *INPUTS, cwd=directory)
    return done.returncode, done.stderr


def wait_for(process: subprocess.Popen[str], is_due: Callable[[], bool]) -> None:
    while process.poll() is None and not is_due():
        time.sleep(0.005)


def content(path: Path) -> dict[str, Any]:
    """All values of all trees, in the bytes that numpy has for them, and the record."""
    found: dict[str, Any] = {}
    with uproot.open(path) as file:
        for tree in ("Events", "Runs", "nanoml"):
            for name, array in file[tree].arrays(how=dict).items():
                found[f"{tree}/{name}"] = [np.asarray(each).tobytes() for each in array]
    return found


def assert_whole(directory: Path) -> list[Path]:
    """Each file that has its name is complete."""
    paths = sorted(path for path in directory.glob("*.root") if not path.name.startswith("."))
    for path in paths:
        with RootFile(path) as file:
            assert record_of(path).accounting.selected == file.entries == len(file.read(["Muon_pt"])["Muon_pt"])
    return paths


@pytest.mark.exhaustive("skims that are killed or run at the same time")
def test_a_skim_that_is_killed_is_completed_by_the_next(directory: Path) -> None:
    skims, there = directory / "skims", []
    for least in (1, 6):
        process = started(directory, workers=2)
        wait_for(process, lambda least=least: len(list(skims.glob("data*.root"))) >= least)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        there.append(len(assert_whole(skims)))
    assert there == sorted(there)  # what was done stays
    (skims / INPUTS[0]).unlink()  # so that the next run has something to do
    for output in ("skims", "whole"):
        code, told = here(directory, output)
        assert code == 0, told
    assert not list(skims.glob("**/.*part*"))
    assert {path.name for path in assert_whole(skims)} == set(INPUTS)
    for name in INPUTS:
        one, two = (content(directory / output / name) for output in ("whole", "skims"))
        assert one == two, name
        assert one["Events/event"]
    luminosity = [(directory / output / "luminosity.json").read_bytes() for output in ("whole", "skims")]
    assert luminosity[0] == luminosity[1]


@pytest.mark.parametrize("name", ["MET_pt", "Jet_pt", ""])
def test_damage_is_one_message_and_no_output(directory: Path, name: str) -> None:
    """In a basket of MET_pt, which is read for all events; of Jet_pt, which is read for selected events only; or at the end of the file."""
    source = directory / INPUTS[0]
    if name:
        with RootFile(source) as file:
            plain = PlainBranch.of(file._objects[name])
        assert plain is not None
        assert len(plain.seek) == 4
        with open(source, "r+b") as damaged:
            damaged.seek(int(plain.seek[1]))
            damaged.write(bytes(40))
    else:
        os.truncate(source, source.stat().st_size // 2)
    done = nanoml("skim", *OPTIONS, "--workers", 1, "-o", "skims", source.name, cwd=directory)
    assert done.returncode == 1
    assert done.stderr.count("It may be truncated or damaged: fetch it again.") == 1, done.stderr
    assert source.name in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((directory / "skims").glob("*.root"))
    assert not list((directory / "skims").glob("**/.*part*"))
