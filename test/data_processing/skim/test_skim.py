from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from data_processing.skim import skim as skim_module
from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from data_processing.skim.stage import skim_summary
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.lumimask import LumiMask
from MLTools.NanoML.nanoaod.provenance import MadeColumn
from MLTools.NanoML.rootio.baskets import PlainBranch
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Step
from processes import nanoml
from services.arrays import same
from services.data import embedded_baskets
from services.nanoaod import CERTIFIED, DATASETS
from services.rootfiles import Short, record_of, values_of

Reads = list[tuple[tuple[str, ...], int, int]]

TRILEPTON = "MLTools.NanoML.trilepton:Trilepton"
EVEN = """
import awkward as ak
import numpy as np
from MLTools.NanoML.selection import Column, Selection

class Even(Selection):
    branches = ("event", "Muon_pt", "MET_pt")
    optional = {"HLT_IsoMu24": True, "HLT_NeverWas": False, "Muon_never": 0}
    columns = {"nGood": Column("i4", "muons above 3 GeV"), "sum_pt": Column("f4", "sum of pt [GeV]")}

    def select(self, events, cutflow):
        events = cutflow.cut("even", events.event % 2 == 0, events)
        assert not ak.any(events.HLT.NeverWas)
        good = events.Muon.pt[events.Muon.pt > 3]
        return events, {"nGood": ak.num(good), "sum_pt": ak.sum(good, axis=1) + events.MET.pt}

class Nothing(Even):
    def select(self, events, cutflow):
        events = cutflow.cut("nothing", events.MET.pt < 0, events)
        return events, {"nGood": events.event, "sum_pt": events.MET.pt}

class Sneaky(Even):
    def select(self, events, cutflow):
        events, columns = super().select(events, cutflow)
        rest = np.arange(len(events)) > 0
        return events[rest], {name: values[rest] for name, values in columns.items()}

class Clash(Even):
    columns = {"MET_pt": Column("f4", "missing momentum")}

    def select(self, events, cutflow):
        return events, {"MET_pt": events.MET.pt}
"""


@pytest.fixture
def source(sample: Path) -> Path:
    """A file of 800 events of weight 1."""
    return sample / "ZGToLLG" / "ZGToLLG_0.root"


@pytest.fixture
def even(tmp_path: Path) -> Path:
    (tmp_path / "selections.py").write_text(EVEN)
    return tmp_path


def test_a_skim_has_the_events_the_columns_and_the_accounting(tmp_path: Path, mc_files: dict[str, list[Path]]) -> None:
    source = mc_files["WZTo3LNu"][0]
    made = DATASETS["WZTo3LNu"][source.stem]
    # many chunks and one give the same
    for chunk, name in ((35, "a.root"), (200_000, "b.root")):
        job = SkimJob(str(source), tmp_path / name, TRILEPTON, keep=("MET_*", "Muon_*"), cut="event % 5 != 0")
        accounting = skim_file(replace(job, chunk=chunk))
        assert Accounting.from_json(json.loads(json.dumps(accounting.to_json()))) == accounting
        assert accounting.entries == made.events == accounting.cutflow[0].events
        assert accounting.sum_of_weights == pytest.approx(made.sum_of_weights, rel=1e-14)
        assert accounting.cutflow[0].weights == pytest.approx(made.sum_of_weights, rel=1e-7)
        counts = [step.events for step in accounting.cutflow]
        assert counts == sorted(counts, reverse=True)
        assert accounting.selected == counts[-1] < counts[0]
    with uproot.open(tmp_path / "a.root") as a, uproot.open(tmp_path / "b.root") as b, uproot.open(source) as original:
        picked = np.isin(np.asarray(original["Events/event"].array()), np.asarray(a["Events/event"].array()))
        assert picked.sum() == accounting.selected > 20
        every = np.asarray(original["Events/genWeight"].array(), np.float64)
        weights = every[picked]
        assert (weights < 0).any()
        cut = np.asarray(original["Events/event"].array()) % 5 != 0
        assert accounting.cutflow[1].weights == pytest.approx(every[cut].sum(), rel=1e-12)
        assert accounting.cutflow[-1].weights == pytest.approx(weights.sum(), rel=1e-12)
        for name in a["Events"].keys():
            first = a["Events"][name].array()
            assert ak.to_list(first) == ak.to_list(b["Events"][name].array())
            if name in original["Events"].keys():
                assert ak.to_list(first) == ak.to_list(original["Events"][name].array()[picked])
        assert {"channel", "ZCand_mass", "genWeight", "MET_pt", "Muon_highPtId", "nMuon"} <= set(a["Events"].keys())
        assert "Electron_pt" not in a["Events"].keys()
        for tree in ("Runs", "LuminosityBlocks"):
            assert a[tree].arrays().tolist() == original[tree].arrays().tolist()
    record = record_of(tmp_path / "a.root")
    assert accounting.files[0].file == record.accounting.files[0].file == str(source)
    assert record.columns["ZCand_mass"] == MadeColumn("float32", "mass of the Z candidate [GeV]")


