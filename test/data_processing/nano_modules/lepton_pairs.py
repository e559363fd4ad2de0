"""Reads what the modules `leptons` and `jet_sums` made in the same event."""
# ruff: noqa: N802, N803

from __future__ import annotations

from PhysicsTools.NanoAODTools.postprocessing.framework.datamodel import Collection
from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import Module


class LeptonPairs(Module):
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


lepton_pairs = LeptonPairs
