"""The files for servers and for CMSSW's jet taggers, and the options of `nanoml export` that write them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from click.testing import CliRunner

from MLTools.NanoML.commands import pipeline
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.servers.servers import add_to_repository, preprocess_file, write_preprocess
from MLTools.NanoML.model import Discriminant, Model

onnx = pytest.importorskip("onnx")
text_format = pytest.importorskip("google.protobuf.text_format")

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
    for options in (["--triton", served, "--cmssw", "CMSSW_14_0_X"], ["--triton", served, "--preprocess"], []):
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


def test_preprocess_json(linear_model: Callable[..., Path], tmp_path: Path) -> None:
    model = Path(shutil.copy(linear_model(["ZCand_mass", "MET_pt"], discriminants=[PHOTONS]), tmp_path / "model.onnx"))
    write_preprocess(model)
    content = json.loads(preprocess_file(model).read_text())
    assert content["input_names"] == ["features"]
    assert content["output_names"] == ["signal", "WZ", "ZG", "photons"]
    features = content["features"]
    assert (features["var_names"], features["var_length"]) == (["ZCand_mass", "MET_pt"], 1)
    info = features["var_infos"]["MET_pt"]
    x = 73.0
    scaled = np.clip((x - info["median"]) * info["norm_factor"], info["lower_bound"], info["upper_bound"])
    assert scaled == x


def test_what_producers_cannot_feed_is_not_exported(
    model: Path, linear_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    exporting = pytest.importorskip("ML_processing.export.export")

    def export(_: Path, output: Path, __: object, ___: object, checks: Any) -> None:
        for check in checks:
            check(Model(given).description)
        shutil.copy(given, output)

    monkeypatch.setattr(
        exporting, "export", export
    )  # of a training, which tries the checks before anything is in place
    given, output = model, tmp_path / "model.onnx"
    arguments = [str(tmp_path), "--preprocess", "-o", str(output)]
    done = CliRunner().invoke(pipeline.export, arguments)
    assert str(done.exception).startswith("preprocess.json: RecoBTag's producers give objects variable by variable")
    assert not list(tmp_path.iterdir())
    # and a model that they can feed has the file beside it
    given = linear_model(["MET_pt"])
    assert CliRunner().invoke(pipeline.export, arguments).exit_code == 0
    assert preprocess_file(output).is_file()
