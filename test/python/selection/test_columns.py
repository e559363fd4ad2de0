"""Collections that a selection makes; single columns are in test_selection.py."""

from __future__ import annotations

from typing import Any, Callable

import awkward as ak
import numpy as np
import pytest

from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.selection import UP_DOWN, Column, Cutflow, DatasetInfo, Events, Factor, Selected, Selection, Weight
from MLTools.NanoML.selection.tryout import on_events

EVENTS: dict[str, Any] = {"Jet_pt": [[50.0, 20.0, 30.0], [], [40.0]], "Jet_eta": [[0.5, 1.5, -2.0], [], [0.1]]}
EVENTS |= {"Jet_phi": [[0.0, 1.0, 2.0], [], [3.0]], "event": [1, 2, 3]}


def made(what: Callable[[Events], Any], **fields: Column) -> Selected:
    """What a selection makes of the events, which returns a collection Good."""

    class Makes(Selection):
        branches = tuple(EVENTS)
        columns = {"n": Column("i4", "")}
        collections = {"Good": fields or {"pt": Column("f4", "pt [GeV]"), "eta": Column("f8", "eta")}}

        def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
            return events, {"n": np.zeros(len(events)), "Good": what(events)}

    return on_events(Makes(), EVENTS)


FLAT: Callable[[Events], Any] = lambda events: events.flat("Jet").keep(events.flat("Jet").pt > 25)  # noqa: E731


@pytest.mark.parametrize(
    "what",
    [
        *(lambda events: events.Jet[events.Jet.pt > 25], FLAT),
        lambda events: {"pt": events.Jet.pt[events.Jet.pt > 25], "eta": events.Jet.eta[events.Jet.pt > 25]},
        lambda events: ak.zip({"pt": events.Jet.pt, "eta": events.Jet.eta})[events.Jet.pt > 25],
    ],
)
def test_objects_in_any_form(what: Callable[[Events], Any]) -> None:
    columns = made(what).columns
    assert columns["Good_pt"].tolist() == [[50, 30], [], [40]]
    assert columns["Good_eta"].tolist() == [[0.5, -2.0], [], [0.1]]
    assert [str(columns[name].type) for name in ("Good_pt", "Good_eta")] == ["3 * var * float32", "3 * var * float64"]
    assert list(columns) == ["n", "Good_pt", "Good_eta"]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda events: events.Jet.pt, "collection Good is Array. Return its objects"),
        (lambda events: {"pt": events.Jet.pt, "et": events.Jet.eta}, "collection Good has no field eta.*et"),
        (lambda events: events.Jet[1:], "collection Good has 2 events, but 3 are left"),
        (lambda events: {"pt": events.Jet.pt, "eta": events.event}, "column Good_eta is not a list of numbers"),
        (lambda e: {"pt": e.Jet.pt, "eta": e.Jet.eta[:, 1:]}, "collection Good: eta has other numbers of objects"),
        (lambda e: {"pt": e.Jet.pt, "eta": ak.mask(e.Jet.eta, e.Jet.pt > 25)}, "column Good_eta has missing values"),
        (lambda e: {"pt": e.Jet.pt / 0, "eta": e.Jet.eta}, "column Good_pt is NaN or infinite in 4 of 4 objects"),
        (lambda events: events.Jet[:, :, np.newaxis], "column Good_pt is not a list of numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_is_no_collection_is_explained(what: Callable[[Events], Any], message: str) -> None:
    with pytest.raises(NanoMLError, match=f"test_columns.py.*Makes: {message}"):
        made(what)


def test_numbers_that_do_not_fit() -> None:
    said = "column Good_n has values from 0 to 500, which do not fit into its type int8"
    with pytest.raises(NanoMLError, match=said):
        made(lambda events: {"n": ak.values_astype(events.Jet.pt > 45, int) * 500}, n=Column("i1", ""))


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"columns": {"nGood": Column("i4", "")}}, "column nGood: is the number of objects of the collection Good"),
        ({"columns": {"Good_pt": Column("i4", "")}}, "column Good_pt: is made twice"),
        ({"columns": {"weight_x": Column("i4", "")}, "weights": {"x": Weight()}}, "column weight_x: is made twice"),
        ({"columns": {"met_jesUp": Column("f4", ""), "met": Column("f4", "")}}, "column met_jesUp: is made twice"),
    ],
)
def test_a_name_stands_for_one_thing(declared: dict[str, Any], message: str) -> None:
    content = {"collections": {"Good": {"pt": Column("f4", "")}}, "shifts": {"jes": UP_DOWN}, **declared}
    selection = type("Twice", (Selection,), content)()
    with pytest.raises(NanoMLError, match=message):
        selection.made  # noqa: B018


HLT = {"HLT_Mu50": [True, False, True, False], "HLT_IsoMu24": [False, False, True, True]}
EVENTS_OF_DATASET = {"MET_pt": [5.0, 20.0, 30.0, 40.0], **HLT}


class Met(Selection):
    """Events with missing momentum above 10 GeV, and what the selection knows of their dataset."""

    branches = ("MET_pt",)
    columns = {"mass": Column("f4", "mass of the hypothesis [GeV]")}

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        events = cutflow.cut("MET", np.asarray(events.MET.pt) > 10, events)
        return events, {"mass": np.full(len(events), self.dataset.parameters.get("mass", 0.0))}


