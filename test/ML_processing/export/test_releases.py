from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from google.protobuf import text_format

from ML_processing.export.releases import IR, OPSET, Target, _table, target
from ML_processing.export.servers import add_to_repository
from MLTools.NanoML.commands import pipeline
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.model import Discriminant, Model


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


OBJECTS = {"Jet": (["pt", "eta"], 4, "-pt"), "Muon": (["pt"], 2, None)}
PHOTONS = Discriminant("photons", "ZG", {"ZG": 0.5, "WZ": 2.0})


def parsed(directory: Path) -> Any:
    """config.pbtxt in Triton's own classes, which know all names and types."""
    pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    return text_format.Parse((directory / "config.pbtxt").read_text(), pb2.ModelConfig())


def shapes(tensors: Any) -> dict[str, list[int]]:
    """Name and shape of tensors in an ONNX file without the first axis; -1 is any length."""
    found = {}
    for tensor in tensors:
        first, *others = tensor.type.tensor_type.shape.dim
        assert not first.HasField("dim_value")
        assert tensor.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        found[tensor.name] = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in others]
    return found


@pytest.fixture
def model(linear_model: Callable[..., Path]) -> Path:
    return linear_model(["MET_pt", "MET_phi"], objects=OBJECTS, discriminants=[PHOTONS])


def test_the_configuration_is_that_of_the_model(model: Path, tmp_path: Path) -> None:
    directory = add_to_repository(model, tmp_path / "repository")
    assert directory == tmp_path / "repository" / "linear"
    config = parsed(directory)
    pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    assert (config.name, config.backend, config.platform) == ("linear", "onnxruntime", "onnxruntime_onnx")
    assert config.max_batch_size > 0
    assert config.HasField("dynamic_batching")
    graph = onnx.load(directory / "1" / "model.onnx").graph
    inputs = {tensor.name: list(tensor.dims) for tensor in config.input}
    outputs = {tensor.name: list(tensor.dims) for tensor in config.output}
    found = {"features": [2], "Jet": [-1, 2], "Jet_mask": [-1], "Muon": [-1, 1], "Muon_mask": [-1]}
    assert inputs == shapes(graph.input) == found
    assert outputs == shapes(graph.output) == {"probabilities": [4], "fold_probabilities": [3, 4]}
    assert {tensor.data_type for tensor in (*config.input, *config.output)} == {pb2.TYPE_FP32}
    labels = [tensor.label_filename for tensor in config.output]
    assert labels == ["labels.txt", ""]
    assert (directory / labels[0]).read_text().split() == ["signal", "WZ", "ZG", "photons"]


def test_the_model_is_complete(model: Path, tmp_path: Path) -> None:
    served = add_to_repository(model, tmp_path) / "1" / "model.onnx"
    assert served.read_bytes() == model.read_bytes()
    objects = ak.Array([[], [3.0, 2.0]])
    columns = {"MET_pt": np.ones(2), "MET_phi": np.zeros(2), "Jet_pt": objects, "Jet_eta": objects, "Muon_pt": objects}
    assert Model(served).scores(columns).tolist() == Model(model).scores(columns).tolist()


def test_events_of_different_folds_are_not_computed_together(model: Path, tmp_path: Path) -> None:
    changed = onnx.load(model)
    fold = onnx.helper.make_tensor_value_info("fold", onnx.TensorProto.FLOAT, ["N", 1])
    changed.graph.input.append(fold)
    changed.graph.input[1].type.tensor_type.shape.dim[1].dim_value = 4
    onnx.save(changed, tmp_path / "fixed.onnx")
    config = parsed(add_to_repository(tmp_path / "fixed.onnx", tmp_path))
    assert not config.HasField("dynamic_batching")
    assert [list(tensor.dims) for tensor in config.input] == [[2], [4, 2], [-1], [-1, 1], [-1], [1]]


def test_a_name_that_no_client_can_ask_for(model: Path, tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match='a"b: cannot be the name of a model on a server'):
        add_to_repository(model, tmp_path, 'a"b')
    assert not list(tmp_path.iterdir())


ERAS = """
workdir: tagger
eras: {2018: {luminosity: 1}, 2022: {luminosity: 1}}
datasets:
  signal_2018: {files: a.root, era: 2018, class: signal, cross_section: 1}
  WZ_2018: {files: a.root, era: 2018, class: WZ, cross_section: 1}
  signal_2022: {files: a.root, era: 2022, class: signal, cross_section: 1}
  WZ_2022: {files: a.root, era: 2022, class: WZ, cross_section: 1}
convert: {features: [x], shuffle: 1}
train: {per_era: true}
"""


def test_the_command(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = str(tmp_path / "served")

    def run(*options: str) -> tuple[int, str]:
        done = CliRunner().invoke(pipeline.export, [*options])
        return done.exit_code, done.output

    assert run(str(model), "--triton", served) == (0, "")
    assert run(str(model), "--triton", served, "--name", "other") == (0, "")
    for options in (["--triton", served, "--cmssw", "CMSSW_14_0_X"], []):
        code, said = run(str(model), *options)
        assert code == 2
        assert "is exported: the only options for it are --triton and --name" in said
    # a configuration serves the models of all eras, which have one name in files
    (tmp_path / "a.yaml").write_text(ERAS)
    (tmp_path / "tagger").mkdir()
    for era in ("2018", "2022"):
        for suffix in (".onnx", ".json"):
            shutil.copy(model.with_suffix(suffix), tmp_path / "tagger" / f"model_{era}{suffix}")
    monkeypatch.setattr(pipeline, "run_one", lambda *_: None)  # they are up to date
    assert run(str(tmp_path / "a.yaml"), "--triton", served) == (0, "")
    names = ["linear", "other", "tagger_2018", "tagger_2022"]
    assert sorted(path.name for path in Path(served).iterdir()) == names
    assert [parsed(Path(served) / name).name for name in names] == names
