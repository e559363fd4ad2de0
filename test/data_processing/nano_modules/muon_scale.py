"""New columns of a collection that the file has, and one that replaces a column."""
# ruff: noqa: N802, N803

from __future__ import annotations

from PhysicsTools.NanoAODTools.postprocessing.framework.datamodel import Collection
from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import Module


class MuonScale(Module):
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


both = [MuonScale, lambda: MuonScale(1.01)]
