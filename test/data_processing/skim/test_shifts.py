"""Skims with shifts, against skims by the same selection with each shift as if it were nominal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import uproot
from conftest import ROOT

from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import DatasetInfo
from services.rootfiles import record_of
from services.shifted import Events

SELECTION = """
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
    """The skim by the selection with shifts."""
    folder = tmp_path_factory.mktemp("shifts")
    source = Events.read().write(folder / "source.root", np.arange(400), np.ones(400, np.float32))
    plain = "".join(
        PLAIN.format(name=f"{name}{direction}", shift=name, direction=direction) for name, direction in SHIFTS
    )
    with uproot.open(source) as file:
        muons, numbers = file["Events/nMuon"].array(library="np"), file["Events/event"].array(library="np")
    last = numbers[muons > 0][-40:]  # of which some have jets enough
    (folder / "shifted.py").write_text(SELECTION.replace("== RARE", f">= {last.min()}") + plain)
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
