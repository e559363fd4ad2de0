from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from pathlib import Path

import pytest

from MLTools.NanoML.doctor import cmssw

needs_table = pytest.mark.skipif(
    importlib.util.find_spec("ML_processing") is None, reason="ML_processing/ has been taken out"
)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CMSSW_BASE", str(tmp_path))
    monkeypatch.setenv("CMSSW_VERSION", "CMSSW_14_0_19")
    monkeypatch.setenv("SCRAM_ARCH", "el9_amd64_gcc12")
    return tmp_path


def test_no_cmssw(nothing: Path) -> None:
    for finding in (cmssw.release(), cmssw.area()):
        assert not finding.fine
        assert "cmsrel" in finding.mend
    assert cmssw.onnx_runtime().fine


def test_the_release(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cmssw.release().found == f"CMSSW_14_0_19 (el9_amd64_gcc12) in {base}"
    monkeypatch.setenv("CMSSW_VERSION", "CMSSW_10_6_30")
    assert not cmssw.release().fine
    monkeypatch.setenv("CMSSW_VERSION", "CMSSW_13_3_0")
    assert cmssw.release().fine
    monkeypatch.setenv("CMSSW_VERSION", "CMSSW_20_1_X_2027-01-01-2300")
    assert cmssw.release().fine


@needs_table
def test_the_onnx_runtime_is_compared_with_the_table(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.14.1")
    assert cmssw.onnx_runtime().fine
    monkeypatch.setenv("CMSSW_VERSION", "CMSSW_14_1_0")
    finding = cmssw.onnx_runtime()
    assert not finding.fine
    assert finding.found == "Python finds 1.14.1, but CMSSW_14_1_0 has 1.17.1"
    monkeypatch.setenv("CMSSW_VERSION", "CMSSW_99_0_0")
    assert cmssw.onnx_runtime().found.endswith("(not in the table)")


def test_the_area(base: Path) -> None:
    source, library = base / "src" / "MLTools" / "NanoML", base / "lib" / "el9_amd64_gcc12"
    assert cmssw.area().mend == f"git clone REPOSITORY {source}"
    (source / "plugins").mkdir(parents=True)
    (source / "plugins" / "NanoMLProducer.cc").touch()
    assert cmssw.area().mend == "cd $CMSSW_BASE/src && scram b -j4"
    library.mkdir(parents=True)
    (library / cmssw.PLUGIN).touch()
    assert cmssw.area().fine
    os.utime(library / cmssw.PLUGIN, (1, 1))
    assert "changed after it was built" in cmssw.area().found


def test_the_plugin_is_called_as_scram_calls_it() -> None:
    text = (Path(__file__).resolve().parents[3] / "plugins" / "BuildFile.xml").read_text()
    assert f'name="{cmssw.PLUGIN.removeprefix("plugin").removesuffix(".so")}"' in text