def test_every_file_is_skimmed(even: Path, made_file: Path) -> None:
    """Values, types, titles and counters are those of the input, and columns are made of them."""
    output = even / "out.root"
    keep = ("*", "HLT_NeverWas")
    accounting = skim_file(SkimJob(str(made_file), output, "selections.py:Even", str(even), keep, chunk=33))
    with RootFile(made_file) as before, RootFile(output) as after:
        picked = np.asarray(before.read(["event"])["event"]) % 2 == 0
        assert after.entries == accounting.selected == int(picked.sum())
        lists = [branch for branch in after.branches.values() if branch.is_jagged]
        counters = {f"n{branch.collection}" for branch in lists}
        # counters of single lists are not there any more: collections have theirs
        assert not {f"n{branch.name}" for branch in lists if branch.collection != branch.name} & set(after.branches)
        assert set(after.branches) - set(before.branches) <= {*counters, "nGood", "sum_pt", "HLT_NeverWas"}
        assert len(after.branches) > 50
        arrays, expected = after.read(after.branches), before.read(set(after.branches) & set(before.branches))
        for name in expected:
            one, two = after.branches[name], before.branches[name]
            kinds = [(branch.dtype, branch.shape, branch.collection, branch.title) for branch in (one, two)]
            assert kinds[0] == kinds[1], name
            assert same(arrays[name], expected[name][picked]), name
        pt = ak.values_astype(before.read(["Muon_pt"])["Muon_pt"][picked], np.float64)
        met = np.asarray(before.read(["MET_pt"])["MET_pt"], np.float64)[picked]
        assert np.asarray(arrays["sum_pt"]) == pytest.approx(np.asarray(ak.sum(pt[pt > 3], axis=1)) + met, rel=1e-6)
        assert not np.asarray(arrays["HLT_NeverWas"]).any()
        record = record_of(output)
        assert record.accounting.entries == before.entries
        lacking = [name for name in ("HLT_IsoMu24", "HLT_NeverWas") if name not in before.branches]
        assert [file.absent for file in record.accounting.files] == [lacking]
        assert record.accounting.sum_of_weights == accounting.sum_of_weights


