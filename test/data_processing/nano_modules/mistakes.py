"""Modules with mistakes."""
# ruff: noqa: N802, N803

from __future__ import annotations

import ROOT
from PhysicsTools.NanoAODTools.postprocessing.framework.datamodel import Collection
from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import Module


class _Mistake(Module):
    def beginFile(self, inputFile, outputFile, inputTree, wrappedOutputTree):
        self.out = wrappedOutputTree
        self.out.branch("x", "F")
        self.out.branch("Muon_x", "F", lenVar="nMuon")
        self.out.branch("Thing_x", "F", lenVar="nThing")
        self.out.branch("Thing_y", "F", lenVar="nThing")

    def analyze(self, event):
        self.out.fillBranch("Muon_x", [0] * event.nMuon)
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


class TooFew(_Mistake):
    def mistake(self, event):
        if event.nMuon == 2:
            self.out.fillBranch("Muon_x", [0])


class HalfFilled(_Mistake):
    def mistake(self, event):
        self.out.fillBranch("Thing_x", [1, 2, 3])


class TooLate(_Mistake):
    def mistake(self, event):
        self.out.branch("late", "F")


class ReadsUnfilled(_Mistake):
    def mistake(self, event):
        self.out.fillBranch("x", event.Thing_y[0])


class Negative(_Mistake):
    def mistake(self, event):
        self.out.fillBranch("x", Collection(event, "Muon")[-1].pt)


class Histograms(Module):
    def beginJob(self):
        self.addObject(object())


class Books(Module):
    def beginJob(self):
        self.histogram = ROOT.TH1F("h", "h", 10, 0, 1)


class Evaluates(_Mistake):
    def mistake(self, event):
        self.out.fillBranch("x", event.eval("Sum$(Jet_pt)"))


class BadType(Module):
    def beginFile(self, inputFile, outputFile, inputTree, wrappedOutputTree):
        wrappedOutputTree.branch("x", "Z")


class BadShape(Module):
    def beginFile(self, inputFile, outputFile, inputTree, wrappedOutputTree):
        wrappedOutputTree.branch("Muon_pt", "F")


class NoMethod:
    pass


instance = Divides()
cannot_be_made = lambda: Divides(1)  # noqa: E731
