from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT
from MLTools.NanoML.corrections import CorrectionFile, Factor
from MLTools.NanoML.corrections.era import find_file
from MLTools.NanoML.corrections.weights import btag_working_point
from MLTools.NanoML.dependencies import files_behind
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.efficiencies import measure
from MLTools.NanoML.extensions.efficiencies.counting import (
    Bins,
    CountingJob,
    Counts,
    FileCounts,
    added,
    count_file,
    in_effective_jets,
)
from MLTools.NanoML.schema.plain import build
from processes import nanoml

SELECTION = """
import awkward as ak
from MLTools.NanoML.corrections.weights import btag_working_point
from MLTools.NanoML.selection import Column, Factor, Selection, Weight


class Tagged(Selection):
    branches = ("Jet_pt", "Jet_eta", "Jet_btagDeepFlavB", "Muon_pt")
    simulated = ("Jet_hadronFlavour",)
    columns = {"nTagged": Column("i4", "number of b jets")}
    weights = {"btag": Weight(())}

    def prepare(self, events):
        self.dataset.corrections.pileup  # so that the file is read
        return events

    def select(self, events, cutflow):
        c, jets = self.dataset.corrections, events.Jet[events.Jet.pt > 25]
        tagged = jets.btagDeepFlavB > 0.3
        cutflow.count_efficiency("medium", jets, tagged)

        def weight():
            e = c.medium(self.dataset.name, jets.hadronFlavour, abs(jets.eta), jets.pt).nominal
            return btag_working_point(Factor(0 * jets.pt + 0.9), e, tagged).product()

        cutflow.weigh("btag", weight)
        return events, {"nTagged": ak.sum(tagged, axis=1)}


class Silent(Tagged):
    def select(self, events, cutflow):
        cutflow.weigh("btag", lambda: [1.0] * len(events))
        return events, {"nTagged": [0] * len(events)}
"""
ENTRY = "medium: {file: efficiencies_2018.json, name: medium}"
ANALYSIS = """
eras:
  2018: {{luminosity: 59.8, corrections: corrections.yaml}}
datasets:
  WZ: {{files: [{0}/WZTo3LNu_Pt100/*_0.root, {0}/WZTo3LNu/*_1.root], era: 2018, class: boson, cross_section: 1}}
  ZG: {{files: {0}/ZGToLLG_PtG100/*_0.root, era: 2018, class: boson, cross_section: 1}}
skim: {{selection: "my_selection.py:Tagged"}}
convert: {{features: [nTagged]}}
"""


