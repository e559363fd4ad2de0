"""Modules with mistakes."""
# ruff: noqa: N802, N803

from __future__ import annotations

from PhysicsTools.NanoAODTools.postprocessing.framework.datamodel import Collection
from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import Module


class _Mistake(Module):
    def beginFile(self, inputFile, outputFile, inputTree, wrappedOutputTree):
        self.out = wrappedOutputTree
        self.out.branch("x", "F")

    def analyze(self, event):
        self.mistake(event)
        return True

    def mistake(self, event):
        pass


class Divides(_Mistake):
    def mistake(self, event):
        if event._entry == 3:
            self.out.fillBranch("x", 1 / (event.nMuon - event.nMuon))


class WrongBranch(_Mistake):
    def mistake(self, event):
        self.out.fillBranch("x", event.MET_ptt)


class WrongField(_Mistake):
    def mistake(self, event):
        for muon in Collection(event, "Muon"):
            self.out.fillBranch("x", muon.ptt)


class NotMade(_Mistake):
    def mistake(self, event):
        self.out.fillBranch("xx", 1.0)


class WrongType(_Mistake):
    def mistake(self, event):
        self.out.fillBranch("x", "1.0")


class Histograms(Module):
    def beginJob(self):
        self.addObject(object())


class BadType(Module):
    def beginFile(self, inputFile, outputFile, inputTree, wrappedOutputTree):
        wrappedOutputTree.branch("x", "Z")


class NoMethod:
    pass


cannot_be_made = lambda: Divides(1)  # noqa: E731
