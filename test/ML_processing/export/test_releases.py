from __future__ import annotations

import pytest

from ML_processing.export.releases import IR, OPSET, Target, _table, target
from MLTools.NanoML.errors import ConfigError


@pytest.mark.parametrize(
    ("cmssw", "onnxruntime", "opset", "ir"),
    [
        ("CMSSW_10_6_30", "1.3.0", 12, 7),
        ("CMSSW_11_0_X", "1.0.0", 11, 6),
        ("CMSSW_12_3_0", "1.7.2", 13, 7),
        ("CMSSW_12_4_0", "1.10.0", 15, 8),
        ("CMSSW_13_3_0", "1.14.1", 18, 8),
        ("CMSSW_14_0_19_patch1", "1.14.1", 18, 8),
        ("CMSSW_14_1_X", "1.17.1", 20, 9),
        ("CMSSW_15_0_X", "1.20.1", 21, 10),
        ("CMSSW_16_1_0", None, 21, 10),
        ("CMSSW_20_1_X", "1.26.0", 26, 13),
    ],
)
def test_table(cmssw: str, onnxruntime: str | None, opset: int, ir: int) -> None:
    assert target(cmssw) == Target(cmssw, onnxruntime, opset, ir, dynamo=ir >= 10)
    assert target(cmssw).name == (f"{cmssw} (ONNX Runtime {onnxruntime})" if onnxruntime else cmssw)


def test_what_is_usual() -> None:
    assert target() == Target(None, None, OPSET, IR)


@pytest.mark.parametrize(
    ("version", "opset", "ir"), [("1.17.1", 20, 9), ("1.16.3", 19, 9), ("1.3", 12, 7), ("1.99.0", 26, 13)]
)
def test_a_runtime(version: str, opset: int, ir: int) -> None:
    assert target(onnxruntime=version) == Target(None, version, opset, ir, dynamo=ir >= 10)


@pytest.mark.parametrize("cmssw", ["CMSSW_14_3_X", "CMSSW_18_1_ROOT6_X_2026-11-01-2300", "CMSSW_99_9_9_patch1"])
def test_a_release_that_is_not_known_gets_what_all_others_read(cmssw: str) -> None:
    found = target(cmssw)
    assert (found.cmssw, found.onnxruntime, found.opset, found.ir) == (cmssw, None, OPSET, IR)
    assert f"which ONNX Runtime {cmssw} has is not known here" in found.warning
    assert "nanoml doctor --for cmssw" in found.warning


def test_a_release_whose_runtime_is_bounded_has_no_warning() -> None:
    for entry in _table()["releases"]:
        found = target(f"CMSSW_{entry['first']}_X")
        assert bool(found.warning) == (entry["onnxruntime"] is None and entry["at_least"] is None)
        if entry["first"] not in ("10_6", "11_0", "11_1", "11_2", "11_3"):
            assert (found.opset, found.ir) >= (OPSET, IR)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        *(
            ({"cmssw": name}, f"export.cmssw: which ONNX Runtime {name} has is not known here.* Known are")
            for name in ("CMSSW_10_2_X", "CMSSW_9_4_0", "CMSSW_10_7_0")
        ),
        *(
            ({"cmssw": name}, f'export.cmssw: "{name}" is not the name of a CMSSW release')
            for name in ("foo", "CMSSW_new", "CMSSW_14", "CMSSW_14_X", "14_0_X", "CMSSW_14_0_19 ")
        ),
        *(
            ({"onnxruntime": version}, f"ONNX Runtime {version}: is not a known version")
            for version in ("0.5.0", "new", "1")
        ),
        ({"cmssw": "CMSSW_14_0_X", "onnxruntime": "1.17.1"}, "name one of them"),
    ],
)
def test_what_is_no_target(given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        target(**given)
