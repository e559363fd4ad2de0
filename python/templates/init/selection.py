"""The physics of this analysis: which events are kept, and what is computed for each of them."""

import awkward as ak

from MLTools.NanoML.nanoaodtools import postproc_module
from MLTools.NanoML.selection import Column, Selection

LEPTON = ["pt", "eta", "phi", "mass", "charge"]


class ThreeLeptons(Selection):
    """At least three leptons, electrons or muons, the leading one above 25 GeV."""

    # what is read: branches of NanoAOD
    branches = (
        *(f"Electron_{field}" for field in LEPTON),
        "Electron_cutBased",
        *(f"Muon_{field}" for field in LEPTON),
        "Muon_tightId",
        "MET_pt",
    )
    # what is made: one number for each event, with its type (f4: 32-bit float, i4: integer) and unit
    columns = {
        "nLepton": Column("i4", "number of leptons"),
        "Lep1_pt": Column("f4", "transverse momentum of the leading lepton [GeV]"),
        "Lep3_pt": Column("f4", "transverse momentum of the third lepton [GeV]"),
        "ThreeLep_mass": Column("f4", "mass of the three leading leptons [GeV]"),
        "ThreeLep_pt": Column("f4", "transverse momentum of the three leading leptons together [GeV]"),
        "ThreeLep_dR": Column("f4", "smallest distance in eta and phi between two of them"),
        "sumPt": Column("f4", "scalar sum of their transverse momenta and the missing one [GeV]"),
    }

    def select(self, events, cutflow):
        """Each line works on all events at once: `electrons.pt` has a list of numbers for each of them."""
        electrons = events.Electron[(events.Electron.pt > 10) & (events.Electron.cutBased >= 2)]
        muons = events.Muon[(events.Muon.pt > 10) & events.Muon.tightId]
        leptons = ak.concatenate([electrons[LEPTON], muons[LEPTON]], axis=1)
        leptons = ak.with_name(leptons, "Momentum4D")  # four-vectors: they can be added, and have deltaR
        leptons = leptons[ak.argsort(leptons.pt, ascending=False)]

        # a cut has a name, and narrows what comes after it
        events, leptons = cutflow.cut("three leptons", ak.num(leptons) >= 3, events, leptons)
        events, leptons = cutflow.cut("leading lepton", leptons.pt[:, 0] > 25, events, leptons)

        first, second, third = leptons[:, 0], leptons[:, 1], leptons[:, 2]
        three = first + second + third
        distances = [first.deltaR(second), first.deltaR(third), second.deltaR(third)]
        return events, {
            "nLepton": ak.num(leptons),
            "Lep1_pt": first.pt,
            "Lep3_pt": third.pt,
            "ThreeLep_mass": three.mass,
            "ThreeLep_pt": three.pt,
            "ThreeLep_dR": ak.min(distances, axis=0),
            "sumPt": first.pt + second.pt + third.pt + events.MET.pt,
        }


# the same for nanoAOD-tools, in CMSSW: nano_postproc.py OUT/ IN.root -I selection three_leptons
three_leptons = postproc_module(ThreeLeptons)
