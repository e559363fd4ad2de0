"""Skims that are killed, started twice, or that read damaged files: all that is there afterwards is whole."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.baskets import PlainBranch
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import RootFile
from processes import nanoml

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
OPTIONS = (
    "--json", "golden.json", "--cut", "MET_pt > 10", "--selection", "physics.py:Even", "--keep", "*",
)  # fmt: skip


@pytest.fixture
def inputs(sample: Path, tmp_path: Path) -> list[str]:
    """Events of the example as if they were data, in files of several baskets; and what decides on them."""
    (tmp_path / "golden.json").write_text(json.dumps({"1": [[1, 13001], [13003, 99999]]}))
    (tmp_path / "physics.py").write_text(PHYSICS)
    runs = {"run": Branch("run", "uint32", "flat", "", None, "")}
    with RootFile(sample / "WZTo3LNu" / "WZTo3LNu_0.root") as file:
        for number in range(12):
            path = tmp_path / f"data{number}.root"
            with NanoWriter(path, {name: file.branches[name] for name in READ}, "ZLIB:1") as writer:
                for start in range(0, 400, 100):
                    arrays: dict[str, Any] = file.read(READ, start, start + 100)
                    arrays["event"] = np.asarray(arrays["event"]) + np.uint64(10_000 * number)
                    writer.events.extend(arrays)
                    writer.events.flush()
                writer.write_tree("Runs", runs, {"run": np.uint32([1])})
                writer.finish()
    return [f"data{number}.root" for number in range(12)]


def started(inputs: list[str], output: str, directory: Path, workers: int = 2) -> subprocess.Popen[str]:
    """The command, in a group of processes of its own."""
    options = (*OPTIONS, "--workers", str(workers), "-o", output)
    line = [sys.executable, "-m", "MLTools.NanoML.cli", "skim", *options, *inputs]
    return subprocess.Popen(
        line, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, told = process.communicate(timeout=300)
    return process.returncode, told


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
            record = Provenance.of(file)
            assert record is not None
            assert record.accounting.selected == file.entries == len(file.read(["Muon_pt"])["Muon_pt"])
    return paths


@pytest.mark.slow
def test_a_skim_that_is_killed_at_any_moment_is_completed_by_the_next(inputs: list[str], tmp_path: Path) -> None:
    begin = time.monotonic()
    code, told = ended(started(inputs, "whole", tmp_path))
    duration = time.monotonic() - begin
    assert code == 0, told
    moments = random.Random(7)
    there = []
    for _ in range(3):
        process = started(inputs, "killed", tmp_path)
        time.sleep(duration * moments.uniform(0.4, 0.95))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        there.append(len(assert_whole(tmp_path / "killed")))
    assert there == sorted(there)  # what was done stays
    (tmp_path / "killed" / inputs[0]).unlink(missing_ok=True)  # so that the next run has something to do
    code, told = ended(started(inputs, "killed", tmp_path))
    assert code == 0, told
    assert not list((tmp_path / "killed").glob("**/.*part*"))
    names = {path.name for path in (tmp_path / "whole").glob("*.root")}
    assert {path.name for path in assert_whole(tmp_path / "killed")} == names == set(inputs)
    for name in names:
        one, two = (content(tmp_path / directory / name) for directory in ("whole", "killed"))
        assert one == two, name
        assert one["Events/event"]
    luminosity = [(tmp_path / directory / "luminosity.json").read_bytes() for directory in ("whole", "killed")]
    assert luminosity[0] == luminosity[1]


@pytest.mark.slow
def test_a_second_skim_into_the_same_directory_is_told_of_the_first(inputs: list[str], tmp_path: Path) -> None:
    first = started(inputs, "skims", tmp_path, workers=1)
    lock = tmp_path / "skims" / ".nanoml" / "lock"
    while first.poll() is None and not (lock.exists() and lock.read_text()):
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGSTOP)
    code, told = ended(started(inputs, "skims", tmp_path))
    os.killpg(first.pid, signal.SIGCONT)
    assert (code, ended(first)[0]) == (1, 0)
    assert "another run is active here (process " in told
    assert "Traceback" not in told
    assert len(assert_whole(tmp_path / "skims")) == len(inputs)


@pytest.mark.parametrize("name", ["MET_pt", "Muon_pt", "Jet_pt"])
def test_a_damaged_basket_is_one_message_and_no_output(inputs: list[str], tmp_path: Path, name: str) -> None:
    """MET_pt and Muon_pt are read of all events, Jet_pt only where events are kept."""
    source = tmp_path / inputs[0]
    with RootFile(source) as file:
        plain = PlainBranch.of(file._objects[name])
    assert plain is not None
    assert len(plain.seek) == 4
    with open(source, "r+b") as damaged:
        damaged.seek(int(plain.seek[1]))
        damaged.write(bytes(40))
    check_refused(source, tmp_path)


def test_a_truncated_file_is_one_message_and_no_output(inputs: list[str], tmp_path: Path) -> None:
    source = tmp_path / inputs[0]
    os.truncate(source, source.stat().st_size // 2)
    check_refused(source, tmp_path)


def check_refused(source: Path, directory: Path) -> None:
    done = nanoml("skim", *OPTIONS, "--workers", 1, "-o", "skims", source.name, cwd=directory)
    assert done.returncode == 1
    assert done.stderr.count("It may be truncated or damaged: fetch it again.") == 1, done.stderr
    assert source.name in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((directory / "skims").glob("*.root"))
    assert not list((directory / "skims").glob("**/.*part*"))
