"""Collections that a selection makes, in nanoAOD-tools."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import pytest
import uproot

from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.nanoaodtools import PostprocModule
from MLTools.NanoML.nanoaodtools.branches import Scoring
from MLTools.NanoML.selection import UP_DOWN, Column, Cutflow, Events, Selection
from services.nanoaodtools import Postprocess, loop


class HardMuons(Selection):
    """Muons above 30 GeV, of which a shift of their scale changes the number."""

    branches = ("Muon_pt", "Muon_eta", "Muon_charge")
    columns = {"nMany": Column("i4", "number of muons")}
    collections = {
        "Hard": {
            "pt": Column("f4", "transverse momentum [GeV]"),
            "charge": Column("i4", "charge"),
            "isCentral": Column("?", "in the barrel"),
        }
    }
    shifts = {"scale": UP_DOWN}

    def shift(self, events: Events, name: str, direction: str) -> Events:
        """A large one."""
        factor = {"up": 1.1, "down": 0.9}[direction]
        return events.replaced(["Muon_pt"], lambda left: {"Muon_pt": left.flat("Muon").pt * factor})

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        """See the class."""
        muons = events.flat("Muon")
        hard = muons.keep(muons.pt > 30)
        events, hard = cutflow.cut("a hard muon", hard.counts > 0, events, hard)
        return events, {"nMany": hard.counts, "Hard": hard.with_columns(isCentral=abs(hard.eta) < 1.2)}


@pytest.fixture
def source(sample: Path) -> Path:
    return sample / "WZTo3LNu_Pt100" / "WZTo3LNu_Pt100_0.root"


@pytest.fixture
def expected(source: Path, tmp_path: Path) -> dict[str, list[Any]]:
    """The columnar skim."""
    spec = f"{__file__}:HardMuons"
    skim_file(SkimJob(str(source), tmp_path / "columnar.root", spec, keep=("MET_pt",)))
    with uproot.open(tmp_path / "columnar.root") as file:
        arrays = file["Events"].arrays()
    made = HardMuons().made
    names = {name: name if name in arrays.fields else made.nominal[name] for name in made.described}
    assert names["Hard_scaleUp_pt"] == "Hard_scaleUp_pt"
    return {name: arrays[actual].to_list() for name, actual in names.items()}


def test_an_event_loop_has_the_lists_of_the_columnar_skim(source: Path, expected: dict[str, list[Any]]) -> None:
    rows = [row for _, row in loop([PostprocModule(HardMuons(), 171)], source)]
    for name, values in expected.items():
        assert [row[name] for row in rows] == values, name


def test_nanoaod_tools_writes_the_lists(source: Path, expected: dict[str, list[Any]], postprocess: Postprocess) -> None:
    output = postprocess(source, PostprocModule(HardMuons()))
    with uproot.open(output) as file:
        arrays = file["Events"].arrays([*expected, "nHard", "nHard_scaleUp"])
    for name, values in expected.items():
        assert arrays[name].to_list() == values, name
    assert arrays["nHard"].to_list() == [len(each) for each in expected["Hard_pt"]]
    assert arrays["nHard_scaleUp"].to_list() == [len(each) for each in expected["Hard_scaleUp_pt"]]


def test_a_model_reads_the_lists_of_a_selection_before_it(source: Path, linear_model: Callable[..., Path]) -> None:
    objects = {"Hard": (["pt", "charge"], 2, "-pt")}
    model = linear_model(["nMany"], ["Hard_pt", "Hard_charge", "nMany"], objects, targets=("a", "b", "c"))
    rows = loop([PostprocModule(HardMuons(), 300), PostprocModule(Scoring(model), 171)], source)
    assert len(rows) > 100
    for _, row in rows:
        for shift in ("", "_scaleUp", "_scaleDown"):
            hardest = sorted(row[f"Hard{shift}_pt"], reverse=True)[:2]
            assert row[f"linear_a{shift}"] == pytest.approx(row[f"nMany{shift}"] + sum(hardest), rel=1e-6)


def test_an_event_without_objects_has_empty_lists(source: Path) -> None:
    class All(HardMuons):
        def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
            muons = events.Muon[events.Muon.pt > 30]
            hard = {"pt": muons.pt, "charge": muons.charge, "isCentral": abs(muons.eta) < 1.2}
            return events, {"nMany": ak.num(muons), "Hard": hard}

    rows = [row for _, row in loop([PostprocModule(All())], source)]
    assert any(row["Hard_pt"] == [] and row["nMany"] == 0 for row in rows)
