"""Discriminants of trained networks against the best possible ones, for two and five classes in any shares, and with a parameter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ML_processing.metrics.roc import auc_difference
from ML_processing.training.data import read
from ML_processing.training.directory import Training
from ML_processing.training.train import train
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.model import Discriminant
from services.toys import GaussianClasses, MovingSignal, best_significance, in_shares
from services.trainings import auc_lost, event_rows

EACH = 3000  # events of each class
MEANS = ((0.0, 0.0), (1.5, 0.0), (-0.5, 1.0), (0.5, -2.0), (-2.0, -0.5))
SHARES = ((1, 1, 1, 1, 1), (10, 10, 1, 5, 3), (1000, 1000, 1, 30, 200))  # of the signal and of the backgrounds
ENOUGH = 20.0  # expected signal events


@pytest.fixture(scope="module", params=[2, pytest.param(5, marks=pytest.mark.exhaustive("optima in more dimensions"))])
def trained(request: Any, tmp_path_factory: pytest.TempPathFactory, write: Any) -> tuple[GaussianClasses, Any, Any]:
    """A toy, the events of its training and the probabilities that networks give for those they have not seen."""
    toy, random = GaussianClasses(MEANS[: request.param]), np.random.default_rng(1)
    labels = np.arange(request.param * EACH) % request.param
    x, y = toy.draw(labels, random).astype("f4").T
    rows = event_rows({"x": x, "y": y}, labels, 1.0)
    directory = tmp_path_factory.mktemp("optimum")
    names = ["signal", *(f"b{number}" for number in range(1, request.param))]
    path = write(directory / "toy.h5", rows, classes=names)
    options = {"hidden": [32, 32], "dropout": 0.0}
    config = Train("mlp", folds=3, epochs=15, learning_rate=5e-3, options=options, device="cpu")
    train([path], config, directory / "run")
    table = read([path], config)
    tested, scores = Training.load(directory / "run").out_of_fold(table)
    return toy, table[tested], scores


@pytest.mark.parametrize("shares", SHARES)
def test_the_discriminant_is_the_best(trained: tuple[GaussianClasses, Any, Any], shares: tuple[int, ...]) -> None:
    toy, table, scores = trained
    labels, used = table.labels, shares[: len(toy.means)]
    weights, features = in_shares(labels, used), table.features.astype(np.float64)
    wanted = Discriminant("d", "signal", dict(zip(table.classes, map(float, used), strict=True)))
    found, best = wanted.of(scores, table.classes), toy.probabilities(features, used)[:, 0]
    lost: Any = auc_difference(best, found, labels == 0, weights)
    assert -2 * lost.error < lost.value < 0.004 + 2 * lost.error
    alone: Any = auc_difference(best, scores[:, 0], labels == 0, weights).value
    assert alone > 0.02 or len(set(used[1:])) == 1  # the probability of the signal is not
    yields = ENOUGH * np.array([1.0, *(share / used[1] * 100 for share in used[1:])])
    assert best_significance(found, labels, yields) > 0.95 * best_significance(best, labels, yields)


def test_probabilities_are_those_of_equal_shares(trained: tuple[GaussianClasses, Any, Any]) -> None:
    toy, table, scores = trained
    best = toy.probabilities(table.features.astype(np.float64), np.ones(len(toy.means)))
    assert np.abs(scores - best).mean(axis=0).max() < 0.03


VALUES = (0.0, 1.0, 2.0, 3.0, 4.0)
BETWEEN = (0.5, 1.5, 2.5, 3.5)
OF_VALUE = 500  # training and test events of each value
FRESH = 10_000  # events of each class that it is measured on


@pytest.mark.exhaustive("the optimum by default settings")
def test_it_is_near_the_optimum_with_default_settings(toy: Callable[..., Path], tmp_path: Path) -> None:
    known, random = MovingSignal(), np.random.default_rng(1)
    features, values = known.sample(VALUES, OF_VALUE, random)
    path = toy(count=len(features), x=features[:, 0], y=features[:, 1], value=values, parameter="value")
    train([path], Train("mlp", parameter="value", folds=1, device="cpu"), tmp_path / "run")
    (network,) = Training.load(tmp_path / "run").networks
    lost = {value: auc_lost(known, network, value, FRESH, random) for value in (*VALUES, *BETWEEN)}
    # of 0.93; if the parameter is scaled as a feature, it loses 0.02
    assert -0.001 < np.mean([lost[value] for value in VALUES]) < 0.006
    assert -0.001 < np.mean([lost[value] for value in BETWEEN]) < 0.015
