"""The same modules in nanoAOD-tools itself; needs ROOT, and nanoAOD-tools on the import path."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from services.nanoaodtools import needs_cmssw_tools

pytest.importorskip("ROOT")
pytest.importorskip("PhysicsTools.NanoAODTools")

# what CMSSW has for reduced precision, and a standalone nanoAOD-tools lacks
PROGRAM = '''
import importlib, sys
import ROOT
from PhysicsTools.NanoAODTools.postprocessing.framework.postprocessor import PostProcessor

if not hasattr(ROOT, "MiniFloatConverter"):
    ROOT.gInterpreter.Declare("""
    #include <cstdint>
    #include <cstring>
    struct ReduceMantissaToNbitsRounding {
      int dropped; uint32_t largest;
      ReduceMantissaToNbitsRounding(int bits) : dropped(23 - bits), largest((1u << bits) - 2u) {}
      float operator()(float value) const {
        uint32_t raw;
        std::memcpy(&raw, &value, 4);
        uint32_t mantissa = (raw & 0x7FFFFFu) >> dropped;
        if (((raw >> (dropped - 1)) & 1u) && mantissa < largest) ++mantissa;
        raw = (raw & 0xFF800000u) | (mantissa << dropped);
        std::memcpy(&value, &raw, 4);
        return value;
      }
    };
    namespace MiniFloatConverter { using ::ReduceMantissaToNbitsRounding; }
    """)
directory, output, path, cut, *specs = sys.argv[1:]
sys.path.append(directory)
modules = []
for spec in specs:
    place, name = spec.split(".py:")
    thing = getattr(importlib.import_module(place), name)
    modules += [part() for part in thing] if isinstance(thing, list) else [thing()]
PostProcessor(output, [path], cut=cut or None, modules=modules, compression="none", postfix="_theirs").run()
'''
LEPTONS = ["leptons.py:Leptons", "jet_sums.py:jet_sums_soft", "lepton_pairs.py:lepton_pairs"]
CHAINS = [
    ["jet_sums.py:jet_sums"],
    ["z_candidate.py:modules"],
    ["muon_scale.py:both"],
    ["muon_scale.py:rough"],
    pytest.param(["counting.py:Counting"], marks=needs_cmssw_tools),
    pytest.param(LEPTONS, marks=needs_cmssw_tools),
]


def theirs(directory: Path, output: Path, path: Path, specs: Sequence[str], cut: str = "") -> Any:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(directory), str(output), str(path), cut, *specs],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return uproot.open(output / f"{path.stem}_theirs.root")["Events"]


def check(ours: Any, tree: Any, path: Path) -> None:
    with uproot.open(path) as file:
        events = file["Events/event"].array(library="np")
    assert tree["event"].array(library="np").tolist() == events[ours.rows].tolist()
    for name, branch in ours.branches.items():
        expected = tree[name].array()
        assert str(ours.columns[name].type) == str(expected.type), name
        assert ak.to_list(ours.columns[name]) == ak.to_list(expected), name
        assert tree[name].title == branch.title or not branch.title


@pytest.mark.slow
@pytest.mark.parametrize("specs", CHAINS)
@pytest.mark.parametrize("always", [True, False], ids=["our classes", "their classes in our loop"])
def test_the_results_are_equal(
    specs: list[str], always: bool, run: Callable[..., Any], wz: Path, user_modules: Path, tmp_path: Path
) -> None:
    check(run(wz, specs, chunk=300, always=always), theirs(user_modules, tmp_path, wz, specs), wz)


@needs_cmssw_tools
@pytest.mark.slow
@pytest.mark.parametrize("name", ["made_v9_mc_no_runs", "made_v9_mc", "made_v12_mc_many_runs"])
def test_the_results_are_equal_for_files_of_all_versions(
    name: str, run: Callable[..., Any], made_files: dict[str, Path], user_modules: Path, tmp_path: Path
) -> None:
    specs = [*LEPTONS, "counting.py:Counting", "muon_scale.py:rough"]
    check(run(made_files[name], specs), theirs(user_modules, tmp_path, made_files[name], specs), made_files[name])


@needs_cmssw_tools
@pytest.mark.slow
def test_the_results_are_equal_where_some_events_are_looked_at(
    run: Callable[..., Any], wz: Path, user_modules: Path, tmp_path: Path
) -> None:
    with uproot.open(wz) as file:
        rows = np.flatnonzero(file["Events/nMuon"].array(library="np") >= 2)
    specs = ["counting.py:Counting", "jet_sums.py:jet_sums"]
    check(run(wz, specs, look_at=rows, chunk=123), theirs(user_modules, tmp_path, wz, specs, "nMuon >= 2"), wz)
