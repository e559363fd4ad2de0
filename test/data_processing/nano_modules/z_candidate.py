"""Events with a Z candidate and a third lepton."""
# ruff: noqa: N802, N803

from __future__ import annotations

import itertools

import ROOT
from PhysicsTools.NanoAODTools.postprocessing.framework.datamodel import Collection, Object
from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import Module
from PhysicsTools.NanoAODTools.postprocessing.tools import deltaR

Z_MASS = 91.1876


class ZCandidate(Module):
    """Three leptons, two of which make a Z."""

    def beginFile(self, inputFile, outputFile, inputTree, wrappedOutputTree):
        self.out = wrappedOutputTree
        self.simulated = bool(inputTree.GetBranch("genWeight"))
        self.out.branch("Z_mass", "F", title="mass of the Z candidate [GeV]")
        self.out.branch("Z_pt", "F")
        self.out.branch("Z_legs", "I", n=2)
        self.out.branch("W_mt", "F")
        self.out.branch("W_eta", "F")
        self.out.branch("legsDeltaR", "D")
        self.out.branch("restCosine", "F")
        self.out.branch("channel", "b")

    def analyze(self, event):
        leptons = [lepton for lepton in Collection(event, "Electron") if lepton.pt > 10 and abs(lepton.eta) < 2.5]
        electrons = len(leptons)
        leptons += [lepton for lepton in Collection(event, "Muon") if lepton.pt > 10 and abs(lepton.eta) < 2.4]
        if len(leptons) < 3:
            return False
        best = None
        for one, two in itertools.combinations(range(len(leptons)), 2):
            if (one < electrons) != (two < electrons):
                continue
            if leptons[one].charge + leptons[two].charge != 0:
                continue
            pair = leptons[one].p4() + leptons[two].p4()
            if best is None or abs(pair.M() - Z_MASS) < abs(best[0].M() - Z_MASS):
                best = pair, one, two
        if best is None:
            return False
        pair, one, two = best
        rest = [number for number in range(len(leptons)) if number not in (one, two)]
        third = max(rest, key=lambda number: leptons[number].pt)
        lepton, met = leptons[third], Object(event, "MET")
        missing = ROOT.TLorentzVector()
        missing.SetPtEtaPhiM(met.pt, 0, met["phi"], 0)
        visible = lepton.p4(lepton.pt * 1.02)
        boosted = leptons[one].p4()
        boosted.Boost(-pair.BoostVector())
        self.out.fillBranch("Z_mass", pair.M())
        self.out.fillBranch("Z_pt", pair.Pt())
        self.out.fillBranch("Z_legs", [leptons[one]._index, leptons[two]._index])
        cosine = ROOT.TMath.Cos(missing.DeltaPhi(visible))
        self.out.fillBranch("W_mt", ROOT.TMath.Sqrt(2 * missing.Pt() * visible.Pt() * (1 - cosine)))
        self.out.fillBranch("W_eta", (visible + missing).Eta())
        self.out.fillBranch("legsDeltaR", deltaR(leptons[one], leptons[two]) + lepton.DeltaR(pair))
        self.out.fillBranch("restCosine", boosted.Vect().Unit().Dot(pair.Vect().Unit()))
        self.out.fillBranch("channel", 1 + 2 * (one >= electrons) + (third >= electrons))
        return lepton.DeltaR(leptons[one]) > 0.05


modules = [ZCandidate]
