"""Selections that go on from a checkpoint under shifts, and those that cannot: with the same results."""

from __future__ import annotations

import gc
from typing import Any

import awkward as ak
import numpy as np
import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.selection import UP_DOWN, Column, Cutflow, DatasetInfo, Events, Factor, Selected, Selection, Weight
from MLTools.NanoML.selection import shifts as module_of_shifts
from MLTools.NanoML.selection.selection import BoundSelection
from MLTools.NanoML.selection.shifts import Checkpoint
from MLTools.NanoML.selection.tryout import on_events

MUONS, JETS = [[50.0, 30.0], [], [21.0], [25.0, 22.0], [70.0]], [[29.0], [31.0], [60.0, 20.0], [], [31.0]]
EVENTS: dict[str, Any] = {"Muon_pt": MUONS, "Jet_pt": JETS, "MET_pt": [50.0, 40.0, 30.0, 20.0, 10.0]}
EVENTS |= {"HLT_Mu": [True, True, True, True, False], "genWeight": [1.0, -1.0, 0.5, 2.0, 1.0]}


class Resumes(Selection):
    """Jets are used after the first of two cuts, the missing momentum after both."""

    branches = ("Muon_pt", "Jet_pt", "MET_pt", "HLT_Mu")
    columns = {"sum": Column("f8", "sum of pt [GeV]"), "MET": Column("f8", "missing momentum [GeV]")}
    weights = {"muons": Weight()}
    shifts = {"jes": UP_DOWN, "met": ("up",)}

    def __init__(self) -> None:
        self.seen: list[int] = []

    def shift(self, events: Events, name: str, direction: str) -> Events:
        """A tenth more, or less."""
        branch, factor = {"jes": "Jet_pt", "met": "MET_pt"}[name], {"up": 1.1, "down": 0.9}[direction]
        return events.replaced([branch], lambda left: {branch: left[branch] * factor})

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        muons = events.flat("Muon")
        self.seen.append(len(muons.pt))
        hardest = ak.fill_none(ak.max(events.Muon.pt, axis=1), 0.0)
        total = np.asarray(ak.sum(events.Muon.pt, axis=1))
        cutflow.weigh("muons", lambda: self.weight_of(total))
        events, muons, total, hardest = cutflow.cut("a muon", muons.counts > 0, events, muons, total, hardest)
        return self.rest(events, cutflow, muons, total, hardest)

    def weight_of(self, total: Any) -> Any:
        return Factor(total / 50, {"up": total / 40, "down": total / 60})

    def begin(self, events: Events, cutflow: Cutflow) -> None:
        """Note and weigh the events, for others than this one."""
        self.seen.append(len(events))
        ones = np.ones(len(events))
        cutflow.weigh("muons", lambda: self.weight_of(ones))

    def rest(self, events: Events, cutflow: Cutflow, muons: Any, total: Any, hardest: Any) -> Any:
        total += ak.to_numpy(ak.sum(events.Jet.pt, axis=1))  # in place, which must not reach the next shift
        events, muons, total = cutflow.cut("hard", total + np.asarray(hardest) > 80, events, muons, total)
        return events, {"sum": total + muons.counts, "MET": events.MET.pt}


class BoundObjects(Resumes):
    """Takes jets before the cut, whose momenta are only used after it."""

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        self.begin(events, cutflow)
        jets = events.flat("Jet")
        events, jets = cutflow.cut("first two", events.MET.pt > 0, events, jets)
        total = np.bincount(jets.event, jets.pt, len(events))
        return events, {"sum": total, "MET": total}


class NarrowedByHand(Resumes):
    """Something that is needed after the cut does not pass through it."""

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        self.begin(events, cutflow)
        counts = ak.num(events.Muon.pt)
        mask = counts > 0
        counts = counts[mask]
        events = cutflow.cut("a muon", mask, events)
        return events, {"sum": ak.sum(events.Jet.pt, axis=1) + counts, "MET": events.MET.pt}


class NeedsEvents(Resumes):
    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        if not len(events):
            raise ValueError("no events")
        return super().select(events, cutflow)


class OtherCuts(Resumes):
    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        if not len(events):
            events = cutflow.cut("none", np.zeros(0, bool), events)
        return super().select(events, cutflow)


class ReplacedInside(Resumes):
    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        return super().select(events.replaced(["MET_pt"], lambda left: {"MET_pt": left.MET.pt + 1}), cutflow)


class NumberFromBefore(Resumes):
    """Needs a number after the cut that it takes from all events before."""

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        self.begin(events, cutflow)
        most = int(np.max(np.asarray(ak.num(events.Muon.pt)), initial=0))
        events = cutflow.cut("all of them", np.ones(len(events), bool), events)
        muons = ak.fill_none(ak.pad_none(events.Muon.pt, most), 0.0)
        total = sum((np.asarray(muons[:, place]) for place in range(most)), np.asarray(events.MET.pt))
        return events, {"sum": total, "MET": events.MET.pt}


