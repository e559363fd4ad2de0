"""A network with a parameter comes near the best possible answer, at the values of the training and between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ML_processing.events.inputs import Inputs
from ML_processing.metrics.roc import auc
from ML_processing.models.network import scores_of
from ML_processing.training.directory import Training
from ML_processing.training.train import train
from MLTools.NanoML.config.training import Train
from services.toys import MovingSignal

VALUES = (0.0, 1.0, 2.0, 3.0, 4.0)
BETWEEN = (0.5, 1.5, 2.5, 3.5)
EACH = 500  # training and test events of each value
FRESH = 10_000  # events of each class that it is measured on


@pytest.mark.slow
def test_it_is_near_the_optimum_with_default_settings(toy: Callable[..., Path], tmp_path: Path) -> None:
    known, random = MovingSignal(), np.random.default_rng(1)
    count = len(VALUES) * EACH
    features, values = np.empty((2 * count, 2), np.float32), np.full(2 * count, np.nan, np.float32)
    values[::2] = np.repeat(VALUES, EACH)  # every other event is signal
    features[::2] = np.concatenate([known.signal(value, EACH, random) for value in VALUES])
    features[1::2] = known.background(count, random)
    path = toy(count=2 * count, x=features[:, 0], y=features[:, 1], value=values, parameter="value")
    train([path], Train("mlp", parameter="value", folds=1, device="cpu"), tmp_path / "run")
    (network,) = Training.load(tmp_path / "run").networks
    background, truth = known.background(FRESH, random), np.repeat([True, False], FRESH)
    lost = {}
    for value in (*VALUES, *BETWEEN):
        fresh = np.concatenate([known.signal(value, FRESH, random), background])
        rows = np.column_stack([fresh, np.full(2 * FRESH, value)]).astype(np.float32)
        score = (
            scores_of(network.outputs(Inputs(torch.from_numpy(rows), {})), network.shape.outputs).detach().numpy()[:, 0]
        )
        best, found = (auc(it, truth, np.ones(2 * FRESH)).value for it in (known.likelihood_ratio(fresh, value), score))
        assert best is not None
        assert found is not None
        lost[value] = best - found
    # of 0.93; if the parameter is scaled as a feature, it loses 0.02
    assert -0.001 < np.mean([lost[value] for value in VALUES]) < 0.006
    assert -0.001 < np.mean([lost[value] for value in BETWEEN]) < 0.015
