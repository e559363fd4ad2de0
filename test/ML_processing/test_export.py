from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from ML_processing import export as exporting
from ML_processing.data import read
from ML_processing.export import export
from ML_processing.models import Ensemble
from ML_processing.releases import Target
from ML_processing.run import Run
from ML_processing.train import train
from MLTools.NanoML.config import Export, Train
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.folds import RULE
from MLTools.NanoML.model import KEY, Model, file_hash


@pytest.fixture
def model(run: Path, tmp_path: Path) -> Path:
    """The example's model."""
    export(run, tmp_path / "model.onnx", Export(cmssw="CMSSW_14_0_X", name="trilepton"))
    return tmp_path / "model.onnx"


def test_scores_are_those_of_the_networks(model: Path, run: Path, files: list[Path]) -> None:
    table, training = read(files), Run.load(run)
    columns = dict(zip(table.names, table.features.T, strict=True))
    loaded = Model(model)
    rows, expected = training.out_of_fold(table)
    assert loaded.scores(columns, table.folds(5)) == pytest.approx(expected[np.argsort(rows)], abs=1e-6)
    with torch.no_grad():
        mean = Ensemble(training.networks)(torch.from_numpy(table.features))[0].numpy()
    assert loaded.scores(columns) == pytest.approx(mean, abs=1e-6)


def test_metadata(model: Path, run: Path, files: list[Path]) -> None:
    twin = json.loads(model.with_suffix(".json").read_text())
    assert twin.pop("onnx_sha256") == file_hash(model)
    assert {entry.key: json.loads(entry.value) for entry in onnx.load(model).metadata_props} == {KEY: twin}
    names = [*["ZCand_mass", "ZCand_dR", "ThreeLep_sumPt", "WLep_pt", "MET_pt", "WCand_mT", "ThreeLep_mass"]]
    assert twin["inputs"] == [
        {
            "tensor": "features",
            "columns": names,
            "dtypes": ["float32"] * 7,
            "selection": "MLTools.NanoML.trilepton:Trilepton",
            "selection_columns": [name for name in names if name != "MET_pt"],
        }
    ]
    assert twin["outputs"] == [
        {"tensor": "probabilities", "classes": ["signal", "WZ", "ZG"]},
        {"tensor": "fold_probabilities", "classes": ["signal", "WZ", "ZG"], "folds": 5},
    ]
    assert twin["target"] == {"cmssw": "CMSSW_14_0_X", "onnxruntime": "1.14.1", "opset": 15, "ir": 8}
    assert twin["folds"] == {"k": 5, "hash": RULE}
    assert (twin["schema"], twin["name"], twin["level"]) == (1, "trilepton", "event")
    assert twin["training"]["metrics"]["auc"] > 0.92
    assert twin["training"]["data"]["sha256"] == read(files).sha256()
    assert [dataset["name"] for dataset in twin["training"]["datasets"]] == [file.stem for file in files]


def test_format_of_the_file(model: Path) -> None:
    content = onnx.load(model)
    assert content.ir_version == 8
    assert [(entry.domain, entry.version) for entry in content.opset_import] == [("", 15)]
    assert [entry.name for entry in content.graph.input] == ["features"]
    assert [entry.name for entry in content.graph.output] == ["probabilities", "fold_probabilities"]
    shapes = [
        [dimension.dim_param or dimension.dim_value for dimension in entry.type.tensor_type.shape.dim]
        for entry in (*content.graph.input, *content.graph.output)
    ]
    assert shapes == [["events", 7], ["events", 3], ["events", 5, 3]]


def test_reference_events(model: Path, files: list[Path]) -> None:
    loaded = Model(model)
    reference = loaded.metadata["reference"]
    events = np.array(reference["events"], np.float32)
    assert events.shape == (8, 7)
    table = read(files)
    assert all((table.features == event).all(axis=1).any() for event in events)
    found = loaded.scores(dict(zip(loaded.columns, events.T, strict=True)))
    assert found == pytest.approx(np.array(reference["scores"]), abs=1e-6)
    assert np.ptp(found[:, 0]) > 0.3  # they are of several classes


def test_without_a_release(run: Path, tmp_path: Path) -> None:
    metadata = export(run, tmp_path / "plain.onnx", Export())
    assert metadata["target"] == {"cmssw": None, "onnxruntime": None, "opset": 15, "ir": 8}
    assert metadata["name"] == "plain"


def test_single_network(toy: Callable[..., Path], quick: Train, tmp_path: Path) -> None:
    train([toy()], Train(**{**vars(quick), "folds": 1}), tmp_path / "run")
    metadata = export(tmp_path / "run", tmp_path / "model.onnx", Export())
    assert metadata["folds"] == {"k": 1, "hash": RULE}
    columns = {"x": np.zeros(3), "y": np.zeros(3)}
    loaded = Model(tmp_path / "model.onnx")
    assert np.array_equal(loaded.scores(columns, np.zeros(3, int)), loaded.scores(columns))


def test_a_wrong_export_leaves_the_earlier_model(
    model: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in model.parent.iterdir()}
    real = exporting._convert

    def wrong(ensemble: Any, *arguments: Any) -> None:
        with torch.no_grad():
            ensemble.networks[2].layers[0].bias[0] += 0.01
            real(ensemble, *arguments)
            ensemble.networks[2].layers[0].bias[0] -= 0.01

    monkeypatch.setattr(exporting, "_convert", wrong)
    message = r'differs from the network on "real events", 1 events: (fold_)?probabilities, event 0, is \[.*\] instead of \['
    with pytest.raises(NanoMLError, match=message):
        export(run, model, Export())
    assert {path: path.read_bytes() for path in model.parent.iterdir()} == before


def test_a_format_that_is_too_new(model: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model.read_bytes()
    monkeypatch.setattr(exporting, "target", lambda cmssw: Target(cmssw, "1.8", 13, 7))
    with pytest.raises(
        NanoMLError, match="the exporter wrote ONNX opset 15, IR 8, but CMSSW_9_9_X reads opset 13, IR 7"
    ):
        export(run, model, Export(cmssw="CMSSW_9_9_X"))
    assert model.read_bytes() == before


def test_a_release_that_is_not_known(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="which ONNX Runtime CMSSW_10_6_30 has is not known here"):
        export(run, tmp_path / "model.onnx", Export(cmssw="CMSSW_10_6_30"))
    assert not list(tmp_path.iterdir())


def test_name_of_the_file(run: Path, tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match=r"the name of a model ends in .onnx"):
        export(run, tmp_path / "model.pb", Export())
