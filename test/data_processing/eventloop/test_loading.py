from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_processing.eventloop import load_module
from data_processing.eventloop.loading import standing_in
from data_processing.eventloop.lorentzvector import TLorentzVector
from data_processing.eventloop.postprocessing import Collection
from MLTools.NanoML.errors import ConfigError

NAMES = ("ROOT", "PhysicsTools", "PhysicsTools.NanoAODTools")


@pytest.mark.parametrize(
    ("spec", "classes"),
    [
        ("jet_sums.py:jet_sums", ["JetSums"]),
        ("jet_sums.py:jet_sums,jet_sums_soft", ["JetSums", "JetSums"]),
        ("z_candidate.py:ZCandidate", ["ZCandidate"]),
        ("z_candidate.py:modules", ["ZCandidate"]),
        ("muon_scale.py:both", ["MuonScale", "MuonScale"]),
        ("mistakes.py:instance", ["Divides"]),
        ("leptons:Leptons", ["Leptons"]),
    ],
)
def test_finds_modules(spec: str, classes: list[str], user_modules: Path) -> None:
    assert [type(module).__name__ for module in load_module(spec, user_modules, always=True)] == classes
    assert str(user_modules) not in sys.path


def test_each_call_makes_modules_of_its_own(user_modules: Path) -> None:
    one, two = (load_module("counting.py:Counting", user_modules, always=True)[0] for _ in range(2))
    assert one is not two
    assert type(one) is type(two)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("leptons.py", "write it as module:NAME or file.py:NAME"),
        ("leptons.py:", "write it as module:NAME or file.py:NAME"),
        ("nowhere.py:M", r"nowhere\.py: no such file"),
        ("no_such_package.m:M", "cannot be imported: ModuleNotFoundError"),
        ("leptons.py:Lepton", 'has no Lepton. Did you mean "Leptons"'),
        ("mistakes.py:NoMethod", "gives NoMethod, which has no method analyze"),
        ("mistakes.py:cannot_be_made", r"mistakes\.py:\d+: cannot_be_made\(\) failed: TypeError"),
    ],
)
def test_explains_what_is_wrong(spec: str, message: str, user_modules: Path) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        load_module(spec, user_modules, always=True)
    assert str(raised.value).startswith(f'module "{spec}": ')


def test_names_the_line_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("x = 1\ny = x.z\n")
    (tmp_path / "uses.py").write_text("import helper\n")
    (tmp_path / "typo.py").write_text("class M:\n    def analyze(self event):\n        pass\n")
    with pytest.raises(ConfigError, match=r"helper\.py:2: cannot be imported: AttributeError"):
        load_module("uses.py:M", tmp_path)
    with pytest.raises(ConfigError, match=r"typo\.py:2: cannot be imported: SyntaxError"):
        load_module("typo.py:M", tmp_path)
    (tmp_path / "uses.py").write_text("class M:\n    def analyze(self, event):\n        return True\n")
    assert len(load_module("uses.py:M", tmp_path)) == 1


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
        name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in ("ROOT", "PhysicsTools")
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


def test_a_file_that_imports_more_of_root_or_starts_a_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "imports.py").write_text("from ROOT import TH1F\nclass M: pass\n")
    with pytest.raises(ConfigError, match=r"imports\.py:1: cannot be imported: .*TH1F.*pip install root"):
        load_module("imports.py:M", tmp_path, always=True)
    framework = "PhysicsTools.NanoAODTools.postprocessing.framework"
    (tmp_path / "starts.py").write_text(
        f"from {framework}.postprocessor import PostProcessor\nPostProcessor('.', []).run()\n"
    )
    with pytest.raises(ConfigError, match=r"starts\.py:2: .*a PostProcessor is started.*__main__"):
        load_module("starts.py:M", tmp_path, always=True)
