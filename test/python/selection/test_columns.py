"""Collections that a selection makes; single columns are in test_selection.py."""

from __future__ import annotations

from typing import Any, Callable

import awkward as ak
import numpy as np
import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.selection import UP_DOWN, Column, Cutflow, Events, Selected, Selection, Weight
from MLTools.NanoML.selection.tryout import on_events

EVENTS = {
    "Jet_pt": [[50.0, 20.0, 30.0], [], [40.0]],
    "Jet_eta": [[0.5, 1.5, -2.0], [], [0.1]],
    "Jet_phi": [[0.0, 1.0, 2.0], [], [3.0]],
    "event": [1, 2, 3],
}


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
        lambda events: events.Jet[events.Jet.pt > 25],
        FLAT,
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
        (
            lambda events: {"pt": events.Jet.pt, "eta": events.Jet.eta[:, 1:]},
            "collection Good: eta has other numbers of objects",
        ),
        (
            lambda events: {"pt": events.Jet.pt, "eta": ak.mask(events.Jet.eta, events.Jet.pt > 25)},
            "column Good_eta has missing values",
        ),
        (
            lambda events: {"pt": events.Jet.pt / 0, "eta": events.Jet.eta},
            "column Good_pt is NaN or infinite in 4 of 4 objects",
        ),
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
