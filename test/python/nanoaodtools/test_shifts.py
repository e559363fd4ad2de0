"""Shifts of objects in nanoAOD-tools: events, columns and record are those of the columnar skim."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import awkward as ak
import numpy as np
import pytest
import uproot

from MLTools.NanoML.atomic import file_hash
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting, WeightSums
from MLTools.NanoML.nanoaod.provenance import ScoredBy
from MLTools.NanoML.nanoaodtools import PostprocModule
from MLTools.NanoML.nanoaodtools.branches import Scoring
from MLTools.NanoML.nanoaodtools.evaluation import Evaluation
from MLTools.NanoML.nanoaodtools.record import counted
from MLTools.NanoML.nanoaodtools.source import Source
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import UP_DOWN, Column, Cutflow, Events, Selection, Weight
from services.arrays import same
from services.nanoaodtools import Event, Making, Postprocess, Tree, loop, record
from services.shifted_jets import DATASET, ShiftedJets

plan = pytest.importorskip("data_processing.skim.plan", reason="needs the columnar skim")
columnar = pytest.importorskip("data_processing.skim.skim", reason="needs the columnar skim")
scoring = pytest.importorskip("data_processing.score.score", reason="needs scoring")
pytest.importorskip("correctionlib", reason="needs correctionlib")

SELECTION = ShiftedJets().of_dataset(DATASET)
COLUMNS = SELECTION.made.described
SHIFTS = ["jesUp", "jesDown", "jesFlavorQCDUp", "jerUp", "jerDown", "spareDown"]
FLAGS = ["selected", *(f"selected_{shift}" for shift in SHIFTS)]
PASSES, MORE = 799, 5  # of 1000 events, nominally and under shifts alone
EVEN = """
from services.shifted_jets import ShiftedJets

class Even(ShiftedJets):
    branches = (*ShiftedJets.branches, "event")

    def select(self, events, cutflow):
        events, columns = super().select(events, cutflow)
        events, *values = cutflow.cut("even", events.event % 2 == 0, events, *columns.values())
        return events, dict(zip(columns, values))
"""


@pytest.fixture(scope="module")
def numbers(source: Path) -> list[int]:
    with RootFile(source) as file:
        found: list[int] = np.asarray(file.read(["event"])["event"]).tolist()
    return found


@pytest.fixture(scope="module")
def skim(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes the columnar skim, once with the same settings; only to read from."""

    @functools.cache
    def make(**more: Any) -> Path:
        directory = tmp_path_factory.mktemp("skim")
        (directory / "even.py").write_text(EVEN)
        output = directory / "columnar.root"
        job = plan.SkimJob(str(source), output, "services.shifted_jets:ShiftedJets", str(directory), dataset=DATASET)
        columnar.skim_file(replace(job, **more))
        return output

    return make


def accounting_in(path: Path) -> FileAccounting:
    [found] = record(path).accounting.files
    return found


def read(path: Path, *more: str) -> dict[str, Any]:
    """The columns of a file; those that it lacks since they differ nowhere under a shift are the nominal ones."""
    varied = SELECTION.made.nominal
    with RootFile(path) as file:
        names = {name: name if name in file.branches else varied[name] for name in (*COLUMNS, *more)}
        arrays = file.read(set(names.values()))
    return {name: np.asarray(arrays[actual]) for name, actual in names.items()}


def flows(accounting: FileAccounting) -> list[list[Any]]:
    """Events and weights after each cut, nominally and under each shift, whatever the cuts are called."""
    every = [accounting.cutflow, *(each.cutflow for each in accounting.shifts)]
    return [[(step.events, pytest.approx(step.weights)) for step in flow] for flow in every]


def sums(accounting: FileAccounting) -> list[list[Any]]:
    """The sums of weights, nominally and under each shift, but for rounding."""
    every = [accounting.weights, *(each.weights for each in accounting.shifts)]
    return [[(each.weight, each.cut, *_sums_of(each)) for each in weights] for weights in every]


