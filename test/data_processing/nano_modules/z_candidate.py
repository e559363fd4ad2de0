"""Events with a Z candidate and a third lepton."""
# ruff: noqa: N802, N803

from __future__ import annotations

import itertools

from PhysicsTools.NanoAODTools.postprocessing.framework.datamodel import Collection, Object
from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import Module

Z_MASS = 91.1876


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


modules = [ZCandidate]