class Unknown:
    """Something with an entry for each event that gets the missing momentum of the events, later."""

    def __init__(self, events: Events) -> None:
        self.events = events

    def __len__(self) -> int:
        return len(self.events)

    def __getitem__(self, mask: Any) -> Unknown:
        return Unknown(self.events[mask])


class OwnObject(Resumes):
    """Has an object of a class of its own narrowed, which reads a shifted branch after the cut."""

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        self.begin(events, cutflow)
        events, own = cutflow.cut("a muon", ak.num(events.Muon.pt) > 0, events, Unknown(events))
        return events, {"sum": own.events.MET.pt, "MET": ak.sum(own.events.Jet.pt, axis=1)}


@pytest.fixture(autouse=True)
def few_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_of_shifts, "LEAST_EVENTS", 0)


def chunks(kind: type[Resumes], number: int = 3) -> list[list[int]]:
    """With how many events `select` runs for each chunk of a file."""
    selection = kind()
    arrays = {name: ak.Array(values) for name, values in EVENTS.items()}
    collections = {"Muon_pt": "Muon", "Jet_pt": "Jet"}
    bound = BoundSelection(selection, {name: name for name in selection.branches}, collections)
    found = []
    for _ in range(number):
        selection.seen.clear()
        bound.apply(arrays, np.asarray(arrays["genWeight"]))
        found.append(list(selection.seen))
    return found


@pytest.mark.parametrize(("kind", "is_free"), [(Resumes, True), (NumberFromBefore, False)])
def test_a_way_is_proven_once_for_a_file(kind: type[Resumes], is_free: bool) -> None:
    first, *others = chunks(kind)
    assert others[0] == others[1]
    assert (others[0] == first) == is_free  # without events, and with those of all shifts at once


def test_few_events_prove_nothing_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_of_shifts, "LEAST_EVENTS", 5 + 1)
    first, *others = chunks(NumberFromBefore)
    assert first == others[0] == others[1]


@pytest.mark.parametrize("most", [1, 12])
def test_shifts_are_selected_a_few_at_once(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_of_shifts, "MOST_EVENTS", most)
    selection = Resumes()
    compare(on_events(selection, EVENTS), repeated(Resumes(), monkeypatch))
    assert selection.seen == ([6, 0, 0, 0, 0, 0] if most == 1 else [6, 0, 0])  # one by one, with a proof for each place


class JetsFirst(Resumes):
    """Has a cut on jets before all others, which narrows events alone."""

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        events = cutflow.cut("a jet", ak.any(events.Jet.pt > 30, axis=1), events)
        return super().select(events, cutflow)


class NumberBeforeJets(JetsFirst):
    """Needs a number after that cut that it takes from all events before."""

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        most = int(np.max(np.asarray(ak.num(events.Muon.pt)), initial=0))
        events, columns = super().select(events, cutflow)
        return events, {**columns, "sum": columns["sum"] + most}


def test_what_follows_a_cut_on_jets_is_selected_once_for_all_shifts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_of_shifts, "MANY_EVENTS", 5)
    selection = JetsFirst()
    compare(on_events(selection, EVENTS), repeated(JetsFirst(), monkeypatch))
    assert selection.seen == [2, 4, 0, 0]  # muons: nominally, of the shifts of jets together, and in replays
    compare(on_events(NumberBeforeJets(), EVENTS), repeated(NumberBeforeJets(), monkeypatch))


class AsksShift(Resumes):
    """Asks under which shift it is, as weights of b tags do."""

    def rest(self, events: Events, cutflow: Cutflow, muons: Any, total: Any, hardest: Any) -> Any:
        total += 10 * len(events.shift)
        return super().rest(events, cutflow, muons, total, hardest)


def test_a_selection_that_asks_for_the_shift_goes_on_by_single_shifts(monkeypatch: pytest.MonkeyPatch) -> None:
    selection = AsksShift()
    compare(on_events(selection, EVENTS), repeated(AsksShift(), monkeypatch))
    assert selection.seen == [6, 0, 0, 0, 0]  # the proof, and three shifts


class ColumnsLast(Resumes):
    """The missing momentum is used after all cuts, and once more in a way that takes it for one number for each event."""

    def __init__(self, by_event: bool = False) -> None:
        super().__init__()
        self.by_event = by_event

    def rest(self, events: Events, cutflow: Cutflow, muons: Any, total: Any, hardest: Any) -> Any:
        missing = np.asarray(events.MET.pt)
        self.seen.append(missing.ndim)
        of_events = np.bincount(np.arange(len(events)), missing) if self.by_event else missing + hardest
        return events, {"sum": total, "MET": of_events}


