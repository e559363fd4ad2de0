"""A collection that was not in the file: electrons and muons together."""
# ruff: noqa: N802, N803

from __future__ import annotations

from PhysicsTools.NanoAODTools.postprocessing.framework.datamodel import Collection
from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import Module


class Leptons(Module):
    def beginFile(self, inputFile, outputFile, inputTree, wrappedOutputTree):
        self.out = wrappedOutputTree
        names = [branch.GetName() for branch in inputTree.GetListOfBranches()]
        self.common = [name for name in ("pt", "eta", "phi", "mass", "dxy") if f"Electron_{name}" in names]
        for name in self.common:
            kind = inputTree.GetBranch(f"Muon_{name}").FindLeaf(f"Muon_{name}").GetTypeName()
            self.out.branch(f"Lepton_{name}", {"Float_t": "F"}[kind], lenVar="nLepton")
        self.out.branch("Lepton_pdgId", "I", lenVar="nLepton", title="11 or 13, with the sign of the particle")
        self.out.branch("Lepton_index", "I", lenVar="nLepton")
        self.out.branch("isolation", "F", lenVar="nIsolation")

    def analyze(self, event):
        found = [*Collection(event, "Electron"), *Collection(event, "Muon", lenVar="nMuon")]
        found.sort(key=lambda lepton: lepton.pt, reverse=True)
        for name in self.common:
            self.out.fillBranch(f"Lepton_{name}", [lepton[name] for lepton in found])
        self.out.fillBranch("Lepton_pdgId", [lepton.pdgId for lepton in found])
        self.out.fillBranch("Lepton_index", [lepton._index for lepton in found])
        self.out.fillBranch("isolation", [lepton.pt / (1 + abs(lepton.dxy)) for lepton in found[:3]])
        event.hardest = found[0] if found else None
        return True