@pytest.mark.parametrize(
    ("triggers", "rows"),
    [
        *(([], [1, 2, 3]), (["HLT_Mu50"], [2]), (["HLT_Mu50", "HLT_IsoMu24"], [2, 3])),
        (["HLT_OldMu100", "HLT_IsoMu24"], [2, 3]),  # a path that this file does not have has not fired
    ],
)
def test_only_events_that_fire_a_trigger_are_selected(triggers: list[str], rows: list[int]) -> None:
    found = on_events(Met().of_dataset(DatasetInfo("Muon", triggers=triggers)), EVENTS_OF_DATASET)
    assert found.rows.tolist() == rows
    assert [step.cut for step in found.cutflow.steps] == ["all", *(["trigger"] if triggers else []), "MET"]


def test_a_file_without_any_of_the_triggers_is_an_error() -> None:
    muon = Met().of_dataset(DatasetInfo("Muon", triggers=["HLT_IsoMu27"]))
    said = r"has none of the triggers of dataset Muon: HLT_IsoMu27. Did you mean .HLT_IsoMu24"
    with pytest.raises(NanoMLError, match=said):
        on_events(muon, EVENTS_OF_DATASET)


def test_a_selection_of_one_dataset_leaves_that_of_another_alone() -> None:
    plain = Met()
    heavy = plain.of_dataset(DatasetInfo("m1000", parameters={"mass": 1000.0}))
    assert on_events(heavy, EVENTS_OF_DATASET).columns["mass"].tolist() == [1000] * 3
    assert on_events(plain, EVENTS_OF_DATASET).columns["mass"].tolist() == [0] * 3


def test_corrections_that_nobody_named_are_an_error_when_they_are_used() -> None:
    corrections = DatasetInfo("WZ", "2018").corrections
    with pytest.raises(ConfigError, match="asks for the correction pileup, but era 2018 has none: write `corrections:"):
        _ = corrections.pileup


def test_a_task_depends_on_what_the_selection_is_told() -> None:
    assert DatasetInfo().to_json() == {}
    info = DatasetInfo("m600", "2018", True, {"mass": 600.0}, ("HLT_Mu50",), "corrections.yaml")
    assert info.to_json() == {"name": "m600", "era": "2018", "parameters": {"mass": 600.0}, "triggers": ["HLT_Mu50"]}


class Weighted(Met):
    """A weight before all cuts, and one after the last."""

    branches = ("MET_pt", "PV_x")
    weights = {"theory": Weight(("up",), keeps_yield=True), "id": Weight(())}
    shifts = {"shift": ("up",)}

    def shift(self, events: Events, name: str, direction: str) -> Events:
        return events.replaced(["MET_pt"], lambda left: {"MET_pt": np.asarray(left.MET.pt) + 10})

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        x = np.asarray(events.PV.x)
        cutflow.weigh("theory", lambda: Factor(x, {"up": 2 * x}))
        events, columns = super().select(events, cutflow)
        cutflow.weigh("id", lambda: np.full(len(events), 3.0))
        return events, columns


@pytest.mark.parametrize("triggers", [[], ["HLT_Mu50"]])
def test_a_weight_before_all_cuts_is_of_all_events(triggers: list[str]) -> None:
    selection = Weighted().of_dataset(DatasetInfo("WZ", triggers=triggers))
    found = on_events(selection, {**EVENTS_OF_DATASET, "PV_x": [1.0, 2.0, 4.0, 8.0]})
    theory, id_ = found.cutflow.weight_sums()
    assert (theory.cut, theory.without, theory.sums["nominal"], theory.sums["up"]) == ("all", {0: 4}, {0: 15}, {0: 30})
    assert id_.cut == "MET"
    assert id_.without == {0: sum([2, 4, 8][number] for number in range(3) if number + 1 in found.rows[found.passed()])}
    (shifted,) = found.shift_sums()
    early = shifted.weights[0]
    assert (early.cut, early.without, early.sums["nominal"]) == ("all", {0: 4}, {0: 15})
    some = np.array([True, False, True, False])
    one, rest = found.cutflow.weight_sums(some)[0], found.cutflow.weight_sums(~some)[0]
    assert (one.sums["nominal"], rest.sums["nominal"], one.without) == ({0: 5}, {0: 10}, {0: 2})


def test_a_mistake_in_events_without_a_trigger_is_explained() -> None:
    class Wrong(Weighted):
        def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
            cutflow.weigh("theory", lambda: Factor(1 / (np.asarray(events.PV.x) - 1), {"up": np.ones(len(events))}))
            events, columns = Met.select(self, events, cutflow)
            cutflow.weigh("id", np.ones(len(events)))
            return events, columns

    selection = Wrong().of_dataset(DatasetInfo("WZ", triggers=["HLT_Mu50"]))
    said = r"test_columns.py:\d+: Wrong: weight .theory. .* is NaN or infinite for 1 of 2"
    with pytest.raises(NanoMLError, match=said):
        on_events(selection, {**EVENTS_OF_DATASET, "PV_x": [3.0, 1.0, 4.0, 8.0]})
