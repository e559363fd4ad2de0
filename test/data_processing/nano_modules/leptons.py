"""A collection that was not in the file: electrons and muons together."""
# ruff: noqa: N802, N803

from __future__ import annotations

from PhysicsTools.NanoAODTools.postprocessing.framework.datamodel import Collection
from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import Module


class Leptons(Module):
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
