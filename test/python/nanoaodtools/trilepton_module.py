"""The selection of the worked example as one writes it for nanoAOD-tools: event by event, with loops."""
# ruff: noqa: N802, N803

from __future__ import annotations

import math
from typing import Any

from PhysicsTools.NanoAODTools.postprocessing.framework.datamodel import Collection, Object
from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import Module

Z_MASS = 91.1876
INTEGERS = ("channel", "nGoodLepton")
NUMBERS = (
    *("ZCand_mass", "ZCand_pt", "ZCand_dR", "ZCand_dPhi", "ZCand_dEta"),
    *("ZLep1_pt", "ZLep1_eta", "ZLep1_phi", "ZLep2_pt", "ZLep2_eta", "ZLep2_phi"),
    *("WLep_pt", "WLep_eta", "WLep_phi", "WCand_mT", "ThreeLep_mass", "ThreeLep_sumPt"),
)


class TrileptonModule(Module):
    """Three good leptons, a Z candidate and a W lepton.

    Parameters
    ----------
    met
        Prefix of the branches of the missing momentum.
    """

    def __init__(self, met: str = "MET") -> None:
        self.met = met

    def beginJob(self) -> None:
        pass

    def endJob(self) -> None:
        pass

    def beginFile(self, inputFile: Any, outputFile: Any, inputTree: Any, wrappedOutputTree: Any) -> None:
        self.out = wrappedOutputTree
        for name in INTEGERS:
            self.out.branch(name, "I")
        for name in NUMBERS:
            self.out.branch(name, "F")

    def endFile(self, inputFile: Any, outputFile: Any, inputTree: Any, wrappedOutputTree: Any) -> None:
        pass

    def analyze(self, event: Any) -> bool:
        electrons = [e for e in Collection(event, "Electron") if e.pt > 10 and abs(e.eta) < 2.5 and e.cutBased >= 2]
        muons = [mu for mu in Collection(event, "Muon") if mu.pt > 20 and abs(mu.eta) < 2.4]
        muons = [mu for mu in muons if mu.ip3d < 0.01 and mu.highPtId >= 1]
        if len(electrons) + len(muons) < 3:
            return False

        pairs = [
            (first, second)
            for leptons in (electrons, muons)
            for number, first in enumerate(leptons)
            for second in leptons[number + 1 :]
            if first.charge + second.charge == 0
        ]
        if not pairs:
            return False
        z = min(pairs, key=lambda pair: abs((pair[0].p4() + pair[1].p4()).M() - Z_MASS))

        tight = [electron for electron in electrons if electron.cutBased == 4 and electron.pt >= 50]
        tight += [muon for muon in muons if muon.highPtId == 2 and muon.pt >= 70]
        rest = [lepton for lepton in tight if lepton is not z[0] and lepton is not z[1]]
        if not rest:
            return False
        w = max(rest, key=lambda lepton: lepton.pt)

        z_to_muons = z[0] in muons
        if z_to_muons and z[0].highPtId != 2 and z[1].highPtId != 2:
            return False
        first, second = (z[1], z[0]) if z[1].pt > z[0].pt else z
        pair = first.p4() + second.p4()
        met = Object(event, self.met)
        self.out.fillBranch("channel", 1 + 2 * z_to_muons + (w in muons))
        self.out.fillBranch("nGoodLepton", len(electrons) + len(muons))
        self.out.fillBranch("ZCand_mass", pair.M())
        self.out.fillBranch("ZCand_pt", pair.Pt())
        self.out.fillBranch("ZCand_dR", first.DeltaR(second))
        self.out.fillBranch("ZCand_dPhi", (first.phi - second.phi + math.pi) % (2 * math.pi) - math.pi)
        self.out.fillBranch("ZCand_dEta", first.eta - second.eta)
        for prefix, lepton in (("ZLep1", first), ("ZLep2", second), ("WLep", w)):
            self.out.fillBranch(prefix + "_pt", lepton.pt)
            self.out.fillBranch(prefix + "_eta", lepton.eta)
            self.out.fillBranch(prefix + "_phi", lepton.phi)
        self.out.fillBranch("WCand_mT", math.sqrt(2 * w.pt * met.pt * (1 - math.cos(w.phi - met.phi))))
        self.out.fillBranch("ThreeLep_mass", (pair + w.p4()).M())
        self.out.fillBranch("ThreeLep_sumPt", first.pt + second.pt + w.pt)
        return True


trilepton_module = TrileptonModule
