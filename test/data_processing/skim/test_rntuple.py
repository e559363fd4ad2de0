"""Skims from RNTuples and as RNTuples are those from TTrees, with all books, and all that follows reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import uproot

from conftest import ROOT
from data_processing.convert.columns import StoredCollection
from data_processing.convert.convert import ConvertJob, convert_files
from data_processing.merge.merge import MergeJob, merge_files
from data_processing.score.score import ScoreJob, score_file
from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from data_processing.skim.stage import skim_tasks
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.accounting import accounting_of
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import DatasetInfo
from services.data.cmssw_rntuples import LISTS, RECORDS
from services.nanoaod import can_write_rntuple
from services.rootfiles import record_of
from services.shifted import Events

Skims = dict[tuple[str, str], Path]

SELECTION = "MLTools.NanoML.trilepton:Trilepton"
KEEP = ("Muon_*", "Electron_*", "MET_*", "PSWeight", "HLT_IsoMu24")

needs_rntuples = pytest.mark.skipif(not can_write_rntuple(), reason=f"uproot {uproot.__version__} writes no RNTuple")


def content(path: Path) -> dict[str, Any]:
    """All that a skim carries, but for the name of its input and its format."""
    with RootFile(path) as file:
        record = record_of(path)
        books = record.accounting.to_json()
        own = accounting_of(file)
        for each in books["files"]:
            assert each.pop("file")
            each.pop("uuid", None)
        return {
            "events": {name: array.tolist() for name, array in file.read(file.branches).items()},
            "branches": {
                name: (branch.dtype, branch.shape, branch.collection) for name, branch in file.branches.items()
            },
            "titles": {name: branch.title for name, branch in file.branches.items()},
            "books": books,
            "record": (record.selection, record.columns, record.criteria, record.not_copied),
            "sums": (own.sum_of_weights, own.sum_of_weights_source),
            "trees": {
                name: {key: array.tolist() for key, array in (file.other_tree(name) or {}).items()}
                for name in ("Runs", "LuminosityBlocks")
            },
            "tag": file.string("tag"),
        }


@pytest.fixture(scope="module")
def skims(made_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Skims:
    """Skims of the same events, by the format of the input and of the skim."""
    if not can_write_rntuple():
        pytest.skip(f"uproot {uproot.__version__} writes no RNTuple")
    directory = tmp_path_factory.mktemp("formats")
    found = {}
    for source, name in (("TTree", "made_v9_mc"), ("RNTuple", "made_v9_mc_rntuple")):
        for written in ("TTree", "RNTuple"):
            path = found[source, written] = directory / f"{source}_{written}.root"
            skim_file(SkimJob(str(made_files[name]), path, SELECTION, keep=KEEP, format=written))
    return found


def test_skims_from_and_to_both_formats_are_equal(skims: Skims) -> None:
    reference = content(skims["TTree", "TTree"])
    assert 0 < len(reference["events"]["event"]) < 80
    assert len(reference["books"]["files"][0]["cutflow"]) > 3
    assert reference["titles"]["Muon_pt"]
    for (source, written), path in skims.items():
        found = content(path)
        if source == "RNTuple":  # uproot's public functions wrote it without titles
            found["titles"] = reference["titles"]
        assert found == reference, (source, written)
        with uproot.open(path) as file:
            kinds = set(file.classnames(cycle=False).values()) - {"TObjString"}
            assert kinds == {"TTree" if written == "TTree" else "ROOT::RNTuple"}
            assert file["Events"]["Muon_pt"].array().tolist() == reference["events"]["Muon_pt"]


def test_what_follows_a_skim_reads_it(skims: Skims, tmp_path: Path) -> None:
    found = []
    for written in ("TTree", "RNTuple"):
        path = tmp_path / f"{written}.h5"
        skim = str(skims["TTree", written])
        convert_files(
            ConvertJob([skim], path, ["ZCand_mass", "MET_pt"], {"Muon": StoredCollection(("pt", "charge"), 2)})
        )
        with h5py.File(path) as file:
            found.append({name: file[name][()].tolist() for name in ("events", "Muon")})
    assert found[0] == found[1]
    assert found[0]["events"]


@pytest.mark.parametrize("copy", [False, True])
def test_scores_have_the_format_of_what_is_scored(
    skims: Skims, linear_model: Callable[..., Path], copy: bool, tmp_path: Path
) -> None:
    model, found = linear_model(["MET_phi"]), []
    for written in ("TTree", "RNTuple"):
        path = tmp_path / f"{written}.root"
        score_file(ScoreJob(str(skims["TTree", written]), path, [model], copy=copy))
        with RootFile(path) as file:
            assert file.format == written
        found.append(content(path))
    assert found[0] == found[1]
    assert len(set(found[0]["events"]["linear_signal"])) > 1


def test_an_rntuple_is_merged_to_one(made_files: dict[str, Path], tmp_path: Path) -> None:
    if not can_write_rntuple():
        pytest.skip(f"uproot {uproot.__version__} writes no RNTuple")
    merged = []
    for written in ("TTree", "RNTuple"):
        parts = [tmp_path / f"{written}_{name}.root" for name in ("made_v9_mc", "made_v9_mc_skimmed")]
        for part, name in zip(parts, ("made_v9_mc", "made_v9_mc_skimmed")):
            skim_file(SkimJob(str(made_files[name]), part, keep=["*"], format=written))
        merge_files(MergeJob([str(part) for part in parts], tmp_path / f"{written}.root"))
        with RootFile(tmp_path / f"{written}.root") as file:
            assert file.format == written
        merged.append(content(tmp_path / f"{written}.root"))
    assert merged[0] == merged[1]
    assert len(merged[0]["events"]["event"]) == 110


@needs_rntuples
def test_a_skim_without_events_is_an_rntuple_with_its_books(made_files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    skim_file(SkimJob(str(made_files["made_v9_mc_zero_events"]), path, SELECTION, keep=KEEP, format="RNTuple"))
    found = content(path)
    assert found["events"]["Muon_pt"] == []
    assert found["sums"][0] != 0


@needs_rntuples
def test_files_of_cmssw_are_skimmed(tmp_path: Path) -> None:
    found = []
    for number, source in enumerate((RECORDS, LISTS)):
        path = tmp_path / f"{number}.root"
        skim_file(SkimJob(str(source), path, cut="nMuon >= 2 && Muon_pt[0] > 100", keep=["*"]))
        found.append(content(path))
    one, two = found
    assert one["events"] == two["events"]
    assert one["books"] == two["books"]
    assert one["trees"] == two["trees"]
    assert one["sums"] == (48, "Runs/genEventSumw")
    assert one["events"]["event"] == [number for number in range(10, 40) if number % 4 >= 2]


def test_what_cannot_write_an_rntuple_says_so(made_files: dict[str, Path], tmp_path: Path) -> None:
    job = SkimJob("", Path(), keep=["*"], engine="nanoaodtools", format="RNTuple")
    with pytest.raises(ConfigError, match=r"skim.format: the engine nanoaodtools writes no RNTuple"):
        skim_tasks(["a.root"], tmp_path, job)
    if not can_write_rntuple():
        job = SkimJob(str(made_files["made_v9_mc"]), tmp_path / "a.root", keep=["*"], format="RNTuple")
        with pytest.raises(NanoMLError, match=r"Events is to be an RNTuple\. That takes uproot 5\.7 or newer"):
            skim_file(job)
        assert not list(tmp_path.iterdir())


SHIFTED = """
import awkward as ak
from MLTools.NanoML.corrections import jets
from MLTools.NanoML.corrections.weights import btag_shape
from MLTools.NanoML.selection import UP_DOWN, Column, Selection, Weight