@pytest.fixture
def analysis(tmp_path: Path, sample: Path) -> Path:
    (tmp_path / "my_selection.py").write_text(SELECTION)
    pileup = ROOT / "examples" / "corrections" / "2018" / "pileup.json"
    (tmp_path / "corrections.yaml").write_text(f"pileup: {{file: {pileup}, name: Collisions}}\n{ENTRY}\n")
    (tmp_path / "analysis.yaml").write_text(ANALYSIS.format(sample))
    return tmp_path


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def run(folder: Path, *options: str) -> str:
    done = nanoml("efficiencies", "analysis.yaml", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def jets_of(*paths: Path) -> dict[str, np.ndarray]:
    names = [f"Jet_{name}" for name in ("pt", "eta", "btagDeepFlavB", "hadronFlavour")]
    arrays = [uproot.open(path)["Events"].arrays(names) for path in paths]
    flat = {name[4:]: ak.to_numpy(ak.flatten(ak.concatenate([each[name] for each in arrays]))) for name in names}
    return {name: values[flat["pt"] > 25] for name, values in flat.items()}


def test_efficiencies_are_those_of_the_jets_and_the_weight_keeps_their_number(analysis: Path, sample: Path) -> None:
    said = run(analysis, "--least", "50", "--pt", "25,50,100")
    assert "medium, WZ: b " in said
    assert "For corrections.yaml" not in said  # it has the entry
    medium = CorrectionFile(analysis / "efficiencies_2018.json")["medium"]
    names = ("WZTo3LNu_Pt100/WZTo3LNu_Pt100_0.root", "WZTo3LNu/WZTo3LNu_1.root")
    jets = jets_of(*(sample / name for name in names))
    light = jets["hadronFlavour"] == 0
    pt, eta = jets["pt"][light].astype(float), abs(jets["eta"][light].astype(float))
    tagged = jets["btagDeepFlavB"][light] > 0.3
    found = medium("WZ", 0, eta, pt)
    for low, high in ((0.0, 0.8), (0.8, 1.6), (1.6, 9.0)):
        for least, most in ((25, 50), (50, 1e9)):
            mine = (eta >= low) & (eta < high) & (pt >= least) & (pt < most)
            assert mine.sum() > 50
            assert np.allclose(found[mine], tagged[mine].mean())
    factor = btag_working_point(Factor(np.full(len(pt), 0.9)), found, tagged).nominal
    assert np.isclose(factor.sum(), len(pt))
    skimmed = nanoml("run", "analysis.yaml", "--to", "skim", cwd=analysis)
    assert skimmed.returncode == 0, skimmed.stderr
    assert "up to date" in run(analysis, "--least", "50", "--pt", "25,50,100")


def test_a_dry_run_makes_nothing(analysis: Path) -> None:
    said = run(analysis, "--dry-run")
    assert "efficiencies: 3 of 3 to do" in said
    assert "efficiencies_2018.json: WZ, ZG" in said
    made = {path.name for path in analysis.rglob("*") if path.suffix == ".json"}
    assert made == set()


def test_datasets_may_share_their_efficiencies(analysis: Path) -> None:
    assert "medium, boson: b" in run(analysis, "--per", "class")
    shared = CorrectionFile(analysis / "efficiencies_2018.json")["medium"]
    assert shared("WZ", 0, 0.5, 50.0) == shared("ZG", 0, 0.5, 50.0)
    changed(analysis / "analysis.yaml", "ZG: {files", "ZZ: {files")
    assert "medium, all datasets: b" in run(analysis, "--per", "era")
    assert list(CorrectionFile(analysis / "efficiencies_2018.json")["medium"].axes["dataset"].choices) == ["WZ", "ZZ"]


def test_what_the_corrections_lack_is_said(analysis: Path) -> None:
    changed(analysis / "corrections.yaml", ENTRY, "")
    said = run(analysis)
    assert "corrections.yaml:\n    medium_efficiency: {file: efficiencies_2018.json, name: medium}" in said
    changed(analysis / "corrections.yaml", "pileup:", f"{ENTRY.replace('name: medium', 'name: tight')}\npileup:")
    (analysis / "efficiencies_2018.json").unlink()
    assert "WARNING: medium of" in run(analysis)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Tagged", "Silent", "Silent counted no jets in WZ, ZG. Call `cutflow.count_efficiency"),
        (
            'skim: {selection: "my_selection.py:Tagged"}',
            "skim: {cut: nMuon > 1}",
            "analysis.yaml:7: skim: has no `selection`",
        ),
        ("my_selection.py:Tagged", "my_selection.py:Nothing", "has no class Nothing"),
        ("cross_section: 1", "data: true", "there is no simulation to measure efficiencies in"),
        ("Jet_pt", "Jet_p", "reads branches that this file lacks: Jet_p"),
    ],
)
def test_what_cannot_be_measured_is_an_error_and_leaves_nothing(
    analysis: Path, old: str, new: str, message: str
) -> None:
    file = analysis / ("my_selection.py" if old == "Jet_pt" else "analysis.yaml")
    file.write_text(file.read_text().replace(old, new).replace("class: boson, data: true", "data: true"))
    done = nanoml("efficiencies", "analysis.yaml", cwd=analysis)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert not (analysis / "efficiencies_2018.json").exists()


def test_files_that_cannot_be_read_may_be_left_out(analysis: Path, sample: Path) -> None:
    folder = analysis / "ZG"
    folder.mkdir()
    whole = (sample / "ZGToLLG_PtG100" / "ZGToLLG_PtG100_0.root").read_bytes()
    (folder / "good_0.root").write_bytes(whole)
    (folder / "bad_0.root").write_bytes(whole[:5000])
    changed(analysis / "analysis.yaml", f"{sample}/ZGToLLG_PtG100", str(folder))
    done = nanoml("efficiencies", "analysis.yaml", cwd=analysis)
    assert done.returncode == 1
    assert "bad_0.root" in done.stderr
    assert not (analysis / "efficiencies_2018.json").exists()
    said = run(analysis, "--max-missing-files", "1")
    assert "medium, ZG" in said
    assert json.loads((analysis / "efficiencies_2018.json").read_text())["corrections"]


def test_edges_of_bins_must_increase(analysis: Path) -> None:
    for wrong in ("50", "50,20", "20,a"):
        done = nanoml("efficiencies", "analysis.yaml", "--pt", wrong, cwd=analysis)
        assert (done.returncode, "as in 20,50,100" in done.stderr) == (2, True)


BINS = Bins((0.0, 1.5, 2.5), (20.0, 50.0, 100.0, 200.0, 500.0))


def counts(jets: Any, efficiency: Any, weight: float = 1.0) -> Counts:
    """As many jets in each bin, of which a share passes."""
    all_ = np.broadcast_to(jets, BINS.shape) * weight
    squares, passed = all_ * weight, all_ * efficiency
    total = int(np.sum(np.broadcast_to(jets, BINS.shape)))
    return Counts("medium", 5, total, *(each.tolist() for each in (all_, squares, passed)))


def values(found: measure.Efficiency) -> list[tuple[list[float], list[float]]]:
    return [(each["edges"], each["content"]) for each in found.node["content"]]


def test_bins_of_pt_are_joined_with_those_below() -> None:
    jets = np.array([[500, 300, 60, 50], [30, 300, 120, 10]])
    passed = np.array([[250, 150, 24, 20], [15, 150, 48, 4]])
    found = measure.efficiency(5, counts(jets, passed / jets), None, BINS, 100)
    (first, one), (second, other) = values(found)
    assert first == [20, 50, 100, 500]
    assert np.allclose(one, [0.5, 0.5, 44 / 110])
    assert second == [20, 100, 500]
    assert np.allclose(other, [165 / 330, 52 / 130])


def test_a_dataset_without_enough_jets_takes_those_of_all_datasets() -> None:
    found = measure.efficiency(5, counts(3, 0.9), counts(500, 0.6), BINS, 100)
    assert np.allclose([content for _, content in values(found)], 0.6)
    assert found.note == "so those of all datasets"
    assert found.jets == 24
    few = measure.efficiency(5, counts(3, 0.9), counts(4, 0.8), BINS, 100)
    assert few.note == "so those of all datasets, which are too few"
    assert np.isclose(few.mean, 0.8)
    none = measure.efficiency(5, None, None, BINS, 100)
    assert (none.mean, none.jets) == (0.5, 0)


def test_weights_of_both_signs_are_worth_fewer_jets() -> None:
    """A bin with 300 jets of weight 1 and 100 of weight -1 is worth 100."""
    one, other = counts(300, 0.5), counts(100, 0.5, -1.0)
    tables_ = [(np.array(a) + np.array(b)).tolist() for a, b in zip(
        (one.all_, one.squares, one.passed), (other.all_, other.squares, other.passed))]  # fmt: skip
    both = Counts("medium", 5, 3200, *tables_)
    assert len(values(measure.efficiency(5, both, None, BINS, 99))[0][1]) == 4
    assert len(values(measure.efficiency(5, both, None, BINS, 101))[0][1]) == 2


sums = st.floats(-50, 500, allow_nan=False)


@given(st.lists(st.tuples(sums, sums, st.floats(1, 1e4)), min_size=8, max_size=8), st.floats(1, 200))
def test_every_value_is_that_of_its_bins_and_between_0_and_1(
    bins: list[tuple[float, float, float]], least: float
) -> None:
    """Whatever the weights are; so the jets that pass by the efficiency are as many as do pass, in every row that has its own."""
    all_, passed, squares = (np.array([each[place] for each in bins]).reshape(2, 4) for place in range(3))
    own = Counts("medium", 5, 8, all_.tolist(), squares.tolist(), passed.tolist())
    found = measure.efficiency(5, own, own, BINS, least)
    for row, (edges, content) in enumerate(values(found)):
        assert (edges[0], edges[-1]) == (20, 500)
        places = [BINS.pt.index(edge) for edge in edges]
        assert places == sorted(set(places))
        alone = all_[row].sum() > 0 and all_[row].sum() ** 2 / squares[row].sum() >= least
        alone &= 0 < passed[row].sum() < all_[row].sum()
        mine = [each[row] if alone else each.sum(axis=0) for each in (all_, squares, passed)]
        for value, start, stop in zip(content, places, places[1:]):
            jets, square, of_them = (each[start:stop].sum() for each in mine)
            worth = jets**2 / square if jets > 0 else 0.0
            margin = 0.5 / (worth + 1)
            expected = np.clip(of_them / jets, margin, 1 - margin) if worth else 0.5
            assert 0 < value < 1
            assert np.isclose(value, expected)


def test_the_file_is_one_of_correctionlib(tmp_path: Path) -> None:
    shares = np.array([[0.5, 0.6, 0.7, 0.8], [0.4, 0.5, 0.6, 0.7]])
    heavy = measure.efficiency(5, counts(500, shares), None, BINS, 100)
    light = measure.efficiency(0, counts(500, 0.1), None, BINS, 100)
    other = measure.correction("medium", {"WZ": [heavy, light], "ZZ": [light, heavy]})
    (tmp_path / "new.json").write_text(measure.text_of([other], "of a test"))
    medium = CorrectionFile(tmp_path / "new.json")["medium"]
    assert list(medium.axes["dataset"].choices) == ["WZ", "ZZ"]
    assert medium("WZ", 5, 2.0, 150.0) == 0.6
    assert medium("ZZ", 0, 2.0, 150.0) == 0.1
    # what is beyond the bins is in the first or last one
    assert medium("WZ", 5, 2.6, 10.0) == 0.4
    assert medium("WZ", 5, 0.1, 1e5) == 0.8


def test_values_stand_in_until_they_are_measured(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(measure.text_of(measure.assumed(["medium", "tight"], ["WZ"]), "none"))
    assert CorrectionFile(tmp_path / "a.json")["tight"]("WZ", 4, 0.5, 50.0) == 0.5


SELECTION_TO_COUNT = """
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
BINS_TO_COUNT = Bins((0.0, 1.0, 2.5), (20.0, 50.0, 100.0))


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
    (folder / "selections.py").write_text(SELECTION_TO_COUNT)
    job = CountingJob(
        str(source), folder / "counts.json", f"selections.py:{selection}", BINS_TO_COUNT, str(folder), **settings
    )
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
    text = SELECTION_TO_COUNT.replace('"Jet_btagDeepFlavB", ', "").replace("hadronF", "partonF")
    (tmp_path / "selections.py").write_text(text)
    job = CountingJob(str(empty), tmp_path / "counts.json", "selections.py:Base", BINS_TO_COUNT, str(tmp_path))
    assert count_file(job) == {"events": 0, "jets": 0}


def test_a_file_that_is_not_there_yet_is_told(tmp_path: Path) -> None:
    message = "here: there is no file efficiencies_2018.json yet: `nanoml efficiencies ANALYSIS.yaml` measures them."
    with pytest.raises(NanoMLError, match=message):
        find_file("efficiencies_2018.json", tmp_path, "here")


def test_counting_knows_nothing_of_the_shell() -> None:
    behind = {name.removeprefix("MLTools.NanoML.").partition(".")[0] for name in files_behind(count_file.__module__)}
    assert "selection" in behind
    assert not behind & {"batch", "commands", "config", "errors", "extending", "workflow"}
