"""Uses what only ROOT has: compiled code, a histogram, four-vectors."""
# ruff: noqa: N802, N803

from __future__ import annotations

import ROOT
from PhysicsTools.NanoAODTools.postprocessing.framework.datamodel import Collection
from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import Module

ROOT.gInterpreter.Declare("float twice(float x) { return 2 * x; }")


class Heaviest(Module):
    def beginJob(self):
        self.histogram = ROOT.TH1F("h", "h", 10, 0, 100)

    def beginFile(self, inputFile, outputFile, inputTree, wrappedOutputTree):
        self.out = wrappedOutputTree
        self.out.branch("doubled", "F")
        self.out.branch("pair_mass", "F")
        self.out.branch("filled", "I")

    def analyze(self, event):
        muons = Collection(event, "Muon")
        if len(muons) < 2:
            return False
        one, two = (
            ROOT.Math.LorentzVector("ROOT::Math::PtEtaPhiM4D<double>")(m.pt, m.eta, m.phi, 0.1057)
            for m in list(muons)[:2]
        )
        self.histogram.Fill(muons[0].pt)
        self.out.fillBranch("doubled", ROOT.twice(muons[0].pt))
        self.out.fillBranch("pair_mass", (one + two).M())
        self.out.fillBranch("filled", int(self.histogram.GetEntries()))
        return True
