from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from ML_processing.export import _convert
from ML_processing.models import MLP, Ensemble
from ML_processing.parity import SIZES, check_parity, trial_inputs
from MLTools.NanoML.errors import NanoMLError


@pytest.fixture
def ensemble() -> Ensemble:
    torch.manual_seed(1)
    networks = [MLP(2, 3, [16], 0.1) for _ in range(3)]
    for network in networks:
        network.scaler.fit(np.random.default_rng(1).normal(50, 10, (100, 2)).astype("f4"))
    return Ensemble(networks).eval()


SAMPLE = np.random.default_rng(2).normal(50, 10, (20, 2)).astype("f4")


def test_inputs_are_what_they_are_called() -> None:
    inputs = trial_inputs(SAMPLE)
    assert all(values.shape == (1000, 2) and values.dtype == np.float32 for values in inputs.values())
    assert np.array_equal(inputs["real events"][:20], SAMPLE)
    assert 0.2 < np.isnan(inputs["events with NaN"]).mean() < 0.4
    assert np.isinf(inputs["infinity"]).all()
    assert 0 in SIZES
    assert 1 in SIZES


def test_a_right_export(ensemble: Ensemble, tmp_path: Path) -> None:
    _convert(ensemble, SAMPLE, tmp_path / "model.onnx")
    assert check_parity(ensemble, tmp_path / "model.onnx", trial_inputs(SAMPLE)) < 1e-6


def test_a_baked_in_size(ensemble: Ensemble, tmp_path: Path) -> None:
    """As some exporters do it: right for the events that it was traced with, and for no other number."""
    path = tmp_path / "model.onnx"
    _convert(ensemble, SAMPLE, path)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, path)
    with pytest.raises(NanoMLError, match=r'"real events", 7 events: ONNX Runtime fails: .*'):
        check_parity(ensemble, path, trial_inputs(SAMPLE))


def test_missing_values_handled_in_another_way(ensemble: Ensemble, tmp_path: Path) -> None:
    """The graph without the replacement of what is not finite: right on clean events alone."""
    path = tmp_path / "model.onnx"
    _convert(ensemble, SAMPLE, path)
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "Where":
            node.CopyFrom(helper.make_node("Identity", [node.input[1]], list(node.output)))
    onnx.save(model, path)
    with pytest.raises(NanoMLError, match=r'"events with NaN", \d+ events: .*nan'):
        check_parity(ensemble, path, trial_inputs(SAMPLE))


def test_another_shape(ensemble: Ensemble, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    _convert(Ensemble(list(ensemble.networks)[:2]), SAMPLE, path)
    with pytest.raises(
        NanoMLError, match=r"fold_probabilities has the shape \(1, 2, 3\) instead of \(1, 3, 3\)"
    ):
        check_parity(Ensemble([ensemble.networks[0]] * 3), path, trial_inputs(SAMPLE))


def test_the_rounding_of_float32_is_allowed_for(ensemble: Ensemble, tmp_path: Path) -> None:
    with torch.no_grad():
        for network in ensemble.networks:
            network.layers[-1].weight *= 200  # probabilities that react strongly
    _convert(ensemble, SAMPLE, tmp_path / "model.onnx")
    assert check_parity(ensemble, tmp_path / "model.onnx", trial_inputs(SAMPLE)) < 1e-3
