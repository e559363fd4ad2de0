"""Shifts against the plain way: all of the selection again, on events that are shifted from the start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import awkward as ak
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.selection import UP_DOWN, Column, Cutflow, Events, Factor, Selected, Selection, Weight
from MLTools.NanoML.selection import shifts as module_of_shifts
from MLTools.NanoML.selection.selected import Shift
from MLTools.NanoML.selection.tryout import on_events

SHIFTS = {"jes": UP_DOWN, "muon": ("down",), "met": UP_DOWN, "unused": ("up",)}
SIZES = {"up": 1.1, "down": 0.9}


class Shifted(Selection):
    """Cuts and weights of which some depend on jets, some on muons, some on neither."""

    branches = ("Muon_pt", "Jet_pt", "Jet_eta", "MET_pt", "Other_x", "event")
    columns = {"nJet": Column("i4", "number of jets"), "Muon_sum": Column("f4", "sum of pt [GeV]")}
    columns |= {"MET": Column("f4", "missing momentum [GeV]"), "fixed": Column("i8", "number of the event")}
    collections = {"Good": {"pt": Column("f4", "pt [GeV]"), "place": Column("i2", "place in the event")}}
    weights = {"early": Weight(()), "muons": Weight(), "jets": Weight((), keeps_yield=True, bins="number of jets")}
    shifts = SHIFTS

    def prepare(self, events: Events) -> Events:
        """Jets with other momenta than in the file."""
        return events.replaced(["Jet_pt"], lambda left: {"Jet_pt": left.Jet_pt * 1.02})

    def shift(self, events: Events, name: str, direction: str) -> Events:
        """Relative shifts."""
        branch = {"jes": "Jet_pt", "muon": "Muon_pt", "met": "MET_pt", "unused": "Other_x"}[name]
        return events.replaced([branch], lambda left: {branch: left[branch] * SIZES[direction]})

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        cutflow.weigh("early", lambda: 1 + np.asarray(events.event) % 3)
        muons = events.flat("Muon")
        events, muons = cutflow.cut("even", np.asarray(events.event) % 2 == 0, events, muons)
        muons = muons.keep(muons.pt > 20)
        events, muons = cutflow.cut("a muon", muons.counts > 0, events, muons)
        factor = Factor(muons.pt / 50, {"up": muons.pt / 40, "down": muons.pt / 60})
        cutflow.weigh("muons", lambda: factor.product(muons))
        jets = events.Jet[(events.Jet.pt > 30) & (abs(events.Jet.eta) < 2.4)]
        cutflow.weigh("jets", lambda: ak.prod(jets.pt / 50, axis=1), ak.num(jets))
        events, muons, jets = cutflow.cut("a jet", ak.num(jets) > 0, events, muons, jets)
        events, muons, jets = cutflow.cut("MET", np.asarray(events.MET.pt) > 30, events, muons, jets)
        total = np.bincount(muons.event, muons.pt, len(events))
        good = {"pt": jets.pt, "place": ak.local_index(jets.pt)}
        numbers = {"nJet": ak.num(jets), "Muon_sum": total, "MET": events.MET.pt, "fixed": events.event}
        return events, {**numbers, "Good": good}


class JetsFirst(Shifted):
    """A cut on jets before all others, which narrows events alone; after it, each event has a first jet."""

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        events = cutflow.cut("a first jet", ak.any(events.Jet.pt > 25, axis=1), events)
        events, left = super().select(events, cutflow)
        return events, {**left, "MET": events.MET.pt + ak.max(events.Jet.pt, axis=1) + events.Jet.pt[:, 0]}


class MissingLast(JetsFirst):
    """After such a cut, nothing but the missing momentum follows from jets."""

    columns = {"MET": Column("f4", "missing momentum [GeV]"), "fixed": Column("i8", "number of the event")}
    collections = {}
    weights = {"early": Weight(())}

    def shift(self, events: Events, name: str, direction: str) -> Events:
        """The missing momentum follows from jets."""
        shifted = super().shift(events, name, direction)
        if name != "jes":
            return shifted
        return shifted.replaced(["MET_pt"], lambda left: {"MET_pt": left.MET_pt + ak.sum(left.Jet_pt, axis=1)})

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        cutflow.weigh("early", lambda: 1 + np.asarray(events.event) % 3)
        events = cutflow.cut("a first jet", ak.any(events.Jet.pt > 25, axis=1), events)
        events = cutflow.cut("even", np.asarray(events.event) % 2 == 0, events)
        return events, {"MET": events.MET.pt, "fixed": events.event}


def plain_of(kind: type[Shifted], name: str = "", direction: str = "") -> Shifted:
    """The same under one shift, as if it were nominal."""

    class Plain(kind):  # type: ignore[misc, valid-type]
        shifts = {}

        def prepare(self, events: Events) -> Events:
            prepared = super().prepare(events)
            return self.shift(prepared, name, direction) if name else prepared

    return Plain()


@pytest.fixture(autouse=True, scope="module")
def few_events() -> Iterator[None]:
    """A selection goes on from a checkpoint with few events, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module_of_shifts, "LEAST_EVENTS", 0)
        yield