def _sums_of(sums: WeightSums) -> list[Any]:
    return [{place: pytest.approx(it) for place, it in each.items()} for each in (sums.without, *sums.sums.values())]


# ----------------------------------------------------------------------------------------------------------------
# without ROOT


def one_by_one(
    path: Path, modules: Sequence[Any], entries: Optional[Iterable[int]] = None, size: int = 100_000
) -> tuple[dict[int, dict[str, Any]], FileAccounting]:
    """The events that selections and functions of an event let pass, with their values, and the accounting."""
    tree = Tree()
    source = Source(SimpleNamespace(GetName=lambda: str(path)), tree, None)
    evaluations: list[Evaluation] = []
    steps: list[Callable[[Any], bool]] = []
    for module in modules:
        if isinstance(module, Selection):
            evaluations.append(Evaluation(module, source, tuple(evaluations), tree, None, size, print))
        steps.append(evaluations[-1].analyze if isinstance(module, Selection) else module)
    found = {}
    for entry in range(source.file.entries) if entries is None else entries:
        tree._extrabranches = {}
        event = Event(tree, entry)
        if all(step(event) for step in steps):
            found[entry] = tree._extrabranches
    accounting = counted(evaluations)
    source.close()
    return found, accounting


def check_values(found: Mapping[int, Mapping[str, Any]], expected: Mapping[str, Any]) -> None:
    for name in COLUMNS:
        assert [values[name] for values in found.values()] == expected[name].tolist(), name


