"""A selection of jets with shifts, of which some change much, some little, and some nothing, on the example's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from MLTools.NanoML.corrections import jets
from MLTools.NanoML.selection import UP_DOWN, Column, Cutflow, DatasetInfo, Events, Factor, Selection, Weight

CORRECTIONS = Path(__file__).resolve().parents[2] / "examples" / "corrections" / "2018.yaml"
DATASET = DatasetInfo("signal", "2018", corrections_file=str(CORRECTIONS))


class ShiftedJets(Selection):
    """A jet and missing momentum."""

    branches = (*jets.branches(), "Muon_pt")
    simulated = jets.SIMULATED
    optional = jets.SIMPLIFIED
    columns = {
        "nHardJet": Column("i4", "number of jets above 50 GeV"),
        "nHugeJet": Column("u1", "number of jets above 400 GeV"),
        "nSoftMuon": Column("i4", "number of muons"),
        "Jet1_pt": Column("f4", "transverse momentum of the hardest jet [GeV]"),
        "missing": Column("f8", "missing momentum [GeV]"),
        "isBusy": Column("?", "three jets above 50 GeV"),
    }
    weights = {"muons": Weight(), "jets": Weight((), keeps_yield=True, bins="number of jets")}
    shifts = {"jes": UP_DOWN, "jesFlavorQCD": ("up",), "jer": UP_DOWN, "spare": ("down",)}

    def prepare(self, events: Events) -> Events:
        """Jets by the era's energy scale and resolution."""
        return jets.corrected(events, self.dataset.corrections.jets, self.dataset.is_data)

    def shift(self, events: Events, name: str, direction: str) -> Events:
        """Those of jets, and one of a branch that nothing uses."""
        if name == "spare":
            return events.replaced(["Jet_area"], lambda left: {"Jet_area": left.Jet_area * 2})
        return jets.shifted(events, self.dataset.corrections.jets, name, direction)

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        muons = ak.num(events.Muon.pt)
        cutflow.weigh("muons", lambda: Factor(1 + muons / 8, {"up": 1 + muons / 4, "down": 1 + muons / 16}))
        events, muons = cutflow.cut("few muons", muons < 4, events, muons)
        hard = events.Jet.pt[events.Jet.pt > 50]
        events, muons, hard = cutflow.cut("a jet", ak.num(hard) > 0, events, muons, hard)
        cutflow.weigh("jets", lambda: ak.prod(0.9 + hard / 1024, axis=1), ak.num(hard))
        events, muons, hard = cutflow.cut("missing momentum", np.asarray(events.MET.pt) > 60, events, muons, hard)
        return events, {
            "nHardJet": ak.num(hard),
            "nHugeJet": ak.sum(hard > 400, axis=1),
            "nSoftMuon": muons,
            "Jet1_pt": ak.max(hard, axis=1),
            "missing": events.MET.pt,
            "isBusy": ak.num(hard) > 2,
        }
