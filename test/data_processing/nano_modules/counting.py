"""Remembers what it saw, fills some branches in some events only, and has branches of all types."""
# ruff: noqa: N802, N803

from __future__ import annotations

from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import Module


class Counting(Module):
    def beginJob(self):
        self.seen = 0

    def beginFile(self, inputFile, outputFile, inputTree, wrappedOutputTree):
        self.out = wrappedOutputTree
        self.last = 0
        for kind in "BbIiLlFDO":
            self.out.branch(f"type_{'un' if kind.islower() else ''}signed{kind.upper()}", kind)
        self.out.branch("seen", "I")
        self.out.branch("step", "L")
        self.out.branch("lastHighMET", "F")
        self.out.branch("triple", "F", n=3)
        self.out.branch("Good_pt", "F", lenVar="nGood")
        self.out.branch("never", "D")

    def analyze(self, event):
        self.seen += 1
        for kind in "BbIiLlFDO":
            name = f"type_{'un' if kind.islower() else ''}signed{kind.upper()}"
            sign = 1 if kind in "bilO" else -1
            self.out.fillBranch(name, bool(event.event % 2) if kind == "O" else sign * (event.event % 100))
        self.out.fillBranch("seen", self.seen)
        self.out.fillBranch("step", event.event - self.last)
        self.last = event.event
        if event.MET_pt > 50:
            self.out.fillBranch("lastHighMET", event.MET_pt)
            self.out.fillBranch("triple", [event.MET_pt, event.MET_phi, event["MET_sumEt"]])
        if event._entry % 3 == 0:
            good = [number for number in range(event.nJet) if event.Jet_pt[number] > 40]
            self.out.fillBranch("Good_pt", [event.Jet_pt[number] for number in good])
        return event.event % 5 != 0
