"""Selections as analyses have them: their graph, made with some events, against the engine on others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import awkward as ak
import numpy as np
import pytest

from MLTools.NanoML.selection import Cutflow, Events, Selection
from services.compilation import check_selection

SELECTIONS: dict[str, Callable[[Events, Cutflow], Any]] = {}
"""By name; each takes events and a cut flow, and returns the events that are left."""


def selection(function: Callable[[Events, Cutflow], Any]) -> Callable[[Events, Cutflow], Any]:
    SELECTIONS[function.__name__] = function
    return function


@selection
def best_pair(events: Events, cutflow: Cutflow) -> Any:
    pairs = ak.combinations(events.Muon, 2, fields=["a", "b"])
    pairs = pairs[pairs.a.charge != pairs.b.charge]
    nearest = ak.firsts(pairs[ak.argmin(abs((pairs.a + pairs.b).mass - 91.2), axis=1, keepdims=True)])
    events, nearest = cutflow.cut("pair", ~ak.is_none(nearest.a.pt), events, nearest)
    return cutflow.cut("leading", np.maximum(nearest.a.pt, nearest.b.pt) > 15, events)


@selection
def top_quarks(events: Events, cutflow: Cutflow) -> Any:
    triplets = ak.combinations(events.Jet, 3, fields=["a", "b", "c"])
    mass = (triplets.a + triplets.b + triplets.c).mass
    best = ak.firsts(mass[ak.argmin(abs(mass - 172.5), axis=1, keepdims=True)])
    return cutflow.cut("top", np.round(ak.fill_none(best, -1)) > 60, events)


@selection
def nearest_lepton(events: Events, cutflow: Cutflow) -> Any:
    jets, muons = ak.unzip(ak.cartesian([events.Jet, events.Muon[events.Muon.good]], nested=True))
    distance = jets.deltaR(muons)
    nearest = ak.firsts(muons[ak.argmin(distance, axis=2, keepdims=True)], axis=2)
    near = ak.fill_none(ak.min(distance, axis=2), 99) < 1.5
    return cutflow.cut("near", ak.any(near & (ak.fill_none(nearest.pt, 0) > 15), axis=1), events)


@selection
def transverse_mass(events: Events, cutflow: Cutflow) -> Any:
    met = ak.zip(
        {"pt": events.MET.pt, "eta": 0 * events.MET.pt, "phi": events.MET.phi, "mass": 0 * events.MET.pt},
        with_name="Momentum4D",
    )
    events, muons, met = cutflow.cut("muon", ak.num(events.Muon) >= 1, events, events.Muon, met)
    leading = muons[ak.argmax(muons.pt, axis=1, keepdims=True)][:, 0]
    mass = np.sqrt(2 * leading.pt * met.pt * (1 - np.cos(leading.phi - met.phi)))
    return cutflow.cut("W", (mass > 5) & ((leading + met).pt > 10), events)


@selection
def identification(events: Events, cutflow: Cutflow) -> Any:
    jets = events.Jet[(events.Jet.id & 0b110) != 0]
    padded = ak.pad_none(jets, 2)
    subleading = ak.fill_none(padded.pt[:, 1], 0.0)
    return cutflow.cut(
        "subleading", np.where(events.HLT.A, subleading > 10, ak.count_nonzero(jets.charge, axis=1) > 0), events
    )


@pytest.mark.parametrize("name", SELECTIONS)
def test_graph_and_engine_agree(name: str) -> None:
    class Analysis(Selection):
        branches = ()
        columns = {}

        def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
            return SELECTIONS[name](events, cutflow), {}

    check_selection(Analysis())
