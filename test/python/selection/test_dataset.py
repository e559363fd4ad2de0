from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.selection import Column, Cutflow, DatasetInfo, Events, Selection
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
    with pytest.raises(
        NanoMLError, match=r"has none of the triggers of dataset Muon: HLT_IsoMu27. Did you mean .HLT_IsoMu24"
    ):
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
