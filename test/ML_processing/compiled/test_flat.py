"""The whole of `Flat`, awkward's and numpy's functions with their options, and four-vectors, in the graph and in the engine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import awkward as ak
import pytest

from MLTools.NanoML.selection import Events, Flat, away_from
from services.compilation import check, selection_of, traced
from services.supported import LINES as FUNCTIONS
from services.supported import results_of

pytestmark = pytest.mark.exhaustive("each line that a selection may have, compiled")

LINES = {
    "counts": lambda jets, muons, met: jets.counts,
    "place": lambda jets, muons, met: (jets.place, jets.keep(jets.good).place),
    "columns": lambda jets, muons, met: (jets.pt, jets["charge"], jets.good),
    "numbers of the event": lambda jets, muons, met: met.pt[jets.event] * jets.pt,
    "booleans of the event": lambda jets, muons, met: (met.pt > 1)[jets.event] & jets.good,
    "numbers of the event, for some": lambda jets, muons, met: met.pt[jets.keep(jets.good).event],
    "keep": lambda jets, muons, met: jets.keep(jets.pt > 20).keep(jets.keep(jets.pt > 20).good).eta,
    "kept counts": lambda jets, muons, met: jets.keep(jets.good).counts,
    "vectors": lambda jets, muons, met: (jets.p4.px, jets.p4.energy, abs(jets.p4)),
    "pairs": lambda jets, muons, met: (
        jets.pairs()[0].pt,
        jets.pairs()[1].pt,
        jets.pairs()[1].place,
        jets.pairs()[0].counts,
    ),
    "pairs of few": lambda jets, muons, met: muons.keep(muons.good).pairs()[1].eta,
    "mass of pairs": lambda jets, muons, met: (jets.pairs()[0].p4 + jets.pairs()[1].p4).mass,
    "pairs of pairs": lambda jets, muons, met: jets.pairs()[0].keep(jets.pairs()[0].good).charge,
    "with columns": lambda jets, muons, met: jets.with_columns(double=jets.pt * 2, one=1, good=True).double,
    "number as a column": lambda jets, muons, met: (
        jets.with_columns(one=1.5).one,
        jets.with_columns(one=1).pairs()[0].one,
    ),
    "joined": lambda jets, muons, met: (Flat.joined(jets, muons).pt, Flat.joined(jets, muons).counts),
    "joined with columns": lambda jets, muons, met: (
        Flat.joined(
            jets.with_columns(kind=1), muons.keep(muons.good).with_columns(kind=muons.keep(muons.good).charge)
        ).kind
    ),
    "joined, flags": lambda jets, muons, met: (
        Flat.joined(jets.with_columns(flag=False), muons.with_columns(flag=muons.good)).flag
    ),
    "joined, kept": lambda jets, muons, met: (
        (both := Flat.joined(jets.keep(jets.good), muons)).keep(both.pt > 20).place,
        both.keep(both.pt > 20).pairs()[0].pt,
    ),
    "chosen": lambda jets, muons, met: Flat.chosen(jets.good, jets, jets.with_columns(pt=0.0)).pt,
}

OF_FULL = {
    "largest": lambda jets, met: jets.at(jets.largest(jets.pt)).eta,
    "smallest": lambda jets, met: jets.at(jets.smallest(jets.pt)).place,
    "largest of numbers that may be NaN": lambda jets, met: jets.at(jets.largest(jets.score)).phi,
    "smallest of numbers that may be NaN": lambda jets, met: jets.at(jets.smallest(jets.score)).phi,
    "smallest of integers": lambda jets, met: jets.at(jets.smallest(jets.charge)).phi,
    "at, for all events": lambda jets, met: (
        jets.at(jets.largest(jets.pt)).counts,
        met.pt[jets.at(jets.largest(jets.pt)).event],
    ),
    "picked column": lambda jets, met: jets.pt[jets.largest(jets.score)] - met.pt,
    "vector of one": lambda jets, met: jets.at(jets.largest(jets.pt)).p4.deltaR(jets.at(jets.smallest(jets.pt)).p4),
    "number of one for all": lambda jets, met: jets.at(jets.largest(jets.pt)).pt[jets.event] - jets.pt,
    "one joined with all": lambda jets, met: Flat.joined(jets.at(jets.largest(jets.pt)), jets).pt,
    "chosen of one": lambda jets, met: _swapped(jets),
}


def _swapped(jets: Any) -> tuple[Any, ...]:
    one, two = jets.at(jets.largest(jets.eta)), jets.at(jets.smallest(jets.eta))
    swap = two.pt > one.pt
    return Flat.chosen(swap, two, one).phi, Flat.chosen(swap, one, two).p4.px


def results(events: Events) -> dict[str, Any]:
    """The results of all lines; lines that need an object in each event are given only events with a good jet."""
    jets, muons = events.flat("Jet"), events.flat("Muon")
    made = {name: line(jets, muons, events.MET) for name, line in LINES.items()}
    enough = jets.keep(jets.good).counts >= 1
    good, met = jets[enough].keep(jets[enough].good), SimpleNamespace(pt=events.MET.pt[enough])
    made |= {name: line(good, met) for name, line in OF_FULL.items()}
    enough = muons.counts >= 1
    muons = muons[enough]
    leading = muons.at(muons.largest(muons.pt))
    return {**made, "away": away_from(events.Jet[enough], leading, distance=0.9)}


def test_graph_and_engine_agree() -> None:
    check(results)


@pytest.mark.parametrize(
    ("cut", "demands"),
    [
        (lambda jets, events: jets.counts >= 1, 0),  # the cut says that there is one
        (lambda jets, events: jets.counts >= 2, 0),
        (lambda jets, events: ak.any(events.Jet.pt > 0, axis=1), 1),
    ],
)
def test_an_event_without_objects_to_choose_from_fails_unless_a_cut_says_so(cut: Any, demands: int) -> None:
    def lines(events: Events) -> None:
        jets = events.flat("Jet")
        jets = jets[cut(jets, events)]
        jets.smallest(jets.pt)

    assert len(traced(selection_of(lines)).trace.demands) == demands


@pytest.mark.parametrize("group", FUNCTIONS)
def test_lines_with_functions_and_vectors_agree(group: str) -> None:
    check(results_of(FUNCTIONS[group]))
