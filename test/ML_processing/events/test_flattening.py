"""Weights that give all classes the same spectrum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ML_processing.events.data import read
from ML_processing.events.flattening import Flattening
from ML_processing.training.directory import Training
from ML_processing.training.train import train
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import ConfigError

Toy = Callable[..., Path]


def spectra(toy: Toy, count: int = 4000) -> Path:
    """A signal with larger pt; some events have none."""
    random, other = np.random.default_rng(1), np.arange(count) % 2
    pt = random.exponential(np.where(other, 30.0, 60.0)) + 20
    pt[random.random(count) < np.where(other, 0.1, 0.02)] = np.nan
    return toy(count=count, pt=pt.astype("f4"), mass=random.normal(np.where(other, 80, 90), 10).astype("f4"))


@pytest.mark.parametrize("columns", [["pt"], ["pt", "mass"]])
def test_classes_have_the_same_spectra_and_keep_their_sums(toy: Toy, columns: list[str]) -> None:
    table = read([spectra(toy)], Train(features=["x", "pt"], folds=3))
    made = Flattening.learn(table, columns)
    flat = made.of(table)
    pt, signal = table.features[:, 1], table.labels == 0
    bins = [20, 30, 40, 60, 90, 400]
    first, second = (np.histogram(pt[use], bins, weights=flat.weights[use])[0] for use in (signal, ~signal))
    assert first == pytest.approx(second, rel=0.2, abs=25)
    before = (np.histogram(pt[use], bins, weights=table.weights[use])[0] for use in (signal, ~signal))
    assert not np.allclose(*before, rtol=0.3)
    for use in (signal, ~signal):
        assert flat.weights[use].sum() == pytest.approx(table.weights[use].sum(), rel=1e-4)
    assert made.factors.max() < 20


@pytest.mark.parametrize("model", ["mlp", "bdt"])
def test_a_network_does_not_learn_the_spectrum(toy: Toy, quick: Train, tmp_path: Path, model: str) -> None:
    file, found = spectra(toy), []
    options = {} if model == "bdt" else quick.options
    for flatten in ([], ["pt"]):
        config = replace(quick, model=model, options=options, features=["pt"], flatten=flatten, epochs=8, folds=1)
        run = tmp_path / f"run{len(flatten)}"
        train([file], config, run)
        found.append(Training.load(run).histories[0][-1].validation_auc)
    assert found[0] > 0.6
    assert found[1] == pytest.approx(0.5, abs=0.05)


def test_a_column_that_is_not_there(toy: Toy, quick: Train, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'train\.flatten: "p" is not in the HDF5 files'):
        train([toy()], replace(quick, flatten=["p"]), tmp_path / "run")