def test_a_file_of_which_nothing_is_kept_keeps_its_weights(even: Path, source: Path) -> None:
    accounting = skim_file(SkimJob(str(source), even / "out.root", "selections.py:Nothing", str(even), ("MET_*",)))
    assert (accounting.selected, accounting.sum_of_weights) == (0, 800.0)
    with uproot.open(even / "out.root") as file:
        assert file["Events"].num_entries == 0
        assert file["Runs/genEventSumw"].array().tolist() == [800.0]
        assert {"run", "event", "MET_pt", "sum_pt", "genWeight"} <= set(file["Events"].keys())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("Even", {"keep": ("MTE_pt",)}, r'skim.keep: .*ZGToLLG_0.root .*has no branch MTE_pt. Did you mean "MET_pt"'),
        ("Even", {"keep": ("HLT_IsoMu99",)}, "skim.keep: .*ZGToLLG_0.root .*declare it in the selection"),
        ("Even", {"keep": ("Muon_never",)}, "only numbers of events are kept by their default"),
        ("Sneaky", {}, "passed the last cut, but 399 were kept.*cutflow.cut only"),
        ("Clash", {"keep": ("MET_*",)}, "MET_pt is made by the selection, but the file has a branch of that name"),
        ("Even", {"cut": "nMuon >= 0"}, 'ZGToLLG_0.root: there are two cuts named "cut"'),
    ],
)
def test_what_cannot_be_skimmed_is_told_and_leaves_nothing(
    even: Path, source: Path, name: str, settings: dict[str, Any], message: str
) -> None:
    if "cut" in settings:
        (even / "selections.py").write_text(EVEN.replace('cut("even"', 'cut("cut"'))
    with pytest.raises(NanoMLError, match=message):
        skim_file(SkimJob(str(source), even / "out.root", f"selections.py:{name}", str(even), **settings))
    assert "out.root" not in os.listdir(even)


def test_a_disk_that_is_full_is_one_message_and_leaves_nothing(tmp_path: Path, sample: Path) -> None:
    source = sample / "WprimeToWZToLNuLL_M600" / "WprimeToWZToLNuLL_M600_0.root"
    job = SkimJob(str(source), tmp_path / "out.root", TRILEPTON, keep=("*",))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for limit in (0, 5000, 60000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1][1]))
            with pytest.raises(NanoMLError, match=r"^\S+/out.root: cannot write: File too large.$"):
                skim_file(job)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[1])
        signal.signal(signal.SIGXFSZ, before[0])
    assert os.listdir(tmp_path) == []


GOLDEN = {"1": [[1, 13001], [13003, 13003]], "2": [[1, 5]]}


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """Certified sections: half of those of the example's first file."""
    path = tmp_path / "golden.json"
    path.write_text(json.dumps(GOLDEN))
    return path


@pytest.fixture
def data(sample: Path, tmp_path: Path) -> Path:
    """Events of the example as if they were data: without weights, with runs and sections of which some have none."""
    source = sample / "WZTo3LNu" / "WZTo3LNu_0.root"
    names = ["run", "luminosityBlock", "event", "nMuon", "MET_pt", "Muon_pt", "Muon_eta", "Jet_pt", "HLT_IsoMu24"]
    sections = {name: Branch(name, "uint32", "flat", "", None, "") for name in ("run", "luminosityBlock")}
    with (
        RootFile(source) as file,
        NanoWriter(tmp_path / "data.root", {name: file.branches[name] for name in names}, "ZLIB:1") as writer,
    ):
        writer.events.extend(file.read([name for name in names if name != "nMuon"]))
        writer.write_tree("Runs", {"run": sections["run"]}, {"run": np.uint32([1, 2, 3])})
        blocks = np.uint32([13001, 13002, 13003, 13004, 1, 9])
        rows = {"run": np.uint32([1, 1, 1, 1, 2, 2]), "luminosityBlock": blocks}
        writer.write_tree("LuminosityBlocks", sections, rows)
        writer.write_object("h", np.histogram([0.5, 1.5, 1.6], [0.0, 1, 2]))
        writer.finish()
    return tmp_path / "data.root"


