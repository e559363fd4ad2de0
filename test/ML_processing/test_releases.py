from __future__ import annotations

import pytest

from ML_processing.releases import IR, OPSET, Target, _known, target
from MLTools.NanoML.errors import ConfigError


@pytest.mark.parametrize(
    ("cmssw", "onnxruntime", "opset", "ir"),
    [
        ("CMSSW_12_4_0", "1.10.0", 15, 8),
        ("CMSSW_13_0_X", "1.10.0", 15, 8),
        ("CMSSW_13_3_0", "1.14.1", 18, 8),
        ("CMSSW_14_0_19_patch1", "1.14.1", 18, 8),
        ("CMSSW_14_1_X", "1.17.1", 20, 9),
        ("CMSSW_14_2_0_pre1", "1.17.1", 20, 9),
        ("CMSSW_15_0_X", "1.20.1", 21, 10),
        ("CMSSW_15_1_X", None, 21, 10),
        ("CMSSW_16_1_0", None, 21, 10),
        ("CMSSW_20_1_X", "1.26.0", 26, 13),
    ],
)
def test_table(cmssw: str, onnxruntime: str | None, opset: int, ir: int) -> None:
    assert target(cmssw) == Target(cmssw, onnxruntime, opset, ir)


def test_what_is_written_loads_everywhere() -> None:
    assert all(entry["opset"] >= OPSET and entry["ir"] >= IR for entry in _known())
    assert target(None) == Target(None, None, OPSET, IR)


@pytest.mark.parametrize(
    "cmssw", ["CMSSW_10_6_X", "CMSSW_12_3_0", "CMSSW_17_0_X", "CMSSW_21_0_X", "CMSSW_new"]
)
def test_not_known(cmssw: str) -> None:
    with pytest.raises(
        ConfigError, match=f"export.cmssw: which ONNX Runtime {cmssw} has is not known here. Known are"
    ):
        target(cmssw)
