from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_processing.eventloop.datamodel import Collection
from data_processing.eventloop.imports import standing_in
from data_processing.eventloop.lorentzvector import TLorentzVector
from MLTools.NanoML.errors import ConfigError, NanoMLError

NAMES = ("ROOT", "PhysicsTools", "PhysicsTools.NanoAODTools")


def test_stands_in_inside_the_block_only() -> None:
    before = {name: sys.modules.get(name) for name in NAMES}
    finders = list(sys.meta_path)
    with standing_in(always=True):
        import ROOT
        from PhysicsTools.NanoAODTools.postprocessing.framework import datamodel, eventloop
        from PhysicsTools.NanoAODTools.postprocessing.tools import deltaR

        assert datamodel.Collection is Collection
        assert ROOT.TLorentzVector is TLorentzVector
        assert deltaR(0.0, 0.0, 3.0, 4.0) > 0
        assert hasattr(eventloop, "Module")
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("PhysicsTools.NanoAODTools.postprocessing.framework.none_of_this_name")
    assert {name: sys.modules.get(name) for name in NAMES} == before
    assert sys.meta_path == finders


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package PhysicsTools without NanoAODTools, and a ROOT, as if they were installed."""
    (tmp_path / "PhysicsTools").mkdir()
    (tmp_path / "PhysicsTools" / "__init__.py").write_text("installed = True\n")
    (tmp_path / "ROOT.py").write_text("TH1F = 'a histogram'\n")
    others = {
        name: sys.modules.pop(name)
        for name in list(sys.modules)
        if name.partition(".")[0] in ("ROOT", "PhysicsTools")
    }
    with monkeypatch.context() as context:
        context.syspath_prepend(tmp_path)
        yield
    for name in ("ROOT", "PhysicsTools"):
        sys.modules.pop(name, None)
    sys.modules.update(others)


@pytest.mark.usefixtures("installed")
def test_what_is_installed_is_preferred() -> None:
    with standing_in():
        import PhysicsTools.NanoAODTools.postprocessing.framework.datamodel as ours
        import ROOT

        assert ROOT.TH1F == "a histogram"
        assert ours.Collection is Collection
    parent = sys.modules["PhysicsTools"]
    assert parent.installed
    assert not hasattr(parent, "NanoAODTools")
    assert "PhysicsTools.NanoAODTools" not in sys.modules


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


def test_a_file_that_imports_more_of_root_or_starts_a_program_is_refused(tmp_path: Path) -> None:
    from data_processing.eventloop import load_module

    (tmp_path / "imports.py").write_text("from ROOT import TH1F\nclass M: pass\n")
    with pytest.raises(ConfigError, match=r"imports\.py:1: cannot be imported: .*TH1F.*pip install root"):
        load_module("imports.py:M", tmp_path, always=True)
    framework = "PhysicsTools.NanoAODTools.postprocessing.framework"
    (tmp_path / "starts.py").write_text(
        f"from {framework}.postprocessor import PostProcessor\nPostProcessor('.', []).run()\n"
    )
    with pytest.raises(ConfigError, match=r"starts\.py:2: .*a PostProcessor is started.*__main__"):
        load_module("starts.py:M", tmp_path, always=True)
