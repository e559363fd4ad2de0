from __future__ import annotations

import numpy as np
import pytest
import torch

from ML_processing.models import MLP, MODELS, Ensemble, Scaler, model_class
from MLTools.NanoML.config import MODELS as CONFIGURABLE
from MLTools.NanoML.errors import ConfigError


def scaled(column: list[float], values: list[float]) -> list[float]:
    scaler = Scaler(1)
    scaler.fit(np.array(column, np.float32)[:, None])
    return scaler(torch.tensor(values)[:, None])[:, 0].tolist()


def test_scaler_brings_a_gaussian_to_unit_width() -> None:
    column = np.random.default_rng(1).normal(300, 50, 100_000).astype("f4")
    scaler = Scaler(1)
    scaler.fit(column[:, None])
    values = scaler(torch.from_numpy(column[:, None]))
    assert values.mean().item() == pytest.approx(0, abs=0.02)
    assert values.std().item() == pytest.approx(1, abs=0.02)


def test_scaler_is_unmoved_by_outliers_and_limits_them() -> None:
    column = [*range(100), 1e30, float("inf"), float("nan")]
    assert scaled(column, [1e30, -1e30, 3e38]) == [10, -10, 10]
    assert abs(scaled(column, [50.0])[0]) < 0.1


def test_missing_values_become_the_median() -> None:
    missing = [float("nan"), float("inf"), float("-inf")]
    assert scaled([1, 2, 3, 4, 5], [*missing, 3]) == [0, 0, 0, 0]


def test_columns_without_a_width() -> None:
    assert scaled([4, 4, 4], [4, 5]) == [0, 1]
    assert scaled([0] * 95 + [1] * 5, [0, 1]) == pytest.approx([0, 1 / np.std([0] * 95 + [1] * 5)])
    assert scaled([float("nan")] * 3, [2.0]) == [2]


def test_scaler_travels_with_the_network() -> None:
    first = MLP(2, 3, [4], 0.1)
    first.scaler.fit(np.random.default_rng(1).normal(5, 2, (100, 2)).astype("f4"))
    second = MLP(2, 3, [4], 0.1)
    second.load_state_dict(first.state_dict())
    events = torch.randn(10, 2)
    assert torch.equal(first.eval()(events), second.eval()(events))


def test_hidden_layers() -> None:
    shapes = [tuple(parameter.shape) for parameter in MLP(7, 3, [64, 32], 0.2).parameters()]
    assert shapes == [(64, 7), (64,), (32, 64), (32,), (3, 32), (3,)]
    assert MLP(7, 3, [], 0.2)(torch.zeros(5, 7)).shape == (5, 3)


def test_ensemble_is_the_mean() -> None:
    networks = [MLP(2, 3, [4], 0.0).eval() for _ in range(5)]
    mean, each = Ensemble(networks)(torch.randn(7, 2))
    assert each.shape == (7, 5, 3)
    assert torch.allclose(each.sum(dim=2), torch.ones(7, 5))
    assert torch.equal(mean, each.mean(dim=1))


def test_every_model_can_be_configured() -> None:
    assert tuple(MODELS) == CONFIGURABLE
    assert model_class("mlp") is MLP
    with pytest.raises(ConfigError, match=r'train.model: "deepset" is not a model. Known: mlp'):
        model_class("deepset")
