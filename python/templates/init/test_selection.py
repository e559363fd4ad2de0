"""The selection, on events made by hand and on the sample data: python -m pytest"""

from pathlib import Path

import pytest
from selection import ThreeLeptons

from MLTools.NanoML.selection.tryout import on_events, on_file

DATA = Path(__file__).parent / "data"

# two events: two electrons and a muon; and two electrons alone
EVENTS = {
    "Electron_pt": [[60.0, 30.0], [60.0, 30.0]],
    "Electron_eta": [[0.0, 0.0], [0.0, 0.0]],
    "Electron_phi": [[0.0, 3.0], [0.0, 3.0]],
    "Electron_mass": [[0.0, 0.0], [0.0, 0.0]],
    "Electron_charge": [[1, -1], [1, -1]],
    "Electron_cutBased": [[4, 4], [4, 4]],
    "Muon_pt": [[40.0], []],
    "Muon_eta": [[1.0], []],
    "Muon_phi": [[2.0], []],
    "Muon_mass": [[0.1057], []],
    "Muon_charge": [[1], []],
    "Muon_tightId": [[True], []],
    "MET_pt": [25.0, 25.0],
}


def test_events_made_by_hand():
    selected = on_events(ThreeLeptons(), EVENTS)
    assert selected.rows.tolist() == [0]  # the second event has no third lepton
    assert selected.columns["Lep1_pt"].tolist() == [60]
    assert selected.columns["Lep3_pt"].tolist() == [30]
    assert selected.columns["sumPt"].tolist() == [60 + 30 + 40 + 25]
    assert selected.columns["ThreeLep_dR"] == pytest.approx([2**0.5])  # between the muon and the softer electron


def test_a_muon_that_is_not_identified_does_not_count():
    selected = on_events(ThreeLeptons(), {**EVENTS, "Muon_tightId": [[False], []]})
    assert len(selected.rows) == 0


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("WprimeToWZToLNuLL_M600", 0.3, 0.5), ("WZTo3LNu_Pt100", 0.25, 0.45), ("ZGToLLG_PtG100", 0.02, 0.1)],
)
def test_sample_data(name, least, most):
    selected = on_file(ThreeLeptons(), DATA / f"{name}.root")
    first, *_, last = selected.cutflow.steps
    assert least < last.weights / first.weights < most
