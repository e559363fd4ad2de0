from __future__ import annotations

import inspect
import os
import pickle
import shutil
import subprocess
import sys
from array import array
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import awkward as ak
import numpy as np
import pytest
import uproot

from MLTools.NanoML import trilepton
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.loading import import_file
from MLTools.NanoML.nanoaod.accounting import accounting_of
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.nanoaodtools import PostprocModule
from MLTools.NanoML.nanoaodtools.branches import declare
from MLTools.NanoML.nanoaodtools.evaluation import Evaluation
from MLTools.NanoML.nanoaodtools.source import Source
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Column, Selected, Selection, load_selection
from MLTools.NanoML.trilepton import Trilepton
from services import nanoaodtools
from services.nanoaod import CERTIFIED, FILES
from services.nanoaodtools import Making, Plain, Postprocess, Tree, loop, needs_nanoaodtools, record

IDENTIFIERS = ("run", "luminosityBlock", "event")
PASSES = 263  # of 1000 events


def in_one_go(selection: Selection, path: Path) -> Selected:
    with RootFile(path) as file:
        bound = selection.bind(file.branches, file.path)
        return bound.apply(file.read(bound.branches), np.ones(file.entries))


def bits(values: Any) -> list[int]:
    """Numbers by their bits: NaN, -0 and the last digit count."""
    plain = np.asarray(values)
    found: list[int] = plain.view(f"u{plain.itemsize}").tolist()
    return found


class Muons(Selection):
    """Reads a fixed name of its own, MET_pt, and makes columns of several types."""

    branches = ("Muon_pt", "MET_pt")
    columns = {"nHard": Column("u1", "hard muons"), "ht": Column("f4", "sum of pt [GeV]"), "hasMuon": Column("?", "")}

    def select(self, events: Any, cutflow: Any) -> Any:
        events = cutflow.cut("missing momentum", events.MET.pt > 30, events)
        hard = events.Muon.pt > 20
        events, hard = cutflow.cut("hard muon", ak.any(hard, axis=1), events, hard)
        pt = ak.values_astype(events.Muon.pt, np.float64)
        return events, {"nHard": ak.sum(hard, axis=1), "ht": ak.sum(pt, axis=1), "hasMuon": ak.num(pt) > 0}


class After(Selection):
    """Reads what another module makes, and what is in the file."""

    branches = ("ht", "MET_pt")
    columns = {"ratio": Column("f4", "missing momentum over ht"), "wide": Column("f8", "ht")}

    def select(self, events: Any, cutflow: Any) -> Any:
        events = cutflow.cut("ht", events.ht > 100, events)
        return events, {"ratio": events.MET.pt / events.ht, "wide": events.ht}


@pytest.mark.parametrize("chunk", [1, 64, 100_000])
def test_events_and_values_are_those_of_the_selection(source: Path, chunk: int) -> None:
    entries = range(0, 1000, 97) if chunk == 1 else range(1000)  # a chunk takes 0.1 s
    expected = in_one_go(Trilepton(), source)
    place = {entry: number for number, entry in enumerate(expected.rows.tolist()) if entry in entries}
    found = loop([PostprocModule(Trilepton(), chunk)], source, entries)
    assert [entry for entry, _ in found] == list(place)
    assert len(place) == (PASSES if chunk > 1 else 3)
    for name, values in expected.columns.items():
        assert [row[name] for _, row in found] == values[list(place.values())].tolist()
        assert type(found[0][1][name]) is (int if values.dtype.kind == "i" else float)


