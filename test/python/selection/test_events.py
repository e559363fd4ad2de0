from __future__ import annotations

import gc
import weakref

import awkward as ak
import numpy as np
import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.selection import Events


@pytest.fixture
def events() -> Events:
    arrays = {
        "run": ak.Array(np.array([1, 1, 2], np.uint32)),
        "MET_pt": ak.Array(np.array([10, 20, 30], np.float32)),
        "HLT_IsoMu24": ak.Array(np.array([True, False, True])),
        "Muon_pt": ak.Array([[30.0, 20.0], [], [40.0]]),
        "Muon_eta": ak.Array([[0.1, 0.2], [], [0.3]]),
        "Muon_phi": ak.Array([[0.0, 3.0], [], [1.0]]),
        "Muon_mass": ak.Array([[0.1, 0.1], [], [0.1]]),
        "Jet_pt": ak.values_astype(ak.Array([[1.0], [2.0, 3.0], []]), np.float32),
        "LHEPdfWeight": ak.Array([[1.0, 1.1], [1.0, 0.9], [1.0, 1.0]]),
    }
    collections = {name: "Muon" for name in arrays if name.startswith("Muon_")}
    return Events(arrays, {**collections, "Jet_pt": "Jet", "LHEPdfWeight": "LHEPdfWeight"}, "Mine")


def test_branches_look_as_in_nanoaod(events: Events) -> None:
    assert len(events) == 3
    assert events.run.tolist() == [1, 1, 2]
    assert events.MET.pt.tolist() == [10, 20, 30]
    assert events.HLT.IsoMu24.tolist() == [True, False, True]
    assert events.Muon.pt.tolist() == [[30, 20], [], [40]]
    assert events.Jet.pt.tolist() == [[1], [2, 3], []]
    assert events.LHEPdfWeight[1].tolist() == [1.0, 0.9]
    assert events["MET_pt"].tolist() == [10, 20, 30]


def test_collections_with_kinematics_are_four_vectors_in_double_precision(events: Events) -> None:
    muons = events.Muon
    assert str(muons.pt.type) == "3 * var * float64"
    pair = muons[:1, 0] + muons[:1, 1]
    expected = np.sqrt(2 * 30 * 20 * (np.cosh(0.1) - np.cos(3.0)))  # for massless particles
    assert pair.mass[0] == pytest.approx(expected, rel=1e-4)
    assert str(events.Jet.pt.type) == "3 * var * float64"


def test_what_was_picked_by_awkward_is_in_double_precision_too() -> None:
    jets = ak.values_astype(ak.Array([[0.1], [], [0.2, 0.3]]), np.float32)
    picked = Events({"Jet_pt": jets[np.array([2, 0])]}, {"Jet_pt": "Jet"}).Jet
    assert str(picked.pt.type) == "2 * var * float64"
    assert picked.pt.tolist() == ak.to_list(jets[np.array([2, 0])])


def test_a_mask_narrows_everything_and_remembers_the_rows(events: Events) -> None:
    left = events[ak.Array([True, False, True])]
    assert len(left) == 2
    assert left.rows.tolist() == [0, 2]
    assert left.Muon.pt.tolist() == [[30, 20], [40]]
    last = left[np.array([False, True])]
    assert last.rows.tolist() == [2]
    assert last.MET.pt.tolist() == [30]
    assert len(events[np.zeros(3, bool)]) == 0


def test_completion_shows_what_there_is(events: Events) -> None:
    assert {"Muon", "Jet", "MET", "HLT", "run"} <= set(dir(events))
    assert dir(events.HLT) == ["IsoMu24"]


def test_what_was_not_read_is_explained(events: Events) -> None:
    with pytest.raises(NanoMLError, match=r'Mine: `Muons` was not read.*`branches`.* Did you mean "Muon"'):
        _ = events.Muons
    with pytest.raises(NanoMLError, match="`MET_sumEt` was not read"):
        _ = events.MET.sumEt


def test_events_are_gone_with_the_last_that_uses_them() -> None:
    events = Events(
        {"MET_pt": ak.Array([1.0, 2.0]), "Muon_pt": ak.Array([[1.0], []])}, {"Muon_pt": "Muon"}, "Mine"
    )
    assert events.MET.pt.tolist() == [1, 2]
    picked = events[np.array([True, False])]
    assert (picked.MET.pt.tolist(), picked.Muon.pt.tolist(), len(picked.flat("Muon"))) == ([1], [[1]], 1)
    gone = weakref.ref(events), weakref.ref(picked)
    gc.disable()  # a chunk of many events must not wait for it
    try:
        del events, picked
        assert [each() for each in gone] == [None, None]
    finally:
        gc.enable()
