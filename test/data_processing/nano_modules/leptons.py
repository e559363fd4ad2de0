"""Leptons: a collection that was not in the file, what is read from it, columns of muons, and a Z candidate."""
# ruff: noqa: N802, N803

from __future__ import annotations

import itertools

from PhysicsTools.NanoAODTools.postprocessing.framework.datamodel import Collection, Object
from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import Module

Z_MASS = 91.1876


class Leptons(Module):
    """Electrons and muons together."""

    def beginFile(self, inputFile, outputFile, inputTree, wrappedOutputTree):
        self.out = wrappedOutputTree
        self.out.branch("Lepton_pt", "F", lenVar="nLepton")
        self.out.branch("Lepton_pdgId", "I", lenVar="nLepton", title="11 or 13, with the sign of the particle")
        self.out.branch("isolation", "F", lenVar="nIsolation")

    def analyze(self, event):
        found = [*Collection(event, "Electron"), *Collection(event, "Muon", lenVar="nMuon")]
        found.sort(key=lambda lepton: lepton.pt, reverse=True)
        self.out.fillBranch("Lepton_pt", [lepton.pt for lepton in found])
        self.out.fillBranch("Lepton_pdgId", [lepton.pdgId for lepton in found])
        self.out.fillBranch("isolation", [lepton.pt / (1 + abs(lepton.dxy)) for lepton in found[:3]])
        event.hardest = found[0] if found else None
        return True


class LeptonPairs(Module):
    """Reads what `Leptons` and the module `jet_sums` made in the same event."""

    def beginFile(self, inputFile, outputFile, inputTree, wrappedOutputTree):
        self.out = wrappedOutputTree
        self.out.branch("meff", "F")
        self.out.branch("hardestPt", "F")

    def analyze(self, event):
        leptons = Collection(event, "Lepton")
        if len(leptons) != event.nLepton or event.nLepton < 1:
            return False
        self.out.fillBranch("meff", event.HT + sum(lepton.pt for lepton in leptons))
        self.out.fillBranch("hardestPt", event.hardest.pt)
        return event.nLepton >= 2 or event.MHT_pt > 30


class MuonScale(Module):
    """New columns of a collection that the file has, and one that replaces a column."""

    def __init__(self, factor=1.003):
        super().__init__()
        self.factor = factor

    def beginFile(self, inputFile, outputFile, inputTree, wrappedOutputTree):
        self.out = wrappedOutputTree
        self.out.branch("Muon_corrPt", "F", lenVar="nMuon", title="scaled pt")
        self.out.branch("Muon_rank", "I", lenVar="nMuon")
        self.out.branch("Muon_central", "O", lenVar="nMuon")
        self.out.branch("Muon_dxy", "F", lenVar="nMuon")

    def analyze(self, event):
        muons = Collection(event, "Muon")
        corrected = [muon.pt * (self.factor + 1e-4 * muon.charge) for muon in muons]
        order = sorted(range(len(muons)), key=lambda number: -corrected[number])
        self.out.fillBranch("Muon_corrPt", corrected)
        self.out.fillBranch("Muon_rank", [order.index(number) for number in range(len(muons))])
        self.out.fillBranch("Muon_central", [abs(muon.eta) < 1.2 for muon in muons])
        self.out.fillBranch("Muon_dxy", [abs(dxy) for dxy in event.Muon_dxy])
        return True


class ZCandidate(Module):
    """Three leptons, two of which make a Z."""

    def beginFile(self, inputFile, outputFile, inputTree, wrappedOutputTree):
        self.out = wrappedOutputTree
        self.out.branch("Z_mass", "F", title="mass of the Z candidate [GeV]")
        self.out.branch("Z_legs", "I", n=2)
        self.out.branch("W_missing", "F")

    def analyze(self, event):
        leptons = [lepton for lepton in Collection(event, "Electron") if lepton.pt > 10 and abs(lepton.eta) < 2.5]
        electrons = len(leptons)
        leptons += [lepton for lepton in Collection(event, "Muon") if lepton.pt > 10 and abs(lepton.eta) < 2.4]
        pairs = [
            (abs((leptons[one].p4() + leptons[two].p4()).M() - Z_MASS), one, two)
            for one, two in itertools.combinations(range(len(leptons)), 2)
            if (one < electrons) == (two < electrons) and leptons[one].charge + leptons[two].charge == 0
        ]
        if len(leptons) < 3 or not pairs:
            return False
        one, two = (leptons[place] for place in min(pairs)[1:])
        self.out.fillBranch("Z_mass", (one.p4() + two.p4()).M())
        self.out.fillBranch("Z_legs", [one._index, two._index])
        self.out.fillBranch("W_missing", Object(event, "MET").pt)
        return True


both = [MuonScale, lambda: MuonScale(1.01)]
modules = [ZCandidate]
