from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Model, twin_of


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_a_model_says_what_it_needs_and_scores_by_name(linear_model: Callable[..., Path]) -> None:
    model = Model(linear_model(["x", "MET_pt"], ["x"]))
    assert (model.name, model.classes, model.folds) == ("linear", ["signal", "WZ", "ZG"], 3)
    assert model.columns == ["x", "MET_pt"]
    assert model.selection_columns == {"x": "MLTools.NanoML.trilepton:Trilepton"}
    columns = {"MET_pt": np.array([7, 8, 9, 10]), "x": np.array([0.5, 1.5, -2.0, 0.0]), "other": np.zeros(4)}
    fold = np.array([0, 1, 2, 2])
    expected = softmax(np.stack([columns["x"], fold, np.zeros(4)], axis=1))
    assert model.scores(columns, fold) == pytest.approx(expected, abs=1e-6)
    mean = np.mean(
        [softmax(np.stack([columns["x"], np.full(4, k), np.zeros(4)], axis=1)) for k in range(3)], axis=0
    )
    assert model.scores(columns) == pytest.approx(mean, abs=1e-6)
    assert model.scores({"x": np.zeros(0), "MET_pt": np.zeros(0)}, np.zeros(0, np.int64)).shape == (0, 3)


def test_a_score_that_is_not_finite_stops(linear_model: Callable[..., Path]) -> None:
    model = Model(linear_model(["x"]))
    with pytest.raises(NanoMLError, match="1 of 2 events have a score that is NaN"):
        model.scores({"x": np.array([0.0, np.nan])})


def test_bad_models_are_explained(linear_model: Callable[..., Path], tmp_path: Path) -> None:
    good = linear_model(["x"])
    bad = tmp_path / "bad.onnx"
    with pytest.raises(NanoMLError, match="no such file"):
        Model(bad)
    bad.write_text("text")
    with pytest.raises(NanoMLError, match="cannot load it"):
        Model(bad)
    bad.write_bytes(good.read_bytes()[:300])
    with pytest.raises(NanoMLError, match="cannot load it.*truncated"):
        Model(bad)
    with pytest.raises(NanoMLError, match="schema 2, this NanoML reads 1"):
        Model(linear_model(["x"], schema=2))


def test_a_foreign_model_is_refused(tmp_path: Path, linear_model: Callable[..., Path]) -> None:
    onnx = pytest.importorskip("onnx")
    foreign = onnx.load(linear_model(["x"]))
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(NanoMLError, match="does not describe itself"):
        Model(tmp_path / "foreign.onnx")


def test_the_twin_must_belong_to_the_model(linear_model: Callable[..., Path], tmp_path: Path) -> None:
    good = linear_model(["x"])
    path = tmp_path / "model.onnx"
    shutil.copy(good, path)
    Model(path)  # without a twin: fine
    twin_of(path).write_text(json.dumps({"onnx_sha256": "0" * 64}))
    with pytest.raises(NanoMLError, match="model.json: belongs to another version"):
        Model(path)
    twin_of(path).write_text("{")
    with pytest.raises(NanoMLError, match="model.json: is not the JSON"):
        Model(path)