class Shifted(Selection):
    branches = (*jets.branches(), "Muon_pt", "Jet_btagDeepFlavB")
    simulated = (*jets.SIMULATED, "Jet_hadronFlavour")
    optional = jets.SIMPLIFIED
    columns = {
        "nHard": Column("i4", "number of good jets"),
        "Jet1_pt": Column("f4", "transverse momentum of the hardest jet [GeV]"),
        "nLoose": Column("i4", "number of muons"),
        "isRare": Column("?", "one event has another value under jesUp"),
    }
    collections = {"Good": {"pt": Column("f4", "pt [GeV]"), "flavour": Column("i1", "hadron flavour")}}
    weights = {"btag": Weight((), keeps_yield=True, bins="number of jets")}
    shifts = {"jes": UP_DOWN, "jesFlavorQCD": UP_DOWN, "jer": UP_DOWN}
    nominal = None

    def prepare(self, events):
        c = self.dataset.corrections.jets
        events = jets.corrected(events, c, self.dataset.is_data)
        return jets.shifted(events, c, *self.nominal).under("_".join(self.nominal), events.rows) if self.nominal else events

    def shift(self, events, name, direction):
        return jets.shifted(events, self.dataset.corrections.jets, name, direction)

    def select(self, events, cutflow):
        events = cutflow.cut("muons", ak.num(events.Muon_pt) > 0, events)
        good = events.Jet[events.Jet.pt > 40]
        shape = lambda: btag_shape(self.dataset.corrections.btag, good.hadronFlavour, good.eta, good.pt,
                                   good.btagDeepFlavB, [], events.shift)
        cutflow.weigh("btag", lambda: shape().product(), ak.num(good))
        events, good = cutflow.cut("two jets", ak.num(good) >= 2, events, good)
        rare = (events.event == RARE) & (events.shift == "jes_up")
        return events, {"nHard": ak.num(good), "Jet1_pt": ak.max(good.pt, axis=1), "nLoose": ak.num(events.Muon_pt),
                        "isRare": rare, "Good": {"pt": good.pt, "flavour": good.hadronFlavour}}
"""
PLAIN = """

class {name}(Shifted):
    shifts = {{}}
    nominal = ({shift!r}, {direction!r})