@pytest.mark.parametrize("by_event", [False, True])
def test_columns_that_no_shift_changes_are_the_nominal_ones(by_event: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ColumnsLast, "shifts", {"met": UP_DOWN})
    selection = ColumnsLast(by_event)
    found = on_events(selection, EVENTS)
    assert selection.seen == ([6, 1, 0, 2, 0, 1] if by_event else [6, 1, 0, 2])
    assert {name for name in found.columns if name.endswith(("Up", "Down"))} >= {"MET_metUp", "MET_metDown"}
    assert "sum_metUp" not in found.columns
    with monkeypatch.context() as patch:
        patch.setattr(module_of_shifts._Place, "beside", lambda *_, **__: None)
        patch.setattr(module_of_shifts._Place, "jointly", lambda *_: None)
        compare(found, on_events(ColumnsLast(by_event), EVENTS))


class MoreMomentum(Resumes):
    """Replaces the missing momentum before all shifts."""

    def prepare(self, events: Events) -> Events:
        return events.replaced(["MET_pt"], lambda left: {"MET_pt": left.MET.pt + 1})


class AsksBefore(MoreMomentum):
    """Asks for what differs from shift to shift by more than the values of a branch."""

    def rest(self, events: Events, cutflow: Cutflow, muons: Any, total: Any, hardest: Any) -> Any:
        total += np.asarray(events.before("MET_pt").MET.pt)
        return super().rest(events, cutflow, muons, total, hardest)


class ComputesOnce(MoreMomentum):
    """Shifts by something that is computed once for all of them, by what they have now."""

    def shift(self, events: Events, name: str, direction: str) -> Events:
        branch = {"jes": "Jet_pt", "met": "MET_pt"}[name]
        return events.replaced([branch], lambda left: {branch: left[branch] * left.once(size_of, ["MET_pt"])})


def size_of(events: Events) -> Any:
    """By the missing momentum, which no shift of jets changes."""
    return 1 + np.asarray(events.MET.pt) / 1000


@pytest.mark.parametrize("kind", [Resumes, BoundObjects, ComputesOnce])
def test_no_events_outlive_their_chunk(kind: type[Resumes]) -> None:
    def number() -> int:
        return sum(issubclass(type(each), (Events, Flat)) for each in gc.get_objects())  # their __class__ may warn

    gc.collect()
    gc.disable()
    try:
        before = number()
        found = on_events(kind(), EVENTS)
        assert number() == before
    finally:
        gc.enable()
    assert len(found.shifts) == 3


def repeated(selection: Selection, monkeypatch: pytest.MonkeyPatch, arrays: Any = EVENTS) -> Selected:
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "is_free_of", lambda *_: False)
        return on_events(selection, arrays)


def compare(one: Selected, other: Selected) -> None:
    assert one.rows.tolist() == other.rows.tolist()
    columns, expected = ({name: it.tolist() for name, it in each.columns.items()} for each in (one, other))
    assert columns == expected
    assert one.shift_sums() == other.shift_sums()
    chosen = np.arange(5) % 2 == 0
    assert one.shift_sums(chosen) == other.shift_sums(chosen)
    for suffix in one.shifts:
        assert one.passed(suffix).tolist() == other.passed(suffix).tolist()


def test_what_is_before_the_checkpoint_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    selection = Resumes()
    found = on_events(selection, EVENTS)
    assert selection.seen == [6, 0, 0]  # nominally, and once for each place where a branch is first used
    again = Resumes()
    compare(found, repeated(again, monkeypatch))
    # two shifts and the proof, and the events that are left where the third matters
    assert again.seen == [6, 3 * 6, 6 - 2]
    assert {"sum_jesUp", "sum_jesDown", "MET_metUp", "weight_muons"} <= found.columns.keys()
    assert "MET_jesUp" not in found.columns


@pytest.mark.parametrize(
    "kind",
    [BoundObjects, NarrowedByHand, NeedsEvents, OtherCuts, ReplacedInside, OwnObject, NumberFromBefore, AsksBefore],
)
def test_a_selection_that_cannot_go_on_is_repeated(kind: type[Resumes], monkeypatch: pytest.MonkeyPatch) -> None:
    selection = kind()
    compare(on_events(selection, EVENTS), repeated(kind(), monkeypatch))
    assert selection.seen[-1] > 0


def test_triggers_come_before(monkeypatch: pytest.MonkeyPatch) -> None:
    selection = Resumes().of_dataset(DatasetInfo(triggers=("HLT_Mu",)))
    found = on_events(selection, EVENTS)
    assert set(selection.seen[1:-1]) == {0}
    assert selection.seen[-1] == 1  # the event that fires none, for the weight before all cuts
    assert [step.cut for step in found.shifts["jesUp"].steps] == ["all", "trigger", "a muon", "hard"]
    compare(found, repeated(selection, monkeypatch))


def test_columns_of_objects_stay_as_they_are() -> None:
    class Changes(Resumes):
        def rest(self, events: Events, cutflow: Cutflow, muons: Any, total: Any, hardest: Any) -> Any:
            muons.pt[:] = 0
            return super().rest(events, cutflow, muons, total, hardest)

    with pytest.raises(NanoMLError, match="read-only"):
        on_events(Changes(), EVENTS)
