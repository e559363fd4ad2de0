from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_processing.skim.filters import FilterSet
from data_processing.skim.plan import Filter, SkimJob
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.rootfile import RootFile

SELECTION = """
from MLTools.NanoML.selection import Column, Selection

class HighMet(Selection):
    branches = ("MET_pt", "Muon_pt")
    optional = {"HLT_IsoMu24": True, "HLT_NeverWas": False}
    columns = {"met": Column("f4", "missing momentum [GeV]")}

    def select(self, events, cutflow):
        events = cutflow.cut("met", events.MET.pt > 40, events)
        return events, {"met": events.MET.pt}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory with a selection and a luminosity JSON."""
    (tmp_path / "selection.py").write_text(SELECTION)
    (tmp_path / "golden.json").write_text(json.dumps({"1": [[13001, 13002]], "315267": [[200, 210]]}))
    return tmp_path


@pytest.fixture
def file(sample: Path) -> Iterator[RootFile]:
    with RootFile(sample / "WZTo3LNu" / "WZTo3LNu_0.root") as file:
        yield file


def opened(base: Path, file: RootFile, is_data: bool = False, **settings: Any) -> list[Filter]:
    job = SkimJob(file.path, base / "out.root", base=str(base), **settings)
    return FilterSet.of(job).open(file, is_data, set())


def applied(step: Filter, file: RootFile, rows: Any = None) -> Any:
    """A filter on the events of a file, or on those of `rows`."""
    rows = np.arange(file.entries) if rows is None else rows
    arrays = {name: array[rows] for name, array in file.read(step.branches).items()}
    return step.apply(arrays, 1.0 + rows % 3)


def values(file: RootFile, name: str) -> Any:
    return np.asarray(file.read([name])[name])


def test_they_come_in_the_order_of_their_cost(base: Path, file: RootFile) -> None:
    everything: dict[str, Any] = {"certified": "golden.json", "cut": "nMuon >= 1", "selection": "selection.py:HighMet"}
    data = opened(base, file, is_data=True, **everything)
    assert [list(step.branches)[:2] for step in data] == [
        ["run", "luminosityBlock"], ["nMuon"], ["MET_pt", "Muon_pt"]
    ]  # fmt: skip
    assert [list(step.made) for step in data] == [[], [], ["met"]]
    assert [dict(step.defaults) for step in data] == [{}, {}, {"HLT_NeverWas": False}]
    # simulation has no certified sections
    assert len(opened(base, file, is_data=False, **everything)) == 2
    assert opened(base, file) == []


def test_certified_sections(base: Path, file: RootFile) -> None:
    (step,) = opened(base, file, is_data=True, certified="golden.json")
    expected = np.isin(values(file, "luminosityBlock"), [13001, 13002])
    selected = applied(step, file)
    assert 0 < expected.sum() < file.entries
    assert selected.rows.tolist() == np.flatnonzero(expected).tolist()
    assert selected.columns == {}
    steps = [(each.cut, each.events, each.weights) for each in selected.cutflow.steps]
    weights = 1.0 + np.arange(file.entries) % 3
    assert steps == [
        ("all", file.entries, weights.sum()),
        ("certified luminosity sections", expected.sum(), weights[expected].sum()),
    ]


def test_a_cut_on_the_events_that_are_left(base: Path, file: RootFile) -> None:
    (step,) = opened(base, file, cut="MET_pt > 40 && Sum$(Muon_pt > 10) >= 1")
    assert list(step.branches) == ["MET_pt", "Muon_pt"]
    met, muons = values(file, "MET_pt"), file.read(["Muon_pt"])["Muon_pt"].tolist()
    passed = [pt > 40 and any(each > 10 for each in muon) for pt, muon in zip(met, muons)]
    assert applied(step, file).rows.tolist() == np.flatnonzero(passed).tolist()
    rows = np.arange(5, file.entries, 7)
    selected = applied(step, file, rows)
    assert rows[selected.rows].tolist() == [row for row in rows if passed[row]]
    assert [each.cut for each in selected.cutflow.steps] == ["all", "cut"]


def test_a_cut_finds_branches_under_the_name_that_the_file_has(base: Path, made_files: dict[str, Path]) -> None:
    with RootFile(made_files["made_v15_mc"]) as file:
        (step,) = opened(base, file, cut="MET_pt > 60 || MET_phi > 3")
        assert list(step.branches) == ["PFMET_pt", "PFMET_phi"]
        expected = (values(file, "PFMET_pt") > 60) | (values(file, "PFMET_phi") > 3)
        assert applied(step, file).rows.tolist() == np.flatnonzero(expected).tolist()


def test_a_selection(base: Path, file: RootFile) -> None:
    (step,) = opened(base, file, selection="selection.py:HighMet")
    assert step.made == {"met": Branch("met", "float32", "flat", "missing momentum [GeV]", None, "f4")}
    assert "HLT_IsoMu24" in step.branches
    assert "HLT_NeverWas" not in step.branches
    met = values(file, "MET_pt")
    selected = applied(step, file)
    assert selected.rows.tolist() == np.flatnonzero(met > 40).tolist()
    assert selected.columns["met"].tolist() == met[met > 40].tolist()
    assert [each.cut for each in selected.cutflow.steps] == ["all", "met"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"certified": "absent.json"}, "absent.json: cannot be read"),
        ({"certified": "selection.py"}, "selection.py: cannot be understood"),
        ({"cut": "nMuon >="}, 'cut "nMuon >=": column 9: unexpected end'),
        ({"selection": "selection.py:Absent"}, "Absent"),
    ],
)
def test_mistakes_are_told_before_a_file_is_read(base: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        FilterSet.of(SkimJob("absent.root", base / "out.root", base=str(base), **settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cut": "nMuons > 1"}, r'WZTo3LNu_0.root has no branch nMuons. Did you mean "nMuon"'),
        ({"selection": "selection.py:HighMet"}, "selection HighMet reads branches that this file lacks"),
    ],
)
def test_what_a_file_lacks_is_told(base: Path, file: RootFile, settings: dict[str, Any], message: str) -> None:
    (base / "selection.py").write_text(SELECTION.replace("MET_pt", "MTE_pt"))
    with pytest.raises(NanoMLError, match=message):
        opened(base, file, **settings)