def test_certified_sections_a_cut_and_rules_for_branches_go_together(data: Path, golden: Path, tmp_path: Path) -> None:
    (tmp_path / "branches.txt").write_text("drop *\nkeep Muon_*  # all of them\nkeep Jet_*\nkeep HLT_IsoMu24\n")
    output = tmp_path / "skim.root"
    rules: dict[str, Any] = {"branches": "branches.txt", "keep": ("drop Muon_eta", "dropmatch Je.*")}
    cuts = {"cut": "nMuon >= 1 && MET_pt > 20", "certified": "golden.json"}
    accounting = skim_file(SkimJob(str(data), output, base=str(tmp_path), **cuts, **rules))
    before, after = values_of(data), values_of(output)
    certified = np.isin(before["luminosityBlock"], [13001, 13003])
    passed = certified & (np.array(before["nMuon"]) >= 1) & (np.array(before["MET_pt"]) > 20)
    assert 0 < passed.sum() < certified.sum() < len(passed)
    assert set(after) == {"run", "luminosityBlock", "event", "nMuon", "Muon_pt", "HLT_IsoMu24"}
    for name, array in after.items():
        assert array == [value for value, kept in zip(before[name], passed) if kept], name
    assert accounting.cutflow == [
        Step("all", 800, 800.0),
        Step("certified luminosity sections", certified.sum(), float(certified.sum())),
        Step("cut", passed.sum(), float(passed.sum())),
    ]
    assert values_of(output, "Runs") == {"run": [1, 2]}
    assert values_of(output, "LuminosityBlocks") == {"run": [1, 1, 2], "luminosityBlock": [13001, 13003, 1]}
    sections = LumiMask.of([1, 1, 2], [13001, 13003, 1])
    assert accounting.luminosity_sections == sections
    with uproot.open(output) as file:
        assert file["h"].values().tolist() == [1, 2]


def test_sections_of_simulation_are_not_certified(sample: Path, golden: Path, tmp_path: Path) -> None:
    source = sample / "WZTo3LNu" / "WZTo3LNu_0.root"
    for settings, output in (({}, "plain.root"), ({"certified": str(golden)}, "certified.root")):
        accounting = skim_file(SkimJob(str(source), tmp_path / output, cut="MET_pt > 20", keep=("MET_*",), **settings))
        assert [step.cut for step in accounting.cutflow] == ["all", "cut"]
        assert accounting.files[0].luminosity_sections == {}
    for tree in ("Events", "Runs", "LuminosityBlocks"):
        assert values_of(tmp_path / "plain.root", tree) == values_of(tmp_path / "certified.root", tree)
    for tree in ("Runs", "LuminosityBlocks"):
        assert values_of(tmp_path / "certified.root", tree) == values_of(source, tree)


