from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.selection import Events

ARRAYS = {
    "Jet_pt": ak.Array([[50.0, 20.0], [], [30.0], [40.0, 10.0, 5.0]]),
    "Jet_eta": ak.Array([[1.0, 2.0], [], [0.0], [-1.0, 0.5, 0.1]]),
    "MET_pt": ak.Array([10.0, 20.0, 30.0, 40.0]),
}


def doubled(seen: list[Any]) -> Events:
    """Events with twice the pt of jets and missing momentum; `seen` gets the numbers of events that were computed."""

    def values(left: Events) -> dict[str, Any]:
        seen.append(len(left))
        return {"Jet_pt": 2 * left.flat("Jet").pt, "MET_pt": 2 * left.MET.pt}

    return Events(ARRAYS, {"Jet_pt": "Jet", "Jet_eta": "Jet"}).replaced(("Jet_pt", "MET_pt"), values)


def test_one_branch_is_a_list_of_one() -> None:
    """A string would be a list of letters, which no branch has, and `once` would not notice a shift."""
    for ask in (lambda it: it.replaced("MET_pt", dict), lambda it: it.once(len, "MET_pt")):
        with pytest.raises(NanoMLError, match=r'events.\w+: takes a list of branches. Write \["MET_pt"\]'):
            ask(doubled([]))


def test_new_values_are_seen_in_every_way() -> None:
    events = doubled([])
    assert events.Jet.pt.tolist() == [[100, 40], [], [60], [80, 20, 10]]
    assert events["Jet_pt"].tolist() == events.Jet.pt.tolist()
    assert events.flat("Jet").pt.tolist() == [100, 40, 60, 80, 20, 10]
    assert events.flat("Jet").eta.tolist() == [1, 2, 0, -1, 0.5, 0.1]
    assert events.MET.pt.tolist() == [20, 40, 60, 80]


def test_they_are_computed_once_for_the_events_that_are_left() -> None:
    seen: list[int] = []
    events = doubled(seen)[np.array([True, False, True, True])]
    assert not seen
    assert events.MET.pt.tolist() == [20, 60, 80]
    assert events[np.array([False, True, True])].Jet.pt.tolist() == [[60], [80, 20, 10]]
    assert events[np.array([False, False, True])].flat("Jet").pt.tolist() == [80, 20, 10]
    assert seen == [3]


def test_a_column_that_is_not_replaced_needs_no_computation() -> None:
    seen: list[int] = []
    events = doubled(seen)
    jets = events.flat("Jet")
    assert jets.keep(jets.eta > 0.2).eta.tolist() == [1, 2, 0.5]
    assert not seen
    assert jets.keep(jets.eta > 0.2).pt.tolist() == [100, 40, 20]
    assert seen == [4]


def test_events_that_were_not_computed_are_computed_when_they_are_asked_for() -> None:
    seen: list[int] = []
    events = doubled(seen)
    assert events[np.array([2])].MET.pt.tolist() == [60]
    assert events.MET.pt.tolist() == [20, 40, 60, 80]
    assert events[np.array([3, 0])].MET.pt.tolist() == [80, 20]
    assert seen == [1, 4]
    more = events.replaced(["MET_pt"], lambda left: {"MET_pt": left.MET.pt + 1})
    assert more.MET.pt.tolist() == [21, 41, 61, 81]
    nothing = doubled([])[np.zeros(4, bool)]
    assert (nothing.Jet.pt.tolist(), len(nothing.flat("Jet").pt)) == ([], 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda left: {"MET_pt": left.MET.pt}, "did not return them"),
        (lambda left: {"Jet_pt": np.zeros(5)}, r"the new Jet_pt has shape \(5,\), not one number for each of 6"),
        (lambda left: {"Jet_pt": left.Jet.pt[left.Jet.pt > 25]}, "the new Jet_pt has other numbers of objects"),
    ],
)
def test_other_numbers_of_values_are_an_error(values: Any, message: str) -> None:
    events = Events(ARRAYS, {"Jet_pt": "Jet", "Jet_eta": "Jet"}, "a.py:1").replaced(["Jet_pt"], values)
    with pytest.raises(NanoMLError, match=message):
        _ = events.Jet


def test_a_branch_that_was_not_read_cannot_be_replaced() -> None:
    with pytest.raises(NanoMLError, match=r"`Jet_mass` was not read"):
        Events(ARRAYS, {}).replaced(["Jet_mass"], lambda left: {})