"""
SHIFTS = [(name, direction) for name in ("jes", "jesFlavorQCD", "jer") for direction in ("up", "down")]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> SkimJob:
    folder = tmp_path_factory.mktemp("shifts")
    source = Events.read().write(folder / "source.root", np.arange(400), np.ones(400, np.float32))
    plain = "".join(
        PLAIN.format(name=f"{name}{direction}", shift=name, direction=direction) for name, direction in SHIFTS
    )
    with uproot.open(source) as file:
        muons, numbers = file["Events/nMuon"].array(library="np"), file["Events/event"].array(library="np")
    last = numbers[muons > 0][-40:]  # of which some have jets enough
    (folder / "shifted.py").write_text(SHIFTED.replace("== RARE", f">= {last.min()}") + plain)
    (folder / "nominal.py").write_text("from shifted import Shifted\n\nclass Nominal(Shifted):\n    shifts = {}\n")
    info = DatasetInfo("WZ", "2018", corrections_file=str(ROOT / "examples" / "corrections" / "2018.yaml"))
    return SkimJob(source, folder / "all.root", "shifted.py:Shifted", str(folder), ("MET_pt",), dataset=info, chunk=100)


def test_each_shift_is_that_of_a_skim_of_its_own(job: SkimJob) -> None:
    accounting = skim_file(job)
    with uproot.open(job.output) as file:
        found = file["Events"].arrays(library="np")
    [all_of_file] = accounting.files
    assert len(found["event"]) == accounting.written == accounting.selected + all_of_file.only_shifted
    assert accounting.selected == found["selected"].sum() < accounting.written
    names = ["nHard", "Jet1_pt", "nLoose", "isRare", "weight_btag", "weight_btag_bin"]
    sums = {each.shift: each for each in accounting.shifts}
    assert len(sums) == 6
    plain = {
        "": "nominal.py:Nominal",
        **{f"_{name}{way.capitalize()}": f"shifted.py:{name}{way}" for name, way in SHIFTS},
    }
    for suffix, selection in plain.items():
        alone = replace(job, selection=selection, output=job.output.parent / "plain.root")
        [expected] = skim_file(alone).files
        with uproot.open(alone.output) as file:
            other = file["Events"].arrays(library="np")
        passed = found[f"selected{suffix}"]
        assert np.array_equal(found["event"][passed], other["event"])
        for name in names:
            column = found.get(f"{name}{suffix}", found[name])
            assert column[passed].tolist() == other[name].tolist(), (name, suffix)
        for name in ("pt", "flavour"):
            column = found.get(f"Good{suffix}_{name}", found[f"Good_{name}"])
            assert [each.tolist() for each in column[passed]] == [each.tolist() for each in other[f"Good_{name}"]]
        books = sums[suffix[1:]] if suffix else all_of_file
        assert books.cutflow == expected.cutflow
        assert books.weights == expected.weights
    assert "nHard_jesUp" in found
    assert "Jet1_pt_jerDown" in found
    assert "weight_btag_jesUp" in found
    assert "weight_btag_bin_jerUp" in found
    assert not [name for name in found if name.startswith("nLoose_")]
    assert found["nGood"].tolist() == [len(each) for each in found["Good_pt"]]
    assert found["nGood_jesUp"].tolist() != found["nGood"].tolist()
    # it differs in the last events alone, when the output has been begun
    assert [name for name in found if name.startswith("isRare_")] == ["isRare_jesUp"]
    record = record_of(job.output)
    assert record.accounting == accounting
    assert record.contradiction(RootFile(job.output)) is None
    assert record.columns["Jet1_pt_jesUp"].title.endswith("[GeV], under the shift jes_up")


def test_a_skim_with_shifts_is_not_skimmed_again(job: SkimJob) -> None:
    output = job.output.parent / "first.root"
    skim_file(replace(job, output=output))
    with pytest.raises(NanoMLError, match="was skimmed with shifts"):
        skim_file(SkimJob(str(output), output.with_name("again.root"), cut="MET_pt > 20", keep=("MET_pt",)))


def test_a_branch_of_the_file_is_not_taken_for_a_column_under_a_shift(job: SkimJob) -> None:
    (job.output.parent / "odd.py").write_text(
        "import numpy as np\nfrom MLTools.NanoML.selection import Column, Selection\n\n"
        "class Odd(Selection):\n"
        "    branches = ('event',)\n"
        "    columns = {'nLoose_jesUp': Column('i4', 'a name that looks like a shift')}\n\n"
        "    def select(self, events, cutflow):\n"
        "        return events, {'nLoose_jesUp': np.full(len(events), 7)}\n"
    )
    made = job.output.with_name("odd.root")
    skim_file(replace(job, selection="odd.py:Odd", keep=("*",), output=made))
    again = replace(job, source=str(made), output=job.output.with_name("again.root"), keep=("nLoose*",))
    with pytest.raises(NanoMLError, match=r"nLoose_jesUp is made by the selection, .*`drop nLoose_jesUp`"):
        skim_file(again)
    skim_file(replace(again, keep=("nLoose*", "drop nLoose_jesUp")))
    with uproot.open(again.output) as file:
        assert "nLoose_jesUp" not in file["Events"]
