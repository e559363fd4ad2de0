"""The selection of examples/agc.yaml: one lepton and four jets, one or more of them from b quarks, from top quark pairs."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
from scipy.special import ndtri

from MLTools.NanoML.selection import Column, Cutflow, Events, Factor, Selection, Weight

TAGGED = 0.5  # of the b-tagging discriminant
SIGNS = {"up": 1, "down": -1}


class TopPair(Selection):
    """One lepton and four jets, of which one or more are tagged as b jets; the hadronic top quark is the hardest trijet with a b tag."""

    branches = (
        *(f"Electron_{name}" for name in ("pt", "eta", "cutBased", "sip3d")),
        *(f"Muon_{name}" for name in ("pt", "eta", "tightId", "sip3d", "pfRelIso04_all")),
        *(f"Jet_{name}" for name in ("pt", "eta", "phi", "mass", "jetId", "btagCSVV2")),
    )
    columns = {
        "nBJet": Column("i4", "number of b jets"),
        "HT": Column("f4", "sum of the jets' transverse momenta [GeV]"),
        "trijet_mass": Column("f4", "mass of the hardest trijet [GeV]"),
    }
    weights = {f"btag_{jet}": Weight() for jet in range(4)}
    shifts = {"pt_scale": ("up",), "pt_res": ("up",)}

    def shift(self, events: Events, name: str, direction: str) -> Events:
        """Momenta of jets 3 % higher, or smeared by 5 % with normal numbers that follow from the last digits of the momenta."""

        def momenta(left: Events) -> dict[str, Any]:
            pt = left.flat("Jet").pt
            digits = (pt.astype("f4") * np.float32(1000)).astype(int) % 1000
            return {"Jet_pt": pt * (1.03 if name == "pt_scale" else 1 + 0.05 * ndtri(0.001 * digits + 0.0005))}

        return events.replaced(["Jet_pt"], momenta)

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        """See the class."""
        electrons, muons = events.flat("Electron"), events.flat("Muon")
        electrons = electrons.keep((electrons.cutBased == 4) & hard_and_prompt(electrons))
        muons = muons.keep(muons.tightId & (muons.pfRelIso04_all < 0.15) & hard_and_prompt(muons))
        events = cutflow.cut("one lepton", electrons.counts + muons.counts == 1, events)

        jets = events.Jet[(events.Jet.pt > 30) & (abs(events.Jet.eta) < 2.4) & (events.Jet.jetId == 6)]
        events, jets = cutflow.cut("four jets", ak.num(jets) >= 4, events, jets)
        b_jets = ak.sum(jets.btagCSVV2 > TAGGED, axis=1)
        events, jets, b_jets = cutflow.cut("a b jet", b_jets > 0, events, jets, b_jets)
        for jet in range(4):
            varied = {way: 1 + sign * 0.075 * jets.pt[:, jet] / 50 for way, sign in SIGNS.items()}
            cutflow.weigh(f"btag_{jet}", Factor(np.ones(len(jets)), varied))

        one, two, three = ak.unzip(ak.combinations(jets, 3))
        trijets = (one + two + three)[(one.btagCSVV2 > TAGGED) | (two.btagCSVV2 > TAGGED) | (three.btagCSVV2 > TAGGED)]
        hardest = trijets[ak.argmax(trijets.pt, axis=1, keepdims=True)]
        return events, {"nBJet": b_jets, "HT": ak.sum(jets.pt, axis=1), "trijet_mass": hardest.mass[:, 0]}


def hard_and_prompt(leptons: Any) -> Any:
    """What electrons and muons have in common: momentum, direction, and an impact parameter that fits the collision."""
    return (leptons.pt > 30) & (abs(leptons.eta) < 2.1) & (leptons.sip3d < 4)