numbers = st.floats(10, 60, width=32)
lists = st.lists(numbers, max_size=3)
one = st.tuples(lists, lists, numbers, st.integers(0, 7), st.sampled_from([-1.0, 1.0, 0.5]))


@settings(max_examples=8)
@given(st.lists(one, min_size=1, max_size=25))
def test_all_is_as_if_everything_were_repeated(events: list[Any]) -> None:
    compare(events, Shifted)


@pytest.mark.parametrize("kind", [JetsFirst, MissingLast])
def test_what_follows_a_cut_on_jets_is_selected_once(kind: type[Shifted], monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    events = []
    for number in range(60):
        lists = (random.uniform(10, 60, random.integers(0, 4)).tolist() for _ in "ab")
        events.append((*lists, random.uniform(10, 60), number % 4, 0.5))
    alone = module_of_shifts._Place.alone

    def of_others(place: Any, shift: Shift, events: Events) -> Selected:
        assert shift.name != "jes"
        return alone(place, shift, events)

    monkeypatch.setattr(module_of_shifts._Place, "alone", of_others)
    monkeypatch.setattr(module_of_shifts, "MANY_EVENTS", 10)
    compare(events, kind)


def compare(events: list[Any], kind: type[Shifted]) -> None:
    """A selection of events with those under single shifts."""
    names = ("Muon_pt", "Jet_pt", "MET_pt", "event", "genWeight")
    arrays: dict[str, Any] = {name: [event[place] for event in events] for place, name in enumerate(names)}
    arrays["Jet_eta"] = [[pt / 20 for pt in event[1]] for event in events]
    arrays["Other_x"] = [1.0] * len(events)
    if not any(arrays["Muon_pt"]) or not any(arrays["Jet_pt"]):
        return  # lists of numbers of no type
    found, nominal = on_events(kind(), arrays), on_events(plain_of(kind), arrays)
    assert found.cutflow.steps == nominal.cutflow.steps
    assert found.cutflow.weight_sums() == nominal.cutflow.weight_sums()
    check(found, nominal, "")
    expected = set(nominal.rows.tolist())
    for name, direction in ((name, direction) for name, directions in SHIFTS.items() for direction in directions):
        suffix = name + direction.capitalize()
        plain = on_events(plain_of(kind, name, direction), arrays)
        check(found, plain, suffix)
        expected |= set(plain.rows.tolist())
        sums = next(each for each in found.shift_sums() if each.shift == suffix)
        assert sums.cutflow == plain.cutflow.steps
        assert sums.weights == [each.unvaried for each in plain.cutflow.weight_sums()]
        chosen = np.arange(len(events)) % 2 == 0
        some = next(each for each in found.shift_sums(chosen) if each.shift == suffix)
        assert some.cutflow == plain.cutflow.steps_of(chosen)
        assert some.weights == [each.unvaried for each in plain.cutflow.weight_sums(chosen)]
    assert found.rows.tolist() == sorted(expected)


def check(found: Selected, plain: Selected, suffix: str) -> None:
    """The events that pass under a shift, and their columns, some of which differ from those that are not shifted."""
    passed = found.passed(suffix)
    assert found.rows[passed].tolist() == plain.rows.tolist()
    for name, values in plain.columns.items():
        is_variation = name.endswith(("Up", "Down"))
        under = f"Good_{suffix}{name[4:]}" if name.startswith("Good_") else f"{name}_{suffix}"
        column = found.columns.get(under, found.columns[name])
        if not (suffix and is_variation):
            assert column[passed].tolist() == values.tolist()
        assert column is found.columns[name] or name == "Good_place" or column.tolist() != found.columns[name].tolist()


EVENTS: dict[str, Any] = {"Muon_pt": [[50.0], [21.0], [21.0]], "Jet_pt": [[29.0], [31.0], [60.0]]}
EVENTS |= {"Jet_eta": [[0.0]] * 3, "MET_pt": [50.0] * 3, "Other_x": [1.0] * 3, "event": [2, 4, 6]}


def test_columns_and_flags() -> None:
    found = on_events(Shifted(), EVENTS)
    assert found.rows.tolist() == [0, 1, 2]
    flags = {name: values.tolist() for name, values in found.columns.items() if name.startswith("selected")}
    nominal = [False, True, True]
    flags_of_shifts = {"jesUp": [True] * 3, "jesDown": [False, False, True], "muonDown": [False] * 3}
    flags_of_shifts |= dict.fromkeys(("metUp", "metDown", "unusedUp"), nominal)
    assert flags == {"selected": nominal, **{f"selected_{name}": values for name, values in flags_of_shifts.items()}}
    differing = sorted(name for name in found.columns if name.endswith(("Up", "Down")) and not name.startswith("sel"))
    changed = [f"{name}{end}" for name in ("MET_met", "weight_jets_jes", "weight_muons") for end in ("Down", "Up")]
    assert differing == changed
    assert found.columns["fixed"].tolist() == [2, 4, 6]
    names = Shifted().made.nominal
    assert names.keys() > {"MET_metUp", "nJet_jesUp", "weight_jets_bin_jesUp", "Good_jesUp_pt"}
    assert names["Good_jesUp_pt"] == "Good_pt"
    assert "weight_muonsUp_jesUp" not in names


def test_a_branch_of_a_record_is_noticed_like_the_record() -> None:
    class First(Shifted):
        weights = {}
        collections = {}

        def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
            jets = events.Jet
            events, jets = cutflow.cut("even", np.asarray(events.event) > 2, events, jets)
            events, jets = cutflow.cut("a jet", ak.any(jets.pt > 30, axis=1), events, jets)
            zero = np.zeros(len(events))
            return events, {"nJet": ak.num(jets), "Muon_sum": zero, "MET": zero, "fixed": zero}

    found = on_events(First(), EVENTS)
    assert found.passed("jesUp").tolist() == [True, True]
    assert found.passed("jesDown").tolist() == [False, True]
    assert [step.events for step in found.shifts["jesDown"].steps] == [3, 2, 1]


def test_a_selection_may_ask_for_the_shift() -> None:
    class Asks(Shifted):
        weights = {"named": Weight(())}
        collections = {}

        def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
            events = cutflow.cut("two", np.asarray(events.event) > 2, events)
            value = {"": 1.0, "jes_up": 2.0}.get(events.shift, 3.0)
            cutflow.weigh("named", lambda: np.full(len(events), value))
            zero = np.zeros(len(events))
            return events, dict.fromkeys(self.columns, zero)

    columns = on_events(Asks(), EVENTS).columns
    assert columns["weight_named"].tolist() == [1, 1]
    assert columns["weight_named_jesUp"].tolist() == [2, 2]
    assert columns["weight_named_unusedUp"].tolist() == [3, 3]


def test_values_before_a_replacement() -> None:
    class Before(Shifted):
        weights = {}
        collections = {}

        def shift(self, events: Events, name: str, direction: str) -> Events:
            return events.replaced(["Jet_pt"], lambda left: {"Jet_pt": left.before("Jet_pt").Jet_pt + len(name)})

        def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
            events = cutflow.cut("last", np.asarray(events.event) > 4, events)
            zero = np.zeros(len(events))
            total = np.asarray(ak.sum(events.Jet.pt, axis=1))
            return events, {"nJet": zero, "Muon_sum": total, "MET": zero, "fixed": zero}

    columns = on_events(Before(), EVENTS).columns
    assert columns["Muon_sum"][0] == np.float32(60 * 1.02)
    assert columns["Muon_sum_jesUp"].tolist() == [63]
    assert columns["Muon_sum_muonDown"].tolist() == [64]


def test_mistakes() -> None:
    class Nothing(Shifted):
        def shift(self, events: Events, name: str, direction: str) -> Events:
            return None  # type: ignore[return-value]

    class Missing(Shifted):
        shift = Selection.shift

    class Random(Shifted):
        calls = 0

        def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
            Random.calls += 1
            events = cutflow.cut("draw", np.arange(len(events)) >= Random.calls - 1, events)
            return super().select(events, cutflow)

    class Breaks(Shifted):
        def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
            if ak.any(events.Jet.pt > 62):
                raise ValueError("too hard")
            return super().select(events, cutflow)

    for selection, message in (
        *((Nothing, "shift returned no events"), (Missing, "declares jes, but there is no method `shift`")),
        (Random, 'cut "draw": drops events that it has kept before'),
        (Breaks, "too hard(?s:.*)That is under the shift jes_up"),
    ):
        with pytest.raises(NanoMLError, match=message):
            on_events(selection(), EVENTS)


def test_data_have_no_shifts() -> None:
    from MLTools.NanoML.selection import DatasetInfo

    found = on_events(Shifted().of_dataset(DatasetInfo(is_data=True)), EVENTS)
    assert found.rows.tolist() == [1, 2]
    weights = ("early", "muons", "muonsUp", "muonsDown", "jets", "jets_bin")
    assert {*found.columns} == {*Shifted.columns, *(f"weight_{name}" for name in weights), "Good_pt", "Good_place"}
