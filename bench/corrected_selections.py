"""The trilepton selection with weights and corrected jets, for bench/corrections.py."""

from __future__ import annotations

from typing import Any

import awkward as ak

from MLTools.NanoML.corrections import jets
from MLTools.NanoML.corrections.weights import btag_shape
from MLTools.NanoML.selection import UP_DOWN, Cutflow, Events, Weight
from MLTools.NanoML.trilepton import Trilepton, good_electrons, good_muons


class Weighted(Trilepton):
    """Pile-up is weighted before any cut, the rest for the events that are left at the end."""

    branches = (*Trilepton.branches, "Electron_deltaEtaSC", "Jet_pt", "Jet_eta", "Jet_btagDeepFlavB")
    simulated = ("Pileup_nTrueInt", "Jet_hadronFlavour")
    weights = {
        "pileup": Weight(),
        "muon_id": Weight(),
        "electron_id": Weight(),
        "btag": Weight(("hf_up", "hf_down", "lf_up", "lf_down"), keeps_yield=True, bins="number of jets"),
    }

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        """See the class."""
        cutflow.weigh("pileup", lambda: self.dataset.corrections.pileup(events.Pileup.nTrueInt))
        events, columns = super().select(events, cutflow)
        self.weigh(events, cutflow)
        return events, columns

    def weigh(self, events: Events, cutflow: Cutflow) -> None:
        """Give the weights of leptons and jets to the events that are left."""
        c = self.dataset.corrections
        muons, electrons = good_muons(events), good_electrons(events)
        muons = muons.keep(abs(muons.eta) < 2.4)
        cutflow.weigh("muon_id", lambda: c.muon_id(muons.eta, muons.pt).product(muons))
        eta = electrons.eta + electrons.deltaEtaSC
        cutflow.weigh("electron_id", lambda: c.electron_id(eta, electrons.pt).product(electrons))
        jet = events.Jet[(events.Jet.pt > 25) & (abs(events.Jet.eta) < 2.5)]
        values = (jet.hadronFlavour, jet.eta, jet.pt, jet.btagDeepFlavB)
        cutflow.weigh("btag", lambda: btag_shape(c.btag, *values, ["hf", "lf"]).product(), ak.num(jet))


class WeightedBefore(Weighted):
    """All weights are given to all events, before any cut: the most that they can cost."""

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        """See the class."""
        cutflow.weigh("pileup", lambda: self.dataset.corrections.pileup(events.Pileup.nTrueInt))
        self.weigh(events, cutflow)
        return Trilepton.select(self, events, cutflow)


class CorrectedJets(Trilepton):
    """The missing momentum follows from corrected jets; it is used after all cuts."""

    branches = (*Trilepton.branches, *jets.branches())
    simulated = jets.SIMULATED
    optional = jets.SIMPLIFIED  # the sample data lack what real files have

    def prepare(self, events: Events) -> Events:
        """Jets by the era's energy scale and resolution."""
        return jets.corrected(events, self.dataset.corrections.jets, self.dataset.is_data)


class JetsFirst(CorrectedJets):
    """The same, with a cut on corrected jets before all others."""

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        """See the class."""
        events = cutflow.cut("a jet", ak.any(events.Jet.pt > 30, axis=1), events)
        return super().select(events, cutflow)


class Shifted(CorrectedJets):
    """Forty shifts of jets, which are used after all cuts: twenty sources of the energy scale, up and down, each computed anew."""

    shifts = {f"jes{number}": UP_DOWN for number in range(20)}

    def shift(self, events: Events, name: str, direction: str) -> Events:
        """The four sources of the file, in turns."""
        sources = ("Total", "FlavorQCD", "RelativeBal", "Absolute")
        source = sources[int(name[3:]) % len(sources)]
        return jets.shifted(events, self.dataset.corrections.jets, f"jes{source}", direction)


class ShiftedFirst(Shifted, JetsFirst):
    """The same shifts, with a cut on jets before all others."""
