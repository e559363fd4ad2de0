"""Cuts in the language of TTree::Draw, in the graph and as a skim applies them."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from ML_processing.compiled.selection import TracedSelection, padded
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.formula import Formula
from services.compilation import OTHERS, SIZES, made_up, selection_of

pytestmark = pytest.mark.exhaustive("each line that a selection may have, compiled")

CUTS = [
    "MET_pt > 1.1 && PV_npvs != 7",
    "HLT_A || !HLT_B",
    "Jet_pt[0] > 20",
    "HLT_A || Muon_pt[1] > 20",
    "Jet_pt > 30 && abs(Jet_eta) < 1",
    "Jet_pt - MET_pt > 40 || Jet_good",
    "Sum$(Jet_pt > 20 && Jet_good) >= 2",
    "Sum$(Jet_pt * (Jet_pt > 20)) > 60.5",
    "Max$(Jet_eta) - Min$(Jet_eta) > 0.5",
    "Length$(Muon_pt) == 2",
    "Length$(Muon_pt[0]) + Sum$(Muon_charge[1]) > 0",
    "Jet_pt > Max$(Muon_pt)",
    "Alt$(Muon_pt[2], -1) < 10",
    "Alt$(Jet_pt[1], PV_npvs) > 20",
    "(PV_npvs % 4) / 2 > 0.6 && (5 / 2) == 2.5",
    "(Jet_id[0] & 6) != 0 && (PV_npvs >> 2) > 3 && (PV_npvs << 1) > 3",
    "sqrt(MET_pt) + sq(MET_phi) + pow(MET_pt, 2) > 3 && min(MET_pt, 1.5) == MET_pt",
    "log(MET_pt) < 0.5 && exp(-MET_pt) < 0.6 && int(MET_pt) == TMath::Max(1, floor(MET_pt))",
    "MET_pt / (PV_npvs % 2) > 1 || atan2(MET_pt, MET_phi) > 1",
    "-Jet_charge > 0 || MET_pt / 0 > 1 || MET_pt < log(2) / 1e1",
    "MET_pt ^ 2 > 2",
]


def traced(cut: str, seed: int = 1) -> TracedSelection:
    return TracedSelection(selection_of(lambda events: None), *made_up(seed), SIZES, Formula(cut))


@pytest.mark.parametrize("cut", CUTS)
def test_graph_and_skim_agree(cut: str) -> None:
    graph = traced(cut)
    model, inputs = graph.model(graph.outputs())
    session = onnxruntime.InferenceSession(model.SerializeToString())
    arrays, _ = made_up(1 + OTHERS, 300)
    (passed, cuts) = session.run(["passed", "cuts"], padded(inputs, arrays))
    expected = Formula(cut).mask(arrays, 300)
    assert 0 < expected.sum() < 300
    assert np.flatnonzero(passed[:, 0]).tolist() == np.flatnonzero(expected).tolist()
    assert graph.cuts == ("cut", "kept")
    assert cuts[:, 0].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ("Jet_pt > Muon_pt", "Jet_pt and Muon_pt, which are lists of different lengths"),
        ("Alt$(Muon_pt, 0) > 3", r"Alt\$ beside or of a list"),
        ("(PV_npvs & Jet_id[0]) > 3", "`&`, .* of integers need a constant on one side"),
    ],
)
def test_what_cannot_be_compiled_is_said(cut: str, message: str) -> None:
    with pytest.raises(NanoMLError, match=rf"^cut .*: {message}.*Do the same in `select`"):
        traced(cut)
