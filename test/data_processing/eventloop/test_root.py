from __future__ import annotations

import pytest

from data_processing.eventloop.loading import standing_in
from MLTools.NanoML.errors import NanoMLError


def test_harmless_settings_do_nothing() -> None:
    with standing_in(always=True):
        import ROOT

        ROOT.PyConfig.IgnoreCommandLineOptions = True
        ROOT.gROOT.SetBatch(True)
        ROOT.gStyle.SetOptStat(0)
        ROOT.gErrorIgnoreLevel = ROOT.kWarning
        ROOT.ROOT.EnableImplicitMT()
        assert ROOT.gROOT.IsBatch()
        assert ROOT.TMath.Pi() == pytest.approx(3.14159265)
        assert ROOT.TMath.Sqrt(ROOT.TMath.Sq(3)) == 3
        assert ROOT.Math.PtEtaPhiMVector(3, 0, 0, 4).E() == 5


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("ROOT.TH1F('h', 'h', 1, 0, 1)", r"ROOT\.TH1F needs ROOT"),
        ("ROOT.Math.LorentzVector", r"ROOT\.Math\.LorentzVector needs ROOT"),
        ("ROOT.gROOT.ProcessLine('.L x.cc')", r"ROOT\.gROOT\.ProcessLine needs ROOT"),
        ("ROOT.gSystem.Load('libX')", r"ROOT\.gSystem needs ROOT"),
    ],
)
def test_says_what_it_lacks(code: str, named: str) -> None:
    with standing_in(always=True):
        import ROOT

        with pytest.raises(NanoMLError, match=named + r".*pip install root.*--engine nanoaodtools"):
            eval(code, {"ROOT": ROOT})
        assert not hasattr(ROOT, "TH1F")
