from __future__ import annotations

import sys
from pathlib import Path

import pytest

from data_processing.eventloop import load_module
from MLTools.NanoML.errors import ConfigError


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