def test_data_of_which_no_section_is_certified(data: Path, tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text('{"9": [[1, 5]]}')
    output = tmp_path / "skim.root"
    accounting = skim_file(SkimJob(str(data), output, certified=str(tmp_path / "none.json"), keep=("*",)))
    assert (accounting.entries, accounting.selected) == (800, 0)
    assert set(values_of(output)) == set(values_of(data))
    assert values_of(output, "LuminosityBlocks") == {"run": [], "luminosityBlock": []}
    assert accounting.files[0].luminosity_sections == {}


def test_the_command_writes_the_luminosity_of_data(
    data: Path, golden: Path, made_files: dict[str, Path], tmp_path: Path
) -> None:
    other = made_files["made_v9_data"]
    (tmp_path / "both.json").write_text(json.dumps({**GOLDEN, **CERTIFIED, "315267": [[10, 11]]}))
    options = ("--json", "both.json", "--cut", "event % 2 == 0", "-o", "skims")
    done = nanoml("skim", *options, data, other, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = LumiMask.read(tmp_path / "skims" / "luminosity.json")
    with RootFile(data) as one, RootFile(other) as two:
        blocks = [file.other_tree("LuminosityBlocks") or {} for file in (one, two)]
    sections = LumiMask()
    for tree in blocks:
        sections |= LumiMask.of(tree["run"], tree["luminosityBlock"])
    assert written == sections & LumiMask.read(tmp_path / "both.json")
    assert written.runs == [1, 2, 315267, 315270]
    # also those that have no events
    assert written.as_dict()["315267"] == [[10, 11]]
    assert f"{len(written)} luminosity sections of data, for brilcalc" in done.stderr


class Watched(RootFile):
    """Notes what is read, and what is announced."""

    reads: Reads = []
    announced: Reads = []

    def announce(self, names: Iterable[str], ranges: Iterable[tuple[int, int]]) -> bool:
        asked = tuple(names)
        Watched.announced += [(asked, *each) for each in ranges]
        return super().announce(asked, ())

    def read_plain(self, names: Iterable[str], start: int = 0, stop: int | None = None, *pick: Any) -> dict[str, Any]:
        asked = tuple(names)
        if asked:
            Watched.reads.append((asked, start, self.entries if stop is None else stop))
        return super().read_plain(asked, start, stop, *pick)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """What a skim reads of its file: names, first entry, and the one behind the last."""
    monkeypatch.setattr(Watched, "reads", [])
    monkeypatch.setattr(Watched, "announced", [])
    monkeypatch.setattr(skim_module, "RootFile", Watched)
    return Watched.reads


@pytest.fixture
def baskets(sample: Path, tmp_path: Path) -> Path:
    """The events of the example in baskets of 100."""
    names = ["event", "luminosityBlock", "run", "genWeight", "MET_pt", "Muon_pt", "Muon_eta", "Jet_pt"]
    with RootFile(sample / "WZTo3LNu" / "WZTo3LNu_0.root") as file:
        branches = {name: file.branches[name] for name in names}
        with NanoWriter(tmp_path / "baskets.root", branches, "ZLIB:1") as writer:
            for start in range(0, 800, 100):
                writer.events.extend(file.read(names, start, start + 100))
                writer.events.flush()
            runs = {"genEventSumw": Branch("genEventSumw", "float64", "flat", "", None, "")}
            writer.write_tree("Runs", runs, {"genEventSumw": np.array([800.0])})
            writer.finish()
    return tmp_path / "baskets.root"


@pytest.mark.parametrize("chunk", [100, 800])
def test_a_tight_cut_reads_the_other_branches_only_where_events_are_kept(
    baskets: Path, tmp_path: Path, reads: Reads, chunk: int
) -> None:
    events = values_of(baskets)["event"]
    cut = f"event == {events[250]} || event == {events[299]} || event == {events[700]}"
    skim_file(SkimJob(str(baskets), tmp_path / "skim.root", cut=cut, keep=("*",), chunk=chunk))
    assert values_of(tmp_path / "skim.root")["event"] == [events[250], events[299], events[700]]
    of_cut = [each for each in reads if "event" in each[0]]
    others = [each for each in reads if each not in of_cut]
    assert [each[1:] for each in of_cut] == [(start, start + chunk) for start in range(0, 800, chunk)]
    assert all(set(names) == {"event", "genWeight"} for names, _, _ in of_cut)
    assert [each[1:] for each in others] == [(200, 300), (700, 800)]
    for names, _, _ in others:
        assert {"Muon_pt", "Jet_pt", "MET_pt", "run"} <= set(names)
        assert not set(names) & {"event", "genWeight"}  # nothing is read twice
    assert sorted(Watched.announced) == sorted(reads)  # so a server moves nothing else


@pytest.mark.parametrize(("memory", "most"), [(0.05, 400), (0.011, 100), (0.001, 9)])
def test_less_memory_makes_smaller_chunks_of_the_same_events(
    baskets: Path, tmp_path: Path, reads: Reads, memory: Any, most: int
) -> None:
    skim_file(SkimJob(str(baskets), tmp_path / "skim.root", cut="Muon_pt[0] > 20", keep=("*",), memory=memory))
    with RootFile(baskets) as file:
        for names, start, stop in reads:
            assert (stop - start) * file.bytes_per_event(names) <= memory * 1e6 / 2
    lengths = [stop - start for names, start, stop in reads if "Muon_eta" in names]
    # whole baskets of 100 events, as long as one fits
    assert max(lengths) == most
    before = values_of(baskets)
    passed = [bool(pt) and pt[0] > 20 for pt in before["Muon_pt"]]
    assert values_of(tmp_path / "skim.root") == {
        name: [value for value, kept in zip(array, passed) if kept] for name, array in before.items()
    }


def test_a_weight_that_is_no_number_is_named(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file["Events"] = {"genWeight": np.array([1, 1, np.nan], np.float32)}
        file["Runs"] = {"genEventSumw": np.array([3.0])}
    with pytest.raises(NanoMLError, match="a.root: genWeight is NaN or infinite in entry 2"):
        skim_file(SkimJob(str(tmp_path / "a.root"), tmp_path / "b.root", cut="genWeight > 0"))


ONE_LARGE = """
import numpy as np
from MLTools.NanoML.selection import Column, Factor, Selection, Weight

class OneLarge(Selection):
    branches = ("event", "MET_pt")
    columns = {"met": Column("f4", "missing momentum [GeV]")}
    weights = {"pileup": Weight(), "shape": Weight(())}

    def select(self, events, cutflow):
        number = np.asarray(events.event)
        cutflow.weigh("shape", np.where(number % 4 == 0, 3.0, 1.0))  # 1.5 in the mean, and never far from it
        events, number = cutflow.cut("half", number % 2 == 0, events, number)
        one = np.ones(len(number))
        up = np.where(number == HUGE, 90.0, one)
        cutflow.weigh("pileup", Factor(np.where(number == LARGE, -40.0, one), {"up": up, "down": one}))
        return events, {"met": events.MET.pt}
"""


def test_a_weight_far_above_its_mean_is_named_with_its_event(tmp_path: Path, sample: Path) -> None:
    source = sample / "WZTo3LNu_Pt100" / "WZTo3LNu_Pt100_0.root"
    with uproot.open(source) as file:
        read = file["Events"].arrays(["run", "luminosityBlock", "event", "genWeight"], library="np")
    before = read.pop("genWeight").astype(float) * np.where(read["event"] % 4, 1.0, 3.0)
    even = np.flatnonzero(read["event"] % 2 == 0)
    large, huge = (":".join(str(read[name][even[place]]) for name in read) for place in (3, 400))
    text = ONE_LARGE.replace("LARGE", large.rpartition(":")[2]).replace("HUGE", huge.rpartition(":")[2])

    def told(name: str, text: str) -> list[str]:
        (tmp_path / name).write_text(text)
        job = SkimJob(str(source), tmp_path / "out.root", selection=f"{tmp_path}/{name}:OneLarge", chunk=128)
        return [line for line in skim_summary({}, {"WZ/0": skim_file(job).to_json()}) if "WARNING" in line]

    shape, outlier = told("a.py", text)
    assert shape.startswith("  WARNING: shape changes the sum of weights of all events by +")
    assert shape.endswith("as the shape of b-tagging, its declaration says Weight(..., keeps_yield=True).")
    mean = 1 + 89 * before[even[400]] / before[even].sum()
    assert outlier == f"  WARNING: pileup, up, is 90 in the event {huge}: {90 / mean:.3g} times its mean."
    mean = 1 - 41 * before[even[3]] / before[even].sum()
    outlier = told("b.py", text.replace("90.0", "1.0"))[1]
    assert outlier == f"  WARNING: pileup is -40 in the event {large}: {40 / mean:.3g} times its mean."


def test_a_skim_that_read_fewer_events_than_the_file_has_is_refused(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skim_module, "RootFile", Short)
    job = SkimJob(str(sample / "ZGToLLG" / "ZGToLLG_0.root"), tmp_path / "a.root", cut="MET_pt > 20", chunk=300)
    with pytest.raises(NanoMLError, match=r"has 800 events, but 600 were read\. Nothing was written"):
        skim_file(job)
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_its_baskets_inside_the_branches(tmp_path: Path) -> None:
    job = SkimJob(str(embedded_baskets.PATH), tmp_path / "a.root", cut="nMuon > 1", keep=("Muon_*",), chunk=7)
    accounting = skim_file(job)
    passed = [event for event in range(embedded_baskets.EVENTS) if len(embedded_baskets.muon_pts(event)) > 1]
    weights = [embedded_baskets.weight(event) for event in range(embedded_baskets.EVENTS)]
    assert accounting.sum_of_weights == sum(weights)
    assert accounting.cutflow[-1].weights == sum(weights[event] for event in passed)
    with uproot.open(job.output) as file:
        found = file["Events"].arrays(["event", "Muon_pt"], how=dict)
    assert found["event"].tolist() == passed
    assert found["Muon_pt"].tolist() == [embedded_baskets.muon_pts(event) for event in passed]


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
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*line, *INPUTS], cwd=directory, start_new_session=True, **pipes)


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
