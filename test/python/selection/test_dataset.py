from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.selection import Column, Cutflow, DatasetInfo, Events, Factor, Selection, Weight
from MLTools.NanoML.selection.tryout import on_events

EVENTS = {
    "MET_pt": [5.0, 20.0, 30.0, 40.0],
    "HLT_Mu50": [True, False, True, False],
    "HLT_IsoMu24": [False, False, True, True],
}


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
        ([], [1, 2, 3]),
        (["HLT_Mu50"], [2]),
        (["HLT_Mu50", "HLT_IsoMu24"], [2, 3]),
        (["HLT_OldMu100", "HLT_IsoMu24"], [2, 3]),  # a path that this file does not have has not fired
    ],
)
def test_only_events_that_fire_a_trigger_are_selected(triggers: list[str], rows: list[int]) -> None:
    found = on_events(Met().of_dataset(DatasetInfo("Muon", triggers=triggers)), EVENTS)
    assert found.rows.tolist() == rows
    assert [step.cut for step in found.cutflow.steps] == ["all", *(["trigger"] if triggers else []), "MET"]


def test_a_file_without_any_of_the_triggers_is_an_error() -> None:
    muon = Met().of_dataset(DatasetInfo("Muon", triggers=["HLT_IsoMu27"]))
    said = r"has none of the triggers of dataset Muon: HLT_IsoMu27. Did you mean .HLT_IsoMu24"
    with pytest.raises(NanoMLError, match=said):
        on_events(muon, EVENTS)


def test_a_selection_of_one_dataset_leaves_that_of_another_alone() -> None:
    plain = Met()
    heavy = plain.of_dataset(DatasetInfo("m1000", parameters={"mass": 1000.0}))
    assert on_events(heavy, EVENTS).columns["mass"].tolist() == [1000] * 3
    assert on_events(plain, EVENTS).columns["mass"].tolist() == [0] * 3


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
    found = on_events(
        Weighted().of_dataset(DatasetInfo("WZ", triggers=triggers)), {**EVENTS, "PV_x": [1.0, 2.0, 4.0, 8.0]}
    )
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

    said = r"test_dataset.py:\d+: Wrong: weight .theory. .* is NaN or infinite for 1 of 2"
    with pytest.raises(NanoMLError, match=said):
        on_events(
            Wrong().of_dataset(DatasetInfo("WZ", triggers=["HLT_Mu50"])), {**EVENTS, "PV_x": [3.0, 1.0, 4.0, 8.0]}
        )
