"""What a selection's usual slips say: each is made here, with the awkward that is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import awkward as ak
import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.selection import Column, Selection
from MLTools.NanoML.selection.tryout import on_events

EVENTS = {
    "Muon_pt": [[30.0, 20.0], [], [40.0]],
    "Muon_eta": [[0.0, 1.0], [], [2.0]],
    "Muon_phi": [[0.0, 1.0], [], [2.0]],
    "Jet_pt": [[30.0], [50.0], []],
    "MET_pt": [1.0, 2.0, 3.0],
}


def made_in(slip: Callable[[Any], Any]) -> str:
    class Mine(Selection):
        branches = tuple(EVENTS)
        columns: ClassVar = {"x": Column("f4", "something")}

        def select(self, events: Any, cutflow: Any) -> Any:
            return events, {"x": slip(events)}

    with pytest.raises(NanoMLError) as caught:
        on_events(Mine(), EVENTS)
    return str(caught.value)


@pytest.mark.parametrize(
    ("slip", "said"),
    [
        (
            lambda events: events.Muon.pt[:, 0],
            "some events have no such object. Cut on the number of objects before",
        ),
        (
            lambda events: (events.Muon + events.Muon).pt,
            "these are no four-vectors. Read pt, eta, phi and mass",
        ),
        (
            lambda events: events.Muon.deltaR(events.Muon),
            "these are no four-vectors, or the branch was not read",
        ),
        (
            lambda events: events.Muon.pt + events.Jet.pt,
            "do not have the same events or objects. Narrow both",
        ),
        (
            lambda events: events.MET.pt[:2] + events.MET.pt,
            "do not have the same events or objects. Narrow both",
        ),
        (
            lambda events: ak.sum(events.Muon.pt, axis=1) > 5 and events.MET.pt > 2,
            "For all at once: `&`, `|`, `~`, with each comparison in parentheses",
        ),
        (lambda events: (events.MET.pt > 1) & events.MET.pt > 2, "`&` and `|` bind before"),
    ],
)
def test_each_says_what_to_do_and_where(slip: Callable[[Any], Any], said: str) -> None:
    message = made_in(slip)
    assert said in message
    assert "test_hints.py:" in message
    assert ": Mine: " in message
    assert "compiled code" not in message


def test_anything_else_is_told_as_it_is() -> None:
    assert made_in(lambda events: 1 / 0).endswith("Mine: ZeroDivisionError: division by zero")


def test_a_mistake_in_a_cut_is_told_with_its_line() -> None:
    class Mine(Selection):
        branches = ("Muon_pt",)

        def select(self, events: Any, cutflow: Any) -> Any:
            number = ak.num(events.Muon.pt)
            return cutflow.cut("muon", number, events), {}

    with pytest.raises(NanoMLError) as caught:
        on_events(Mine(), {"Muon_pt": [[30.0], []]})
    line = int(str(caught.value).partition("test_hints.py:")[2].partition(":")[0])
    assert line == test_a_mistake_in_a_cut_is_told_with_its_line.__code__.co_firstlineno + 6
    assert "Give one boolean per event" in str(caught.value)
