"""The selection of examples/wz.yaml: the trilepton one, corrected, weighted and shifted."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np

from MLTools.NanoML.corrections import jets
from MLTools.NanoML.corrections.weights import btag_shape
from MLTools.NanoML.selection import UP_DOWN, Column, Cutflow, Events, Factor, Weight, away_from
from MLTools.NanoML.trilepton import Trilepton, good_electrons, good_muons


class WZ(Trilepton):
    """Three good leptons, a Z candidate and the lepton of a W; jets above 30 GeV away from them."""

    branches = (*Trilepton.branches, *jets.branches(), "Electron_deltaEtaSC", "Jet_btagDeepFlavB")
    simulated = (*jets.SIMULATED, "Jet_hadronFlavour", "Pileup_nTrueInt")
    optional = jets.SIMPLIFIED  # for the sample data, which have no muons in jets; real files want jets.OPTIONAL
    columns = {
        **Trilepton.columns,
        "missing_pt": Column("f4", "missing transverse momentum [GeV]"),
        "nBJet": Column("i4", "number of b jets"),
    }
    collections = {
        "GoodJet": {
            "pt": Column("f4", "transverse momentum [GeV]"),
            "eta": Column("f4", "pseudorapidity"),
            "phi": Column("f4", "azimuth"),
            "btagDeepFlavB": Column("f4", "discriminant of b jets"),
        }
    }
    weights = {
        "pileup": Weight(),
        "electron_id": Weight(),
        "muon_id": Weight(),
        "btag": Weight(("hf_up", "hf_down", "lf_up", "lf_down"), keeps_yield=True, bins="number of jets"),
    }
    shifts = {"jes": UP_DOWN, "jer": UP_DOWN}

    def prepare(self, events: Events) -> Events:
        """Jets by the era's energy scale and resolution; the missing momentum follows."""
        return jets.corrected(events, self.dataset.corrections.jets, self.dataset.is_data)

    def shift(self, events: Events, name: str, direction: str) -> Events:
        """The same jets under a shift."""
        return jets.shifted(events, self.dataset.corrections.jets, name, direction)

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        """See the class."""
        c = self.dataset.corrections
        cutflow.weigh("pileup", lambda: c.pileup(events.Pileup.nTrueInt))
        events, columns = super().select(events, cutflow)

        electrons, muons = good_electrons(events), good_muons(events)
        supercluster = electrons.eta + electrons.deltaEtaSC
        cutflow.weigh("electron_id", lambda: c.electron_id(supercluster, electrons.pt).product(electrons))
        cutflow.weigh("muon_id", lambda: c.muon_id(muons.eta, muons.pt).product(muons))

        away = away_from(events.Jet, electrons, muons)
        good = events.Jet[(events.Jet.pt > 30) & (abs(events.Jet.eta) < 2.4) & away]
        cutflow.weigh("btag", lambda: self.btag(good, events.shift).product(), ak.num(good))
        enough = np.asarray(events.MET.pt) > 30
        events, good = cutflow.cut("missing momentum", enough, events, good)
        columns = {name: values[enough] for name, values in columns.items()}
        columns["missing_pt"], columns["nBJet"] = events.MET.pt, ak.sum(good.btagDeepFlavB > 0.3, axis=1)
        return events, {**columns, "GoodJet": good}

    def btag(self, jet: Any, shift: str) -> Factor:
        """The correction of the shape of the b-tagging discriminant, for each jet."""
        correction, sources = self.dataset.corrections.btag, ["hf", "lf"]
        return btag_shape(correction, jet.hadronFlavour, jet.eta, jet.pt, jet.btagDeepFlavB, sources, shift)