@pytest.mark.parametrize("size", [300, 100_000])
def test_all_is_as_in_the_columnar_skim(
    source: Path, skim: Callable[..., Path], numbers: list[int], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("MLTools.NanoML.nanoaodtools.evaluation._BLOCK", 100)
    found, accounting = one_by_one(source, [SELECTION], size=size)
    expected = read(skim(), "event")
    assert [numbers[entry] for entry in found] == expected["event"].tolist()
    assert list(found[0]) == list(COLUMNS)
    check_values(found, expected)
    assert [name for name in FLAGS if not expected[name].all()] == FLAGS
    expected_accounting = accounting_in(skim())
    assert (accounting.selected, accounting.only_shifted) == (PASSES, MORE)
    assert [each.shift for each in accounting.shifts] == SHIFTS
    assert flows(accounting) == flows(expected_accounting)
    assert sums(accounting) == sums(expected_accounting)
    if size >= 1000:  # sums of weights are in the same order
        assert accounting == expected_accounting


def test_a_column_that_differs_in_some_files_only_is_always_there(sample: Path) -> None:
    path = sample / "ZGToLLG" / "ZGToLLG_0.root"
    with RootFile(path) as file:
        bound = SELECTION.bind(file.branches, file.path)
        selected = bound.apply(file.read(bound.branches), np.ones(file.entries))
    assert "nHardJet_jesUp" not in selected.columns
    found, _ = one_by_one(path, [SELECTION])
    assert [values["nHardJet_jesUp"] for values in found.values()] == selected.columns["nHardJet"].tolist()


class Marked(ShiftedJets):
    """Reads what another module makes."""

    branches = (*ShiftedJets.branches, "mark")

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        return super().select(cutflow.cut("marked", np.asarray(events.mark) > 0, events), cutflow)


def test_events_that_are_evaluated_alone(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def mark(event: Any) -> bool:
        event._tree._extrabranches["mark"] = event._entry % 5
        return True

    def is_marked(event: Any) -> bool:
        return bool(event._entry % 5)

    entries = range(475, 490)
    found, accounting = one_by_one(source, [mark, Marked().of_dataset(DATASET)], entries)
    assert "one by one" in capsys.readouterr().out
    bulk, expected = one_by_one(source, [is_marked, SELECTION], entries)
    assert found == {entry: {**values, "mark": entry % 5} for entry, values in bulk.items()}
    # two lines for both: all, those that came and, in the first, those that are marked
    assert [flow[-3:] for flow in flows(accounting)] == [flow[-3:] for flow in flows(expected)]
    assert accounting.cutflow[2].events == expected.cutflow[1].events == 12
    assert accounting.only_shifted == expected.only_shifted > 0
    late = [[each for each in weights if each[0] == "jets"] for weights in sums(accounting)]
    assert late == [[each for each in weights if each[0] == "jets"] for weights in sums(expected)]


def test_events_that_a_module_drops_before(source: Path, skim: Callable[..., Path], numbers: list[int]) -> None:
    def is_even(event: Any) -> bool:
        return numbers[event._entry] % 2 == 0

    found, accounting = one_by_one(source, [is_even, SELECTION], size=400)
    path = skim(cut="event % 2 == 0")
    check_values(found, read(path))
    assert accounting.shifts[0].cutflow[1].cut == "reached ShiftedJets"
    assert flows(accounting) == flows(accounting_in(path))
    assert sums(accounting) == sums(accounting_in(path))
    assert accounting.written == accounting_in(path).written == len(found)


class Early(Selection):
    """Missing momentum, as it is in the file."""

    branches = ("MET_pt",)
    columns = {"early": Column("f4", "missing momentum [GeV]")}

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        events = cutflow.cut("some momentum", np.asarray(events.MET.pt) > 65, events)
        return events, {"early": events.MET.pt}


class Late(Selection):
    """Reads columns of selections before it, also under a shift where there are values of its own."""

    branches = ("early", "Jet1_pt", "Jet1_pt_jesUp", "nSoftMuon_jesUp", "selected_jesUp")
    columns = {"ratio": Column("f8", "hardest jet with shift and without"), "flag": Column("?", "passes with shift")}
    weights = {"late": Weight(())}

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        cutflow.weigh("late", lambda: 1 + np.asarray(events.nSoftMuon_jesUp) / 4)
        events = cutflow.cut("missing momentum", np.asarray(events.Jet1_pt_jesUp) > 80, events)
        ratio = np.asarray(events.Jet1_pt_jesUp, "f8") / np.asarray(events.Jet1_pt)
        return events, {"ratio": ratio, "flag": events.selected_jesUp}


@pytest.mark.parametrize("size", [400, 100_000])
def test_selections_before_and_after(source: Path, skim: Callable[..., Path], size: int) -> None:
    found, accounting = one_by_one(source, [Early(), SELECTION, Late()], size=size)
    columns = read(skim(keep=("MET_pt",)), "MET_pt")
    reached = columns["MET_pt"] > 65
    passed = reached & (columns["Jet1_pt_jesUp"] > 80)
    check_values(found, {name: values[passed] for name, values in columns.items()})
    ratio = columns["Jet1_pt_jesUp"].astype("f8") / columns["Jet1_pt"]
    assert [values["ratio"] for values in found.values()] == ratio[passed].tolist()
    assert [values["flag"] for values in found.values()] == columns["selected_jesUp"][passed].tolist()
    late = 1 + columns["nSoftMuon"] / 4
    for flag, flow, weights in zip(FLAGS, flows(accounting), sums(accounting)):
        chosen = columns[flag]
        assert [step[0] for step in flow[-2:]] == [(reached & chosen).sum(), (passed & chosen).sum()]
        assert [name for name, *_ in weights] == ["muons", "jets", "late"]
        assert weights[-1][2:] == ({0: (reached & chosen).sum()}, {0: late[reached & chosen].sum()})
    cuts = ["all", "some momentum", "few muons", "a jet", "missing momentum", "Late: missing momentum"]
    for flow in (accounting.cutflow, *(each.cutflow for each in accounting.shifts)):
        assert [step.cut for step in flow] == cuts
    assert accounting.only_shifted == (passed & ~columns["selected"]).sum() > 0


SCORES = [f"linear_{target}" for target in "abc"]


@pytest.fixture
def model(linear_model: Callable[..., Path]) -> Path:
    """Its score a is the first input, b the fold."""
    return linear_model(["Jet1_pt", "nSoftMuon", "missing"], targets="abc")


def scores_of(path: Path, model: Path, names: Iterable[str]) -> dict[str, Any]:
    """The scores of a skim by `nanoml score`; those that it lacks are the nominal ones."""
    output = model.with_name(f"{path.parent.name}.root")
    scoring.score_file(scoring.ScoreJob(str(path), output, [model]))
    with RootFile(output) as file:
        arrays = file.read([name for name in file.branches if name.startswith("linear")])
    nominal = {f"{name}_{shift}": name for name in SCORES for shift in SHIFTS}
    return {name: np.asarray(arrays[name if name in arrays else nominal[name]]) for name in names}


def test_models_after_a_selection(source: Path, skim: Callable[..., Path], model: Path) -> None:
    found, accounting = one_by_one(source, [SELECTION, Scoring(model)])
    alone, expected = one_by_one(source, [SELECTION])
    assert found.keys() == alone.keys()
    assert accounting == expected
    names = [*SCORES, "linear_fold", *(f"{name}_{shift}" for shift in SHIFTS for name in SCORES)]
    assert list(found[0]) == [*COLUMNS, *names]
    scores = scores_of(skim(), model, names)
    assert all([it[name] for it in found.values()] == values.tolist() for name, values in scores.items())
    assert all(values["linear_a_jesUp"] == values["Jet1_pt_jesUp"] for values in found.values())
    assert (scores["linear_a_jesUp"] != scores["linear_a"]).any()


def test_events_that_come_count_in_the_domain(source: Path, linear_model: Callable[..., Path]) -> None:
    known = {"low": 0, "high": 150, "missing": [], "may_be_missing": False, "quantiles": [], "outside": 0, "limit": 0}
    domain = [{"tensor": "features", "mask": None, "size": 0, "inputs": [{"name": "Jet1_pt", **known}]}]
    scored = Scoring(linear_model(["Jet1_pt"], targets="abc", domain=domain))
    found, accounting = one_by_one(source, [SELECTION, scored], [*range(3, 700, 7), 998], size=300)
    hard = sum(values["selected"] and values["Jet1_pt"] > 150 for values in found.values())
    assert (scored.outside.rows, scored.outside.inputs) == (accounting.selected, {"Jet1_pt": hard})
    assert 0 < hard < accounting.selected < len(found)
    _, warning = scored.told()
    assert warning.endswith("% of the events; in the training, in 0 %.")
    assert scored.outside.rows == 0


def test_models_of_objects_after_a_selection(source: Path, linear_model: Callable[..., Path]) -> None:
    model = linear_model(["missing", "Muon_eta"], level="object", collection="Muon", targets="abc")
    found, _ = one_by_one(source, [SELECTION, Scoring(model)])
    for values in found.values():
        for ending in ("", "_jesUp", "_jerDown", "_spareDown"):
            missing = float(np.float32(values[f"missing{ending}"]))
            assert values[f"Muon_linear_a{ending}"] == [missing] * values["nSoftMuon"]
    assert "Muon_linear_a_spareDown" in found[0]


def test_events_that_do_not_come_do_not_count(source: Path) -> None:
    entries = [*range(3, 700, 7), 998]
    found, accounting = one_by_one(source, [SELECTION], entries, size=300)
    whole, _ = one_by_one(source, [SELECTION])
    assert found == {entry: whole[entry] for entry in entries if entry in whole}
    flags = np.array([[values[name] for name in FLAGS] for values in found.values()])
    assert [flow[-1][0] for flow in flows(accounting)] == flags.sum(axis=0).tolist()
    assert [flow[1][0] for flow in flows(accounting)] == [len(entries)] * 7
    for modules in ([SELECTION], [SELECTION, Early()], [SELECTION, Late()]):
        _, accounting = one_by_one(source, [lambda event: False, *modules][: 1 + len(modules)], range(5))
        assert (accounting.selected, accounting.only_shifted) == (0, 0)
        assert [each.shift for each in accounting.shifts] == SHIFTS
        assert {flow[-1][0] for flow in flows(accounting)} == {0}
        assert accounting.shifts[0].cutflow[2].cut == "few muons"


class Scaled(Selection):
    """Shifts that need no corrections."""

    branches = ("Muon_pt",)
    columns = {"total": Column("f4", "sum of the muons' pt [GeV]")}
    shifts = {"scale": ("up",)}

    def shift(self, events: Events, name: str, direction: str) -> Events:
        """Muons that are harder by a tenth."""
        return events.replaced(["Muon_pt"], lambda left: {"Muon_pt": left.Muon_pt * 1.1})

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        total = np.asarray(ak.sum(events.Muon.pt, axis=1))
        events, total = cutflow.cut("hard muons", total > 30, events, total)
        return events, {"total": total}


def test_data_have_no_shifts(made_files: dict[str, Path]) -> None:
    columns = {}
    for name in ("made_v9_data", "made_v9_mc"):
        found = loop([PostprocModule(Scaled())], made_files[name])
        assert found
        columns[name] = set(found[0][1])
    of_simulation = {"total", "selected", "selected_scaleUp", "total_scaleUp"}
    assert columns == {"made_v9_data": {"total"}, "made_v9_mc": of_simulation}


def test_one_selection_in_a_pass_has_shifts(source: Path) -> None:
    message = r"test_shifts.py:\d+: Scaled: has shifts, and a selection before it has shifts as well.*make one selec"
    for between in ([], [Early()]):
        with pytest.raises(NanoMLError, match=message):
            one_by_one(source, [SELECTION, *between, Scaled()])


def test_a_skim_with_shifts_is_not_cut_again(skim: Callable[..., Path], model: Path) -> None:
    path = skim(keep=("MET_*",))
    with pytest.raises(NanoMLError, match=r"columnar.root: was skimmed with shifts.* it cannot be skimmed again\. Put"):
        loop([PostprocModule(Early())], path)
    found = loop([PostprocModule(Scoring(model))], path)
    assert len(found) == PASSES + MORE
    names = [name for name in found[0][1] if name.startswith("linear")]
    # the file has no values of its own under the shift that changes nothing
    assert len(names) == 4 + 3 * (len(SHIFTS) - 1)
    scores = scores_of(path, model, names)
    assert all([it[name] for _, it in found] == values.tolist() for name, values in scores.items())


# ----------------------------------------------------------------------------------------------------------------
# in nanoAOD-tools itself


def test_the_file_is_the_columnar_skims(source: Path, skim: Callable[..., Path], postprocess: Postprocess) -> None:
    ours, expected = postprocess(source, PostprocModule(SELECTION)), skim()
    assert same(read(ours, "event", "luminosityBlock"), read(expected, "event", "luminosityBlock"))
    found, told = record(ours), record(expected)
    assert found.accounting == told.accounting
    assert found.accounting.written == PASSES + MORE
    assert found.columns.items() > told.columns.items()
    with RootFile(ours) as file:
        assert {name: (file.branches[name].title, file.branches[name].dtype) for name in COLUMNS} == {
            name: (column.title, np.dtype(column.dtype).name) for name, column in COLUMNS.items()
        }
        assert list(found.columns) == list(COLUMNS)


def test_the_cut_and_later_modules(source: Path, skim: Callable[..., Path], postprocess: Postprocess) -> None:
    even = Making(lambda event: {} if event.event % 2 == 0 else None)
    ours = postprocess(source, PostprocModule(SELECTION, 300), even, cut="MET_pt > 65")
    expected = skim(cut="MET_pt > 65", selection="even.py:Even")
    assert same(read(ours, "event"), read(expected, "event"))
    assert flows(accounting_in(ours)) == flows(accounting_in(expected))
    assert sums(accounting_in(ours)) == sums(accounting_in(expected))
    assert 0 < accounting_in(ours).only_shifted == accounting_in(expected).only_shifted


def test_ranges_of_entries_add_up(source: Path, skim: Callable[..., Path], postprocess: Postprocess) -> None:
    ranges = [(0, 300), (300, 450), (750, 1000)]
    paths = [
        postprocess(source, PostprocModule(SELECTION), postfix=f"_{number}", firstEntry=first, maxEntries=entries)
        for number, (first, entries) in enumerate(ranges)
    ]
    parts = [accounting_in(path) for path in paths]
    assert [part.entries for part in parts] == [300, 450, 250]
    whole, expected = Accounting(parts), accounting_in(skim())
    whole.check()
    total = replace(expected, cutflow=whole.cutflow, weights=whole.weights, shifts=whole.shifts)
    assert flows(total) == flows(expected)
    assert sums(total) == sums(expected)
    assert (whole.selected, whole.written) == (PASSES, PASSES + MORE)
    columns = [read(path, "event") for path in paths]
    joined = {name: np.concatenate([each[name] for each in columns]) for name in columns[0]}
    assert same(joined, read(skim(), "event"))


def test_a_pass_without_events(source: Path, postprocess: Postprocess) -> None:
    ours = postprocess(source, PostprocModule(SELECTION), cut="0")
    accounting = accounting_in(ours)
    assert (accounting.entries, accounting.written) == (1000, 0)
    assert [each.shift for each in accounting.shifts] == SHIFTS
    for flow in flows(accounting):
        assert [events for events, _ in flow] == [1000, 0, 0, 0, 0]
    assert {len(values) for values in read(ours).values()} == {0}


def test_friends(source: Path, postprocess: Postprocess, capsys: pytest.CaptureFixture[str]) -> None:
    ours = postprocess(source, PostprocModule(SELECTION), friend=True)
    assert f"has {PASSES + MORE} of 1,000 events: it is a friend of a skim" in capsys.readouterr().err
    assert record(ours, "Friends").kind == "attached"


def test_scores_of_a_skim_with_shifts(skim: Callable[..., Path], postprocess: Postprocess, model: Path) -> None:
    path = skim(keep=("MET_*",))
    before, scored = record(path), ScoredBy("linear", file_hash(model))
    module = PostprocModule(Scoring(model))
    output = postprocess(path, module)
    assert record(output) == replace(before, model=scored)
    assert same(read(output), read(path))
    names = [*SCORES, "linear_fold", *(f"{name}_{shift}" for shift in SHIFTS[:-1] for name in SCORES)]
    with RootFile(output) as file:
        arrays = {name: np.asarray(values) for name, values in file.read(names).items()}
    assert same(arrays, scores_of(path, model, names))
    friend = record(postprocess(path, module, friend=True), "Friends")
    assert friend == replace(before, kind="scores", model=scored, columns=friend.columns)
    assert friend.columns.keys() == set(names)
    drop = Making(lambda event: {} if event.event % 2 == 0 else None)
    for modules, options in (([module, drop], {}), ([module], {"maxEntries": 10}), ([module], {"cut": "MET_pt > 90"})):
        with pytest.raises(NanoMLError, match="was skimmed with shifts"):
            postprocess(path, *modules, **options)


def test_a_column_of_the_file_is_overwritten(source: Path, postprocess: Postprocess) -> None:
    making = Making(lambda event: {"missing_jesUp": -1}, missing_jesUp=("D", None))
    again = postprocess(postprocess(source, making, postfix="_wrong"), PostprocModule(SELECTION))
    assert same(read(again), read(postprocess(source, PostprocModule(SELECTION), postfix="_right")))


class HardMuons(Selection):
    """Muons above 30 GeV, of which a shift of their scale changes the number."""

    branches = ("Muon_pt", "Muon_eta", "Muon_charge")
    columns = {"nMany": Column("i4", "number of muons")}
    hard = {"pt": Column("f4", "transverse momentum [GeV]"), "charge": Column("i4", "charge")}
    collections = {"Hard": {**hard, "isCentral": Column("?", "in the barrel")}}
    shifts = {"scale": UP_DOWN}

    def shift(self, events: Events, name: str, direction: str) -> Events:
        """A large one."""
        factor = {"up": 1.1, "down": 0.9}[direction]
        return events.replaced(["Muon_pt"], lambda left: {"Muon_pt": left.flat("Muon").pt * factor})

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        muons = events.flat("Muon")
        hard = muons.keep(muons.pt > 30)
        events, hard = cutflow.cut("a hard muon", hard.counts > 0, events, hard)
        return events, {"nMany": hard.counts, "Hard": hard.with_columns(isCentral=abs(hard.eta) < 1.2)}


@pytest.fixture
def of_wz(sample: Path) -> Path:
    return sample / "WZTo3LNu_Pt100" / "WZTo3LNu_Pt100_0.root"


@pytest.fixture
def expected_lists(of_wz: Path, tmp_path: Path) -> dict[str, list[Any]]:
    """The columnar skim."""
    spec = f"{__file__}:HardMuons"
    columnar.skim_file(plan.SkimJob(str(of_wz), tmp_path / "columnar.root", spec, keep=("MET_pt",)))
    with uproot.open(tmp_path / "columnar.root") as file:
        arrays = file["Events"].arrays()
    made = HardMuons().made
    names = {name: name if name in arrays.fields else made.nominal[name] for name in made.described}
    assert names["Hard_scaleUp_pt"] == "Hard_scaleUp_pt"
    return {name: arrays[actual].to_list() for name, actual in names.items()}


def test_an_event_loop_has_the_lists_of_a_skim(of_wz: Path, expected_lists: dict[str, list[Any]]) -> None:
    rows = [row for _, row in loop([PostprocModule(HardMuons(), 171)], of_wz)]
    for name, values in expected_lists.items():
        assert [row[name] for row in rows] == values, name


def test_nanoaod_tools_writes_lists(of_wz: Path, expected_lists: dict[str, Any], postprocess: Postprocess) -> None:
    output = postprocess(of_wz, PostprocModule(HardMuons()))
    with uproot.open(output) as file:
        arrays = file["Events"].arrays([*expected_lists, "nHard", "nHard_scaleUp"])
    for name, values in expected_lists.items():
        assert arrays[name].to_list() == values, name
    assert arrays["nHard"].to_list() == [len(each) for each in expected_lists["Hard_pt"]]
    assert arrays["nHard_scaleUp"].to_list() == [len(each) for each in expected_lists["Hard_scaleUp_pt"]]


def test_a_model_reads_the_lists_of_a_selection(of_wz: Path, linear_model: Callable[..., Path]) -> None:
    objects = {"Hard": (["pt", "charge"], 2, "-pt")}
    model = linear_model(["nMany"], ["Hard_pt", "Hard_charge", "nMany"], objects, targets=("a", "b", "c"))
    rows = loop([PostprocModule(HardMuons(), 300), PostprocModule(Scoring(model), 171)], of_wz)
    assert len(rows) > 100
    for _, row in rows:
        for shift in ("", "_scaleUp", "_scaleDown"):
            hardest = sorted(row[f"Hard{shift}_pt"], reverse=True)[:2]
            assert row[f"linear_a{shift}"] == pytest.approx(row[f"nMany{shift}"] + sum(hardest), rel=1e-6)


def test_an_event_without_objects_has_empty_lists(of_wz: Path) -> None:
    class All(HardMuons):
        def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
            muons = events.Muon[events.Muon.pt > 30]
            hard = {"pt": muons.pt, "charge": muons.charge, "isCentral": abs(muons.eta) < 1.2}
            return events, {"nMany": ak.num(muons), "Hard": hard}

    rows = [row for _, row in loop([PostprocModule(All())], of_wz)]
    assert any(row["Hard_pt"] == [] and row["nMany"] == 0 for row in rows)
