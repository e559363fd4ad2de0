"""Selections as analyses have them: their graph, made with some events, against the engine on others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import awkward as ak
import numpy as np
import pytest

from MLTools.NanoML.selection import Cutflow, Events, Selection, away_from
from services.compilation import check_selection

SELECTIONS: dict[str, Callable[[Events, Cutflow], Any]] = {}
"""By name; each takes events and a cut flow, and returns the events that are left."""


def selection(function: Callable[[Events, Cutflow], Any]) -> Callable[[Events, Cutflow], Any]:
    SELECTIONS[function.__name__] = function
    return function


@selection
def dilepton(events: Events, cutflow: Cutflow) -> Any:
    muons = events.Muon[(events.Muon.pt > 10) & (abs(events.Muon.eta) < 2.4)]
    muons = muons[ak.argsort(muons.pt, ascending=False)]
    events, muons = cutflow.cut("two muons", ak.num(muons) >= 2, events, muons)
    first, second = muons[:, 0], muons[:, 1]
    return cutflow.cut("Z", (first.charge != second.charge) & (abs((first + second).mass - 50) < 40), events)


@selection
def best_pair(events: Events, cutflow: Cutflow) -> Any:
    pairs = ak.combinations(events.Muon, 2, fields=["a", "b"])
    pairs = pairs[pairs.a.charge != pairs.b.charge]
    nearest = ak.firsts(pairs[ak.argmin(abs((pairs.a + pairs.b).mass - 91.2), axis=1, keepdims=True)])
    events, nearest = cutflow.cut("pair", ~ak.is_none(nearest.a.pt), events, nearest)
    return cutflow.cut("leading", np.maximum(nearest.a.pt, nearest.b.pt) > 15, events)


@selection
def four_leptons(events: Events, cutflow: Cutflow) -> Any:
    leptons = ak.concatenate([events.Muon, events.Jet], axis=1)
    leptons = leptons[ak.argsort(leptons.pt, axis=1, ascending=False)]
    events, leptons = cutflow.cut("four", ak.num(leptons) >= 4, events, leptons)
    total = leptons[:, 0] + leptons[:, 1] + leptons[:, 2] + leptons[:, 3]
    return cutflow.cut("charge", (ak.sum(leptons.charge[:, :4], axis=1) == 0) & (total.mass > 50), events)


@selection
def vector_boson_fusion(events: Events, cutflow: Cutflow) -> Any:
    first, second = ak.unzip(ak.combinations(events.Jet[events.Jet.pt > 15], 2))
    good = ((first + second).mass > 50) & (abs(first.eta - second.eta) > 1) & (first.eta * second.eta < 0)
    return cutflow.cut("tagged", ak.any(good, axis=1), events)


@selection
def top_quarks(events: Events, cutflow: Cutflow) -> Any:
    triplets = ak.combinations(events.Jet, 3, fields=["a", "b", "c"])
    mass = (triplets.a + triplets.b + triplets.c).mass
    best = ak.firsts(mass[ak.argmin(abs(mass - 172.5), axis=1, keepdims=True)])
    return cutflow.cut("top", np.round(ak.fill_none(best, -1)) > 60, events)


@selection
def clean_jets(events: Events, cutflow: Cutflow) -> Any:
    jets = events.Jet[away_from(events.Jet, events.Muon[events.Muon.good], distance=0.8) & (events.Jet.pt > 20)]
    events, jets = cutflow.cut("jets", ak.num(jets) >= 1, events, jets)
    return cutflow.cut("HT", ak.sum(jets.pt, axis=1) > 40, events)


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
def missing_momentum(events: Events, cutflow: Cutflow) -> Any:
    events = cutflow.cut("trigger", ak.any([events.HLT.A, events.HLT.B], axis=0), events)
    apart = abs((events.Jet.phi - events.MET.phi + np.pi) % (2 * np.pi) - np.pi)
    events = cutflow.cut("apart", ak.all(apart[:, :3] > 0.3, axis=1), events)
    recoil = np.hypot(ak.sum(events.Jet.px, axis=1), ak.sum(events.Jet.py, axis=1))
    return cutflow.cut("recoil", ak.fill_none(ak.std(events.Jet.pt, axis=1), 0) < recoil + 1, events)


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
