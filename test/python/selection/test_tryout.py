from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import awkward as ak
import pytest
import uproot

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.selection import Column, Selection
from MLTools.NanoML.selection.tryout import on_events, on_file


class Muons(Selection):
    branches = ("Muon_pt", "MET_pt")
    columns: ClassVar = {"sum": Column("f4", "sum of the muons' pt and MET [GeV]")}

    def select(self, events: Any, cutflow: Any) -> Any:
        events = cutflow.cut("muon", ak.any(events.Muon.pt > 20, axis=1), events)
        return events, {"sum": ak.sum(events.Muon.pt, axis=1) + events.MET.pt}


def test_on_a_file_are_the_first_events_with_their_weights(sample: Path) -> None:
    path = sample / "ZGToLLG" / "ZGToLLG_0.root"
    pts = uproot.open(path)["Events/Muon_pt"].array()
    passed = [entry for entry, values in enumerate(pts.tolist()) if any(pt > 20 for pt in values)]
    selected = on_file(Muons(), path)
    assert selected.rows.tolist() == passed
    assert [step.events for step in selected.cutflow.steps] == [800, len(passed)]
    few = on_file(Muons(), path, most=100)
    assert few.rows.tolist() == [entry for entry in passed if entry < 100]
    assert few.cutflow.steps[0].weights == 100


def test_on_events_made_by_hand() -> None:
    events = {"Muon_pt": [[30.0, 5.0], [], [10]], "MET_pt": [1, 2, 3]}
    selected = on_events(Muons(), events)
    assert selected.rows.tolist() == [0]
    assert selected.columns["sum"].tolist() == [36]
    weighted = on_events(Muons(), {**events, "genWeight": [-2.0, 1.0, 1.0]})
    assert [step.weights for step in weighted.cutflow.steps] == [0, -2]
    assert on_events(Muons(), {"Muon_pt": [[], []], "MET_pt": [1.0, 2.0]}).rows.tolist() == []
    assert on_events(Muons(), {"Muon_pt": [[30]], "PFMET_pt": [1.0]}).columns["sum"].tolist() == [31]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ({"Muon_pt": [[30.0]], "MET_pt": [1.0, 2.0]}, "they differ: Muon_pt 1, MET_pt 2"),
        ({"Muon_pt": [[30.0]]}, "selection Muons reads branches that this file lacks: MET_pt"),
        ({"Muons_pt": [[30.0]], "MET_pt": [1.0]}, 'Muon_pt. Did you mean "Muons_pt"'),
    ],
)
def test_mistakes_are_explained(events: dict[str, Any], message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        on_events(Muons(), events)
