from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from data_processing.efficiencies.counting import (
    Bins,
    CountingJob,
    Counts,
    FileCounts,
    added,
    count_file,
    in_effective_jets,
)
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.plain import build

SELECTION = """
import awkward as ak
from MLTools.NanoML.selection import Column, Selection, Weight


class Base(Selection):
    branches = ("Jet_pt", "Jet_eta", "Jet_btagDeepFlavB", "Muon_pt")
    simulated = ("Jet_hadronFlavour",)
    columns = {"nJet": Column("i4", "number of jets")}
    weights = {"btag": Weight(())}

    def select(self, events, cutflow):
        events = cutflow.cut("a muon", ak.any(events.Muon.pt > 20, axis=1), events)
        self.count(events, cutflow)
        cutflow.weigh("btag", lambda: 1 / 0)  # which is not evaluated
        return events, {"nJet": ak.num(events.Jet)}

    def count(self, events, cutflow):
        pass


class Ragged(Base):
    def count(self, events, cutflow):
        jets = events.Jet[events.Jet.pt > 25]
        cutflow.count_efficiency("medium", jets, jets.btagDeepFlavB > 0.3)
        cutflow.count_efficiency("tight", jets, jets.btagDeepFlavB > 0.7)


class Plain(Base):
    def count(self, events, cutflow):
        jets = events.flat("Jet")
        jets = jets.keep(jets.pt > 25)
        cutflow.count_efficiency("medium", jets, jets.btagDeepFlavB > 0.3)
        cutflow.count_efficiency("tight", jets, jets.btagDeepFlavB > 0.7)


class Wrong(Base):
    def count(self, events, cutflow):
        cutflow.count_efficiency("medium", events.Jet, events.Jet.btagDeepFlavB)


class Twice(Base):
    def count(self, events, cutflow):
        for _ in range(2):
            cutflow.count_efficiency("medium", events.Jet, events.Jet.pt > 50)


class Others(Base):
    def count(self, events, cutflow):
        cutflow.count_efficiency("medium", events.Jet[1:], events.Jet.pt[1:] > 50)
"""
BINS = Bins((0.0, 1.0, 2.5), (20.0, 50.0, 100.0))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """Events with weights of both signs."""
    path = tmp_path_factory.mktemp("weighted") / "WZ.root"
    with uproot.open(sample / "WZTo3LNu_Pt100" / "WZTo3LNu_Pt100_0.root") as file:
        names = ["Jet_pt", "Jet_eta", "Jet_btagDeepFlavB", "Jet_hadronFlavour", "Muon_pt", "MET_pt"]
        arrays = file["Events"].arrays(names, how=dict)
    arrays["genWeight"] = np.random.default_rng(1).choice([1.5, -0.5, 2.0], len(arrays["MET_pt"]))
    jets = ak.zip({name[4:]: arrays.pop(name) for name in names if name.startswith("Jet_")})
    muons = ak.zip({"pt": arrays.pop("Muon_pt")})
    with uproot.recreate(path) as file:
        file.mktree("Events", {"Jet": jets.type.content, "Muon": muons.type.content, "MET_pt": "f4", "genWeight": "f8"},
                    counter_name=lambda name: "n" + name)  # fmt: skip
        file["Events"].extend({"Jet": jets, "Muon": muons, **arrays})
    return path


def counted(source: Path, folder: Path, selection: str, **settings: Any) -> FileCounts:
    (folder / "selections.py").write_text(SELECTION)
    job = CountingJob(str(source), folder / "counts.json", f"selections.py:{selection}", BINS, str(folder), **settings)
    done = count_file(job)
    found = build(FileCounts, json.loads(job.output.read_text()))
    assert done == {"events": found.events, "jets": sum(each.jets for each in found.counts)}
    return found


def one_by_one(source: Path, least_missing: float = 0.0) -> dict[tuple[str, int], list[Any]]:
    """The same by a loop over jets."""
    with uproot.open(source) as file:
        events = file["Events"].arrays(library="np")
    found: dict[tuple[str, int], list[Any]] = {}
    for row, weight in enumerate(events["genWeight"]):
        if events["MET_pt"][row] <= least_missing or not (events["Muon_pt"][row] > 20).any():
            continue
        columns = (events[f"Jet_{name}"][row] for name in ("pt", "eta", "btagDeepFlavB", "hadronFlavour"))
        for pt, eta, score, flavour in zip(*columns):
            for name, cut in (("medium", 0.3), ("tight", 0.7)) if pt > 25 else ():
                tables = found.setdefault((name, int(flavour)), [0, *np.zeros((3, 2, 2))])
                place = int(abs(eta) >= 1), int(pt >= 50)
                tables[0] += 1
                tables[1][place] += weight
                tables[2][place] += weight**2
                tables[3][place] += weight if score > cut else 0
    return found


@pytest.mark.parametrize(
    ("selection", "settings"), [("Ragged", {}), ("Plain", {"chunk": 171}), ("Ragged", {"cut": "MET_pt > 60"})]
)
def test_jets_are_counted_one_after_the_other(
    selection: str, settings: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    found = counted(source, tmp_path, selection, **settings)
    expected = one_by_one(source, 60.0 if settings.get("cut") else 0.0)
    assert found.events == 1400
    assert {(each.name, each.flavour) for each in found.counts} == set(expected)
    assert len(expected) == 6
    for each in found.counts:
        jets, all_, squares, passed = expected[each.name, each.flavour]
        assert each.jets == jets
        assert np.allclose(each.all_, all_)
        assert np.allclose(each.squares, squares)
        assert np.allclose(each.passed, passed)


def test_datasets_count_by_their_effective_jets() -> None:
    # 100 jets of weight 1, of which half pass, and 100 of weight 20,000, of which all pass
    small, large = (
        Counts("medium", 5, 100, [[100.0]], [[100.0]], [[50.0]]),
        Counts("medium", 5, 100, [[2e6]], [[4e10]], [[2e6]]),
    )
    assert added(map(in_effective_jets, [small, large])) == [Counts("medium", 5, 200, [[200.0]], [[200.0]], [[150.0]])]
    assert in_effective_jets(Counts("medium", 5, 2, [[0.0]], [[2.0]], [[1.0]])).all_ == [[0.0]]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (
            "Wrong",
            'efficiency "medium": give one boolean for each of the .* jets, by a comparison; these are .* of float',
        ),
        ("Twice", 'efficiency "medium": is counted twice'),
        ("Others", r'efficiency "medium": jets of \d+ events, but \d+ are left'),
    ],
)
def test_a_mistake_is_an_error_and_leaves_nothing(selection: str, message: str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match=message):
        counted(source, tmp_path, selection)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".json"] == []


def test_a_file_without_events_has_no_jets(made_files: dict[str, Path], tmp_path: Path) -> None:
    empty = made_files["made_v9_mc_zero_events"]
    (tmp_path / "selections.py").write_text(
        SELECTION.replace('"Jet_btagDeepFlavB", ', "").replace("hadronF", "partonF")
    )
    job = CountingJob(str(empty), tmp_path / "counts.json", "selections.py:Base", BINS, str(tmp_path))
    assert count_file(job) == {"events": 0, "jets": 0}