def test_the_cut_flow_counts_the_events_that_came(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop([PostprocModule(Trilepton(), 300)], source)
    assert "Trilepton: all 1,000, three good leptons 390, Z candidate 388, W lepton 263" in capsys.readouterr().err
    loop([PostprocModule(Trilepton(), 300)], source, range(100, 550))
    part = capsys.readouterr().err
    assert "Trilepton: all 1,000, reached Trilepton 450, three good leptons " in part
    rows = in_one_go(Trilepton(), source).rows
    assert f"Z muon identification {((rows >= 100) & (rows < 550)).sum()}\n" in part


def test_entries_are_counted_along_the_entry_list(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = [*range(3, 700, 7), 998, 999]
    rows = in_one_go(Trilepton(), source).rows.tolist()
    for chunk in (50, 100_000):
        found = loop([PostprocModule(Trilepton(), chunk)], source, listed=listed)
        assert [listed[number] for number, _ in found] == [entry for entry in listed if entry in rows]
        assert f"all 1,000, reached Trilepton {len(listed)}, " in capsys.readouterr().err


def test_only_chunks_with_listed_entries_are_read(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranges, evaluated = [], []
    read = RootFile.read

    def noted(file: RootFile, names: Any, start: int = 0, stop: Optional[int] = None) -> Any:
        ranges.append((start, stop))
        return read(file, names, start, stop)

    class Counted(Muons):
        def select(self, events: Any, cutflow: Any) -> Any:
            evaluated.append(len(events))
            return super().select(events, cutflow)

    monkeypatch.setattr(RootFile, "read", noted)
    loop([PostprocModule(Counted(), 100)], source, listed=[5, 250, 251, 999])
    assert {(0, 100), (200, 300), (900, 1000)} == {each for each in ranges if each not in ((0, 0), (0, 1000))}
    assert evaluated == [1, 2, 1]  # each once
    evaluated.clear()
    loop([PostprocModule(Counted(), 300)], source, range(100, 550))
    assert sum(evaluated) == 600  # those of two chunks, of which some were not asked for


def test_a_selection_reads_the_columns_of_another_in_bulk(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = in_one_go(Muons(), source)
    with RootFile(source) as file:
        met = np.asarray(file.read(["MET_pt"])["MET_pt"])[first.rows].astype(np.float64)
    ht = first.columns["ht"]
    for chunks in ((1000, 1000), (77, 77)):
        found = loop([PostprocModule(Muons(), chunks[0]), PostprocModule(After(), chunks[1])], source)
        assert [entry for entry, _ in found] == first.rows[ht > 100].tolist()
        assert [row["ratio"] for _, row in found] == (met / ht)[ht > 100].astype(np.float32).tolist()
        assert {*found[0][1]} == {"nHard", "ht", "hasMuon", "ratio", "wide"}
        told = capsys.readouterr().err
        assert f"hard muon {len(ht)}, ht {len(found)}\n" in told
        assert "Muons, After: all 1,000, missing momentum" in told
        assert "one by one" not in told


def test_branches_of_a_plain_module_are_read_event_by_event(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def make(event: Any) -> bool:
        event.ht = 50.0 + event._entry
        return bool(event._entry % 3)

    after = PostprocModule(After(), 64)
    found = loop([Plain(make), after], source, range(120))
    expected = [entry for entry in range(120) if entry > 50 and entry % 3]
    assert [entry for entry, _ in found] == expected
    assert [row["wide"] for _, row in found] == [50.0 + entry for entry in expected]
    told = capsys.readouterr().err
    said = "After: events are evaluated one by one, which is slow: other modules make what it reads (ht)"
    assert told.count(said) == 1
    assert f"After: all 1,000, reached After 80, ht {len(expected)}\n" in told
    loop([Plain(make), after], source, range(60, 62))
    assert "one by one" not in capsys.readouterr().err


def test_lists_that_a_plain_module_makes_are_collections(source: Path) -> None:
    class Lists(Selection):
        branches = ("Extra_pt", "Extra_id", "MET_pt")
        columns = {"sum": Column("f4", "sum of pt [GeV]")}

        def select(self, events: Any, cutflow: Any) -> Any:
            events = cutflow.cut("any", ak.num(events.Extra.pt) > 0, events)
            return events, {"sum": ak.sum(events.Extra.pt[events.Extra.id == 1], axis=1)}

    def make(event: Any) -> bool:
        event.Extra_pt = array("f", [0.5] * event._entry)
        event.Extra_id = ["\x01", "\x02", "\x01"][: event._entry]
        return True

    found = loop([Plain(make), PostprocModule(Lists())], source, range(4))
    assert [(entry, row["sum"]) for entry, row in found] == [(1, 0.5), (2, 0.5), (3, 1.0)]


def test_events_that_a_module_drops_do_not_count_nor_fail(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Leading(Selection):
        """Takes for granted that there are muons."""

        branches = ("Muon_pt",)
        columns = {"leading": Column("f4", "leading muon [GeV]")}

        def select(self, events: Any, cutflow: Any) -> Any:
            return events, {"leading": events.Muon.pt[:, 0]}

    with RootFile(source) as file:
        muons = ak.to_list(file.read(["Muon_pt"])["Muon_pt"])
    wanted = [entry for entry in range(40) if muons[entry]]
    guard = Plain(lambda event: bool(muons[event._entry]))
    found = loop([guard, PostprocModule(Leading())], source, range(40))
    assert [(entry, row["leading"]) for entry, row in found] == [(entry, muons[entry][0]) for entry in wanted]
    told = capsys.readouterr().err
    assert "Leading: fewer events are evaluated at once: it fails on some that do not reach it (" in told
    assert f"Leading: all 1,000, reached Leading {len(wanted)}\n" in told
    with pytest.raises(NanoMLError, match=r"test_nanoaodtools.py:\d+: Leading: .*"):
        loop([PostprocModule(Leading())], source)

    loop([guard, PostprocModule(Muons())], source, range(40))
    assert f"all 1,000, reached Muons {len(wanted)}, missing momentum " in capsys.readouterr().err


def test_an_event_that_a_selection_fails_on(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated = []

    class Fragile(Selection):
        branches = ("event",)
        columns = {"number": Column("i8", "number of the event")}

        def select(self, events: Any, cutflow: Any) -> Any:
            numbers = np.asarray(events.event).tolist()
            evaluated.append(len(numbers))
            if bad in numbers:
                raise ValueError("a bad event")
            return events, {"number": numbers}

    with RootFile(source) as file:
        numbers = np.asarray(file.read(["event"])["event"]).tolist()
    bad = numbers[777]
    with pytest.raises(NanoMLError, match=r"test_nanoaodtools.py:\d+: Fragile: ValueError: a bad event"):
        loop([PostprocModule(Fragile())], source)
    assert len(evaluated) < 40
    assert evaluated[-1] == 1
    found = loop([Plain(lambda event: event._entry != 777), PostprocModule(Fragile())], source)
    assert [row["number"] for _, row in found] == [number for number in numbers if number != bad]
    told = capsys.readouterr().err
    assert told.count("Fragile: fewer events are evaluated at once: it fails on some that do not reach it (/") == 2
    assert "Fragile: all 1,000, reached Fragile 999\n" in told


def test_without_events_the_cut_flow_is_zero(made_files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert loop([PostprocModule(Trilepton())], made_files["made_v9_mc_zero_events"]) == []
    assert "all 0, three good leptons 0, Z candidate 0, W lepton 0, Z muon" in capsys.readouterr().err


def test_the_cut_flow_has_the_weights_with_their_signs(made_files: dict[str, Path]) -> None:
    path = made_files["made_v9_mc"]
    tree = Tree()
    source = Source(SimpleNamespace(GetName=lambda: str(path)), tree, None)
    evaluation = Evaluation(Trilepton(), source, (), tree, None, 33, print)
    passed = [entry for entry in range(source.file.entries) if evaluation.analyze(nanoaodtools.Event(tree, entry))]
    steps, (kept,) = evaluation.finish().steps, evaluation.kept()[0].steps
    source.close()
    weights = FILES["made_v9_mc"].weights.astype(np.float32).astype(np.float64)
    assert (weights[passed] < 0).any()
    assert (steps[0].events, steps[0].weights) == (len(weights), pytest.approx(weights.sum()))
    assert (steps[-1].events, steps[-1].weights) == (len(passed), pytest.approx(weights[passed].sum()))
    assert (kept.events, kept.weights) == (len(passed), pytest.approx(weights[passed].sum()))


# ----------------------------------------------------------------------------------------------------------------
# names and types


def ask(module: Any, name: str) -> Any:
    """What nano_postproc.py does with a name after -I: nothing, if it is not in the list."""
    return getattr(module, name)() if name in dir(module) else None


def test_a_mistyped_name_is_not_ignored() -> None:
    assert isinstance(ask(trilepton, "trilepton"), PostprocModule)
    with pytest.raises(NanoMLError, match=r'trilepton: has no `triletpon`. Did you mean "trilepton"\? Its mod.*: tri'):
        ask(trilepton, "triletpon")
    with pytest.raises(NanoMLError, match="has no ` trilepton`"):
        ask(trilepton, " trilepton")


def test_nothing_else_notices(tmp_path: Path) -> None:
    assert not hasattr(trilepton, "triletpon")
    assert getattr(trilepton, "__wrapped__", None) is None
    assert sorted(vars(trilepton)) == [str(name) for name in dir(trilepton)]
    assert {"Trilepton", "Z_MASS"} <= dict(inspect.getmembers(trilepton)).keys()
    assert dict.fromkeys(dir(trilepton)).keys() >= {"trilepton", "good_leptons"}
    module = pickle.loads(pickle.dumps(trilepton.trilepton))()
    assert type(module.selection) is Trilepton

    (tmp_path / "mine.py").write_text(
        "from MLTools.NanoML.nanoaodtools import postproc_module as made\n"
        "from MLTools.NanoML.selection import Selection\n"
        "class Mine(Selection):\n    number = 1\n"
        "mine, other = made(Mine), made(lambda: Mine())\n"
    )
    mine = load_selection("mine.py:Mine", tmp_path)
    module = sys.modules[type(mine).__module__]
    assert type(ask(module, "mine").selection) is type(ask(module, "other").selection) is type(mine)
    with pytest.raises(AttributeError, match=r'has no `Mien`. Did you mean "Mine"\? Its modules.*: mine, other\.'):
        ask(module, "Mien")
    with pytest.raises(NanoMLError, match='has no class Mien. Did you mean "Mine"'):
        load_selection("mine.py:Mien", tmp_path)


class Letters:
    """The letters for types that a version of nanoAOD-tools knows."""

    def __init__(self, known: str) -> None:
        self.known = known
        self.declared: dict[str, tuple[str, str]] = {}

    def tree(self) -> Any:
        return SimpleNamespace(GetBranch=lambda name: None)

    def branch(self, name: str, letter: str, title: str) -> None:
        if letter not in self.known:
            raise KeyError(letter)
        self.declared[name] = letter, title


def test_types_are_kept_or_widened() -> None:
    """By the letters of a newer and an older nanoAOD-tools."""
    types, letters = "? i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8", "OO BB bb SI si II ii LL ll FF FF DD"
    for dtype, expected in zip(types.split(), letters.split()):
        typed = type("Typed", (Selection,), {"columns": {"x": Column(dtype, "something [GeV]")}})()
        for known, letter in zip((Letters("bBsSiIFDlLO"), Letters("bBiIFDlLO")), expected):
            made = declare(typed, known)
            assert known.declared == {"x": (letter, "something [GeV]")}
            assert np.can_cast(np.dtype(dtype), made["x"].dtype)


def test_a_type_that_cannot_be_written_is_refused() -> None:
    class Complex(Muons):
        columns = {"x": Column("c16", "amplitude")}

    with pytest.raises(NanoMLError, match=r"test_nanoaodtools.py:\d+: Complex: column x is of type complex128, which"):
        declare(Complex(), Letters("bBsSiIFDlLO"))


# ----------------------------------------------------------------------------------------------------------------
# in nanoAOD-tools itself


def event_loop(met: str = "MET") -> Any:
    """The same selection as a module that is written for nanoAOD-tools."""
    return import_file(Path(__file__).with_name("trilepton_module.py"), "written").TrileptonModule(met)


def muons_module(met: str) -> Making:
    """What the selection Muons does, written for nanoAOD-tools."""

    def values(event: Any) -> Optional[dict[str, Any]]:
        hard = sum(pt > 20 for pt in event.Muon_pt)
        if not (getattr(event, f"{met}_pt") > 30 and hard):
            return None
        return {"nHard": hard, "ht": sum(event.Muon_pt), "hasMuon": True}

    return Making(values, nHard=("b", None), ht=("F", None), hasMuon=("O", None))


def arrays(path: Path, names: Iterable[str], tree: str = "Events") -> dict[str, Any]:
    with uproot.open(path) as file:
        return {name: np.asarray(file[tree][name].array()) for name in names}


def flow(path: Path) -> list[tuple[str, int]]:
    return [(step.cut, step.events) for step in record(path).accounting.cutflow]


def check_same(one: Path, other: Path, columns: Iterable[str] = Trilepton.columns, tree: str = "Events") -> int:
    """Compare the columns of two files bit by bit; return the number of events.

    The mass of two leptons that fly in one direction is the small difference of large numbers: of it, not more can
    be equal than the arithmetic of four-vectors, which differs in the last bit, leaves.
    """
    names = [*columns, *(IDENTIFIERS if tree == "Events" else ())]
    found, expected = arrays(one, names, tree), arrays(other, names, tree)
    for name in names:
        values, others = found[name], expected[name]
        assert values.dtype == others.dtype
        assert len(values) == len(others)
        certain = np.ones(len(values), bool)
        if name == "ZCand_mass":
            energy = sum(expected[f"{z}_pt"] * np.cosh(expected[f"{z}_eta"].astype("f8")) for z in ("ZLep1", "ZLep2"))
            lost = 4e-16 * energy**2 / others**2
            certain = lost < 1e-9
            assert (abs(values - others) <= others * (lost + 1e-7)).all()
        assert bits(values[certain]) == bits(others[certain]), name
    return len(values)


def met_of(path: Path) -> str:
    with RootFile(path) as file:
        return file.name_of("MET_pt").partition("_")[0]


def fast(path: Path, output: Path) -> Path:
    """The skim by NanoML's own engine."""
    skim = pytest.importorskip("data_processing.skim.skim")
    skimjob = pytest.importorskip("data_processing.skim.plan")
    keep = ["MET_*", "Electron_*", "Muon_*"]
    skim.skim_file(skimjob.SkimJob(str(path), output, "MLTools.NanoML.trilepton:Trilepton", keep=keep))
    return output


@pytest.mark.parametrize("dataset", ["WprimeToWZToLNuLL_M600", "WZTo3LNu_Pt100", "ZGToLLG_PtG100"])
def test_all_engines_give_the_same(dataset: str, sample: Path, tmp_path: Path, postprocess: Postprocess) -> None:
    path = sample / dataset / f"{dataset}_0.root"
    ours = postprocess(path, trilepton.trilepton())
    assert check_same(ours, postprocess(path, event_loop(), postfix="_loop")) > 30
    skim = fast(path, tmp_path / "fast.root")
    assert [bits(values) for values in arrays(ours, Trilepton.columns).values()] == [
        bits(values) for values in arrays(skim, Trilepton.columns).values()
    ]
    found, expected = record(ours), record(skim)
    assert (found.accounting, found.kind, found.selection) == (expected.accounting, "skim", expected.selection)
    assert found.columns == expected.columns
    with RootFile(ours) as file, RootFile(path) as original:
        assert file.branches.keys() == {*original.branches, *Trilepton.columns}
        for name, column in Trilepton.columns.items():
            assert (file.branches[name].title, np.dtype(column.dtype)) == (column.title, file.branches[name].dtype)


@needs_nanoaodtools
@pytest.mark.exhaustive("files of all versions, by all engines")
def test_files_of_all_versions(made_file: Path, tmp_path: Path, postprocess: Postprocess) -> None:
    if FILES[made_file.stem].is_rntuple:
        pytest.skip("nanoAOD-tools reads no RNTuple")
    met = met_of(made_file)
    ours = postprocess(made_file, trilepton.trilepton())
    check_same(ours, postprocess(made_file, event_loop(met), postfix="_loop"))
    if not FILES[made_file.stem].is_data:
        skim = fast(made_file, tmp_path / "fast.root")
        check_same(ours, skim)
        assert record(ours).accounting == record(skim).accounting
    ours = postprocess(made_file, PostprocModule(Muons()))
    events = check_same(ours, postprocess(made_file, muons_module(met), postfix="_loop"), Muons.columns)
    assert flow(ours)[-1] == ("hard muon", events)
    assert events == len(in_one_go(Muons(), made_file).rows)


def test_golden_json(made_files: dict[str, Path], postprocess: Postprocess) -> None:
    path = made_files["made_v9_data"]
    empty = postprocess(path, PostprocModule(Muons()), postfix="_empty", jsonInput={"1": [[11, 12]]})
    assert len(arrays(empty, ["run"])["run"]) == 0  # then nanoAOD-tools calls no module
    ours = postprocess(path, PostprocModule(Muons()), jsonInput=CERTIFIED)
    plain = postprocess(path, muons_module(met_of(path)), postfix="_loop", jsonInput=CERTIFIED)
    events = check_same(ours, plain, Muons.columns)
    assert events > 0
    assert flow(ours)[:2] == [("all", FILES[path.stem].events), ("reached Muons", 50)]
    assert flow(ours)[-1] == ("hard muon", events)
    assert record(ours).accounting.is_data


CUT = "MET_pt > 40 && Sum$(Muon_pt > 20) > 0"
LUMI = {"1": [[14001, 14001], [14003, 14004]]}


@pytest.mark.parametrize(
    "options",
    [
        *({"cut": CUT}, {"jsonInput": LUMI}, {"maxEntries": 300}),
        *({"firstEntry": 450, "maxEntries": 300}, {"firstEntry": 800, "maxEntries": 300}),
        {"cut": CUT, "jsonInput": LUMI, "firstEntry": 150, "maxEntries": 700},
        *({"branchsel": "drop *\nkeep run\nkeep *\ndrop Jet_*\n"}, {"outputbranchsel": "drop Muon_*\ndrop nMuon\n"}),
    ],
)
def test_options_of_postproc(source: Path, tmp_path: Path, postprocess: Postprocess, options: dict[str, Any]) -> None:
    rules = tmp_path / "rules.txt"
    for name in options.keys() & {"branchsel", "outputbranchsel"}:
        rules.write_text(options[name])
        options = {name: str(rules)}
    ours = postprocess(source, PostprocModule(Trilepton(), 128), **options)
    names = [*IDENTIFIERS, "MET_pt", "ZLep1_pt"]
    found = arrays(ours, names)
    assert 0 < check_same(ours, postprocess(source, event_loop(), postfix="_loop", **options)) <= PASSES

    whole = arrays(source, IDENTIFIERS)
    with RootFile(source) as file:
        read = file.read(["MET_pt", "Muon_pt"])
    wanted = np.ones(1000, bool)
    if "cut" in options:
        wanted &= np.asarray((read["MET_pt"] > 40) & ak.any(read["Muon_pt"] > 20, axis=1))
    if "jsonInput" in options:
        wanted &= np.isin(whole["luminosityBlock"], [14001, 14003, 14004])
    first = options.get("firstEntry", 0)
    entries = np.arange(1000)
    wanted &= (entries >= first) & (entries < first + options.get("maxEntries", 1000))
    selected = in_one_go(Trilepton(), source)
    passed = wanted[selected.rows]
    assert found["event"].tolist() == whole["event"][selected.rows[passed]].tolist()
    assert bits(found["ZLep1_pt"]) == bits(selected.columns["ZLep1_pt"][passed])
    asked = min(options.get("maxEntries", 1000), 1000 - first)
    reached = [("reached Trilepton", int(wanted.sum()))] if options.keys() & {"cut", "jsonInput"} else []
    assert flow(ours)[: 1 + len(reached)] == [("all", asked), *reached]
    assert flow(ours)[1 + len(reached)][0] == "three good leptons"
    (accounting,) = record(ours).accounting.files
    assert accounting.sum_of_weights == 1000
    assert record(ours).accounting.sum_of_weights == asked


def test_without_output(source: Path, postprocess: Postprocess, capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    def note(event: Any) -> Optional[dict[str, Any]]:
        seen.append((event._entry, event.ZCand_mass))
        return {}

    output = postprocess(source, trilepton.trilepton(), Making(note), noOut=True)
    assert not output.exists()
    expected = in_one_go(Trilepton(), source)
    assert seen == list(zip(expected.rows.tolist(), expected.columns["ZCand_mass"].tolist()))
    assert "Trilepton: all 1,000, three good leptons 390, " in capsys.readouterr().err


def test_friends_in_the_output(source: Path, postprocess: Postprocess, capsys: pytest.CaptureFixture[str]) -> None:
    ours = postprocess(source, trilepton.trilepton(), friend=True)
    assert check_same(ours, postprocess(source, event_loop(), postfix="_loop", friend=True), tree="Friends") == PASSES
    assert "has 263 of 1,000 events: it is a friend of a skim of the same events" in capsys.readouterr().err
    with RootFile(ours, "Friends") as file:
        assert file.branches.keys() == Trilepton.columns.keys()
        found = Provenance.of(file)
    assert found is not None
    assert (found.kind, found.accounting.selected) == ("attached", PASSES)


def test_friends_in_the_input(source: Path, postprocess: Postprocess, capsys: pytest.CaptureFixture[str]) -> None:
    friend = postprocess(source, Making(lambda event: {"ht": 2.0 * event.event}, ht=("F", None)), postfix="_ht")
    ours = postprocess(f"{source},{friend}", PostprocModule(After(), 300))
    assert "one by one" not in capsys.readouterr().err
    found, whole = arrays(ours, ["event", "wide"]), arrays(source, ["event"])
    assert found["event"].tolist() == [event for event in whole["event"] if 2 * event > 100]
    assert found["wide"].tolist() == (2 * found["event"]).tolist()


def test_a_friend_that_is_found_by_its_index(
    source: Path, tmp_path: Path, postprocess: Postprocess, capsys: pytest.CaptureFixture[str]
) -> None:
    import ROOT

    whole = arrays(source, IDENTIFIERS)
    file = ROOT.TFile(str(tmp_path / "friend.root"), "RECREATE")
    tree = ROOT.TTree("Events", "in another order")
    run, event, ht = array("I", [1]), array("L", [0]), array("f", [0])
    tree.Branch("run", run, "run/i")
    tree.Branch("event", event, "event/l")
    tree.Branch("ht", ht, "ht/F")
    for number in whole["event"][::-1].tolist():
        event[0], ht[0] = number, 2 * number
        tree.Fill()
    tree.BuildIndex("run", "event")
    tree.Write()
    file.Close()
    ours = postprocess(f"{source},{tmp_path / 'friend.root'}", PostprocModule(After()), maxEntries=100)
    found = arrays(ours, ["event", "wide"])
    assert found["event"].tolist() == [event for event in whole["event"][:100] if 2 * event > 100]
    assert found["wide"].tolist() == (2 * found["event"]).tolist()
    assert "one by one" in capsys.readouterr().err


def test_prefetching(source: Path, tmp_path: Path, postprocess: Postprocess, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "bin" / "xrdcp"  # stands for a copy over the network
    copy.parent.mkdir()
    copy.write_text(f'#!/bin/sh\ncp "{source}" "$4"\n')
    copy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{copy.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    ours = postprocess(f"root://nowhere.example//store/{source.name}", trilepton.trilepton(), prefetch=True)
    assert check_same(ours, postprocess(source, trilepton.trilepton(), postfix="_local")) == PASSES
    assert flow(ours) == flow(tmp_path / f"{source.stem}_local.root")


def test_earlier_branches_are_seen(source: Path, postprocess: Postprocess, capsys: pytest.CaptureFixture[str]) -> None:
    class Dressed(Selection):
        """Reads a list, a number and a flag that modules make, a branch that they change, and one that they do not."""

        branches = ("Lepton_pt", "scale", "flag", "MET_pt", "Muon_eta", "nHard")
        columns = {
            "total": Column("f8", "scaled sum of pt [GeV]"),
            "met": Column("f4", "changed missing momentum [GeV]"),
            "eta": Column("f4", "largest pseudorapidity"),
        }

        def select(self, events: Any, cutflow: Any) -> Any:
            assert events.flag.type.content.primitive == "bool"
            events = cutflow.cut("flag", events.flag, events)
            total = ak.sum(ak.values_astype(events.Lepton.pt, np.float64), axis=1) * events.scale * events.nHard
            return events, {"total": total, "met": events.MET.pt, "eta": ak.max(events.Muon.eta, axis=1)}

    def make(event: Any) -> Optional[dict[str, Any]]:
        muons = [pt + 0.1 for pt in event.Muon_pt]
        changed = {"flag": event.event % 2 == 0, "MET_pt": event.MET_pt * 2}
        return {"Lepton_pt": muons, "scale": event.nHard + 0.1, **changed}

    plain = Making(make, Lepton_pt=("F", "nLepton"), scale=("F", None), flag=("O", None), MET_pt=("F", None))
    seen = []

    def note(event: Any) -> Optional[dict[str, Any]]:
        seen.append((event.total, event.met))
        return {}

    ours = postprocess(source, PostprocModule(Muons()), plain, PostprocModule(Dressed()), Making(note), maxEntries=200)
    found = arrays(ours, ["total", "met", "eta", "event", "MET_pt", "scale", "nHard"])
    muons = in_one_go(Muons(), source)
    with RootFile(source) as file:
        read = file.read(["Muon_pt", "Muon_eta", "MET_pt", "event"])
    rows = muons.rows[muons.rows < 200]
    rows = rows[np.asarray(read["event"])[rows] % 2 == 0]
    assert found["event"].tolist() == np.asarray(read["event"])[rows].tolist()
    assert bits(found["met"]) == bits(np.asarray(read["MET_pt"])[rows] * 2) == bits(found["MET_pt"])
    assert bits(found["eta"]) == bits(ak.to_numpy(ak.max(read["Muon_eta"], axis=1))[rows])
    changed = [sum(float(np.float32(pt + 0.1)) for pt in read["Muon_pt"][row].tolist()) for row in rows]
    assert found["total"] == pytest.approx(changed * found["scale"].astype("f8") * found["nHard"], rel=1e-15)
    assert seen == list(zip(found["total"].tolist(), found["met"].tolist()))
    told = capsys.readouterr().err
    assert told.count("one by one") == 1
    assert "Dressed: events are evaluated one by one" in told
    steps = flow(ours)
    muon_cuts = ["missing momentum", "hard muon"]
    assert [cut for cut, _ in steps] == ["all", *muon_cuts, "reached Dressed", "flag", "kept by all modules"]
    assert [events for _, events in (steps[0], *steps[2:])] == [200, *[(muons.rows < 200).sum()] * 2, *[len(rows)] * 2]
    assert record(ours).selection.split(",")[1].endswith("Dressed")
    assert {"nHard", "total"} <= record(ours).columns.keys()


def test_a_column_of_a_selection_that_a_plain_module_changes(source: Path, postprocess: Postprocess) -> None:
    change = Making(lambda event: {"ht": event.ht + 100}, ht=("F", None))
    ours = postprocess(source, PostprocModule(Muons()), change, PostprocModule(After()), maxEntries=60)
    found = arrays(ours, ["ht", "wide"])
    assert len(found["ht"]) > 5
    assert (found["ht"] > 100).all()
    assert found["wide"].tolist() == found["ht"].astype("f8").tolist()


def test_the_record_is_that_of_this_pass(source: Path, tmp_path: Path, postprocess: Postprocess) -> None:
    skim = fast(source, tmp_path / "skim.root")
    drop = Making(lambda event: {} if event.event % 2 else None)
    again = postprocess(skim, trilepton.trilepton(), PostprocModule(Muons()), drop)
    steps = flow(again)
    cuts = [step.cut for step in in_one_go(Trilepton(), source).cutflow.steps[1:]]
    assert [cut for cut, _ in steps[:5]] == ["all", *cuts]
    assert steps[0][1] == PASSES
    assert steps[-1][0] == "kept by all modules"
    assert steps[-1][1] == (arrays(again, ["event"])["event"] % 2 == 1).sum() > 50
    last = record(again).accounting.cutflow[-1]
    assert last.weights == arrays(again, ["genWeight"])["genWeight"].sum()
    with RootFile(source) as file:
        assert record(again).accounting.sum_of_weights == accounting_of(file).sum_of_weights
    with uproot.open(again) as file:
        assert [key for key in file.keys() if key.startswith("nanoml")] == ["nanoml;1"]


def test_a_branch_of_another_type_is_not_overwritten(source: Path, tmp_path: Path, postprocess: Postprocess) -> None:
    making = Making(lambda event: {"ht": -1, "nHard": 7}, ht=("I", None), nHard=("b", None))
    made = postprocess(source, making, postfix="_made")
    said = r"Muons: column ht is of type float32, but there is .*, ht of type Int_t\. G"
    with pytest.raises(NanoMLError, match=said):
        postprocess(made, PostprocModule(Muons()))
    made = postprocess(source, Making(lambda event: {"nHard": 7}, nHard=("b", None)), postfix="_made")
    again = postprocess(made, PostprocModule(Muons()))
    assert bits(arrays(again, ["nHard"])["nHard"]) == bits(in_one_go(Muons(), source).columns["nHard"])


def test_types_of_root(source: Path, postprocess: Postprocess) -> None:
    kinds = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")
    limits = {kind: np.iinfo(kind) if kind[0] in "iu" else np.finfo(kind) for kind in kinds[1:]}

    class Typed(Selection):
        branches = ("MET_pt",)
        columns = {f"{kind.replace('?', 'b1')}_{end}": Column(kind, "") for kind in kinds for end in ("min", "max")}

        def select(self, events: Any, cutflow: Any) -> Any:
            values = {"b1_min": False, "b1_max": True}
            for kind, limit in limits.items():
                values.update({f"{kind}_min": limit.min, f"{kind}_max": limit.max})
            return events, {name: np.full(len(events), value) for name, value in values.items()}

    ours = postprocess(source, PostprocModule(Typed()), maxEntries=2)
    for name, values in arrays(ours, Typed.columns).items():
        kind, _, end = name.partition("_")
        expected = (end == "max") if kind == "b1" else getattr(limits[kind], end)
        assert values.tolist() == [expected] * 2
        wider = {"f2": "float32", "i2": "int32", "u2": "uint32"}  # the integers in an older nanoAOD-tools
        assert values.dtype.name in {np.dtype(kind).name, wider.get(kind)} - {"float16"}


def test_the_command(source: Path, tmp_path: Path) -> None:
    nanoaodtools.postprocessor()
    script = shutil.which("nano_postproc.py")
    if script is None:
        pytest.skip("nano_postproc.py is not in the PATH")

    def run(name: str) -> subprocess.CompletedProcess[str]:
        command = [script, str(tmp_path), str(source), "-z", "none", "-I", "MLTools.NanoML.trilepton", name]
        return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)

    done = run("trileptn")
    assert done.returncode != 0
    assert 'MLTools.NanoML.trilepton: has no `trileptn`. Did you mean "trilepton"?' in done.stderr
    assert not (tmp_path / f"{source.stem}_Skim.root").exists()
    done = run("trilepton")
    assert done.returncode == 0, done.stderr
    assert "W lepton 263" in done.stderr
    assert flow(tmp_path / f"{source.stem}_Skim.root")[-1] == ("Z muon identification", PASSES)
