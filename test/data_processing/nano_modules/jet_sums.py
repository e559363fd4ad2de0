"""Sums over the jets that are no leptons: HT, and the missing momentum that belongs to it."""
# ruff: noqa: N802, N803

from __future__ import annotations

import math

import ROOT
from PhysicsTools.NanoAODTools.postprocessing.framework.datamodel import Collection
from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import Module
from PhysicsTools.NanoAODTools.postprocessing.tools import closest, deltaPhi, matchObjectCollection

ROOT.PyConfig.IgnoreCommandLineOptions = True


class JetSums(Module):
    def __init__(self, jet_cut, distance=0.4):
        super().__init__()
        self.jet_cut, self.distance = jet_cut, distance

    def beginFile(self, inputFile, outputFile, inputTree, wrappedOutputTree):
        self.out = wrappedOutputTree
        for name in ("HT", "MHT_pt", "MHT_phi"):
            self.out.branch(name, "F", title=f"{name} of clean jets")
        self.out.branch("nCleanJet", "I")
        self.out.branch("jetMass", "D")
        self.out.branch("minDeltaPhi", "F")
        self.out.branch("nearMuon", "O")

    def analyze(self, event):
        jets = Collection(event, "Jet")
        muons = Collection(event, "Muon")
        hard = [muon for muon in muons if muon.pt > 10 and abs(muon.eta) < 2.4]
        clean = []
        for jet in filter(self.jet_cut, jets):
            _, distance = closest(jet, hard)
            if distance > self.distance:
                clean.append(jet)
        total, ht = ROOT.TLorentzVector(), 0.0
        for jet in clean:
            total += jet.p4()
            ht += jet.pt
        pairs = matchObjectCollection(hard, clean, dRmax=1.0)
        phi = math.atan2(-total.Py(), -total.Px())
        self.out.fillBranch("HT", ht)
        self.out.fillBranch("MHT_pt", total.Pt())
        self.out.fillBranch("MHT_phi", phi)
        self.out.fillBranch("nCleanJet", len(clean))
        self.out.fillBranch("jetMass", total.M())
        self.out.fillBranch("minDeltaPhi", min((abs(deltaPhi(jet, phi)) for jet in clean), default=-1))
        self.out.fillBranch("nearMuon", any(match is not None for match in pairs.values()))
        return True


jet_sums = lambda: JetSums(lambda jet: jet.pt > 30)  # noqa: E731
jet_sums_soft = lambda: JetSums(lambda jet: jet.pt > 20, distance=0.2)  # noqa: E731
