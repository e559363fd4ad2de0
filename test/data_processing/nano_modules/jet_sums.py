"""Sums over jets: HT, and the missing momentum that belongs to it."""
# ruff: noqa: N802, N803

from __future__ import annotations

import ROOT
from PhysicsTools.NanoAODTools.postprocessing.framework.datamodel import Collection
from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import Module

ROOT.PyConfig.IgnoreCommandLineOptions = True


class JetSums(Module):
    def __init__(self, jet_cut):
        super().__init__()
        self.jet_cut = jet_cut

    def beginFile(self, inputFile, outputFile, inputTree, wrappedOutputTree):
        self.out = wrappedOutputTree
        for name in ("HT", "MHT_pt"):
            self.out.branch(name, "F", title=f"{name} of jets")

    def analyze(self, event):
        total, ht = ROOT.TLorentzVector(), 0.0
        for jet in filter(self.jet_cut, Collection(event, "Jet")):
            total += jet.p4()
            ht += jet.pt
        self.out.fillBranch("HT", ht)
        self.out.fillBranch("MHT_pt", total.Pt())
        return True


jet_sums = lambda: JetSums(lambda jet: jet.pt > 30)  # noqa: E731
