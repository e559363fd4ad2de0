"""Positive weights with the expectation of signed ones, and weights that give all classes the same spectrum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ML_processing.events.data import Table
from ML_processing.metrics.measured import effective_events
from ML_processing.training.data import read
from ML_processing.training.directory import Training
from ML_processing.training.reweighting import Flattening, PositiveWeights, Reweighted
from ML_processing.training.train import train
from MLTools.NanoML.config.training import Decorrelation, Train
from MLTools.NanoML.errors import NanoMLError

Toy = Callable[..., Path]
COUNT = 8000


def share_of_negative(x: np.ndarray) -> np.ndarray:
    return 0.05 + 0.4 / (1 + np.exp(-3 * x))


@pytest.fixture
def table(toy: Toy) -> Table:
    """Two classes; of the first, more weights are negative at large x, and the size of weights is from 0.5 to 1.5."""
    config = Train(decorrelate=Decorrelation("spectator"), features=["x", "y"])
    found = read([toy(count=COUNT, spectator=np.zeros(COUNT))], config)
    random = np.random.default_rng(3)
    negative = (random.random(COUNT) < share_of_negative(found.features[:, 0])) & (found.labels == 0)
    weights = np.where(negative, -1, 1) * random.uniform(0.5, 1.5, COUNT)
    return replace(found, weights=weights.astype(np.float32))


def test_every_region_has_the_same_expectation(table: Table) -> None:
    learned = PositiveWeights.learn(table, 1, 1)
    found = learned.of(table)
    mine = table.labels == 0
    assert (found.weights >= 0).all()
    assert np.array_equal(found.weights[~mine], table.weights[~mine])  # none of these is negative
    signed, sizes, positive = (it[mine].astype(float) for it in (table.weights, np.abs(table.weights), found.weights))
    assert positive.sum() == pytest.approx(signed.sum(), rel=1e-5)
    x = table.features[mine, 0]
    expected = sizes * (1 - 2 * share_of_negative(x))
    number = np.searchsorted(np.quantile(x, np.arange(1, 10) / 10), x)
    sums = [np.bincount(number, weights) for weights in (positive, expected, sizes * signed.sum() / sizes.sum())]
    errors = np.sqrt(np.bincount(number, signed**2))
    pulls = [(each - sums[1]) / errors for each in (sums[0], sums[2])]
    assert np.abs(pulls[0]).max() < 2
    assert np.abs(pulls[1]).max() > 5  # that of absolute values
    assert positive.var() < signed.var()
    about = learned.classes["signal"]
    assert list(learned.classes) == ["signal"]
    assert about.negative == pytest.approx((signed < 0).mean())
    assert about.effective == pytest.approx(effective_events(signed))
    assert about.effective_after == pytest.approx(effective_events(positive), rel=1e-5)
    assert 0 <= about.clipped < 0.02


def test_what_the_loss_depends_on_is_learned_from(table: Table) -> None:
    """The spectator of the decorrelation is no feature."""
    table.extras["spectator"][:], table.features[:, 0] = table.features[:, 0], 0
    x, found = table.extras["spectator"], PositiveWeights.learn(table, 1, 1).of(table)
    low, high = (found.weights[(table.labels == 0) & side].mean() for side in (x < -1, x > 1))
    assert low > 2 * high


def test_an_event_does_not_know_its_own_sign(table: Table) -> None:
    """If it changes, no weight in its part of the events does, but for the common factor."""
    one = PositiveWeights.learn(table, 1, 1)
    mine = np.flatnonzero(table.labels == 0)
    before = one.of(table).weights[mine] / one.scales[0]
    flipped = table.weights.copy()
    flipped[mine[0]] *= -1
    other = PositiveWeights.learn(replace(table, weights=flipped), 1, 1)
    after = other.of(replace(table, weights=flipped)).weights[mine] / other.scales[0]
    unchanged = np.isclose(before, after, rtol=1e-6)
    assert unchanged[0]
    assert 0.1 < unchanged.mean() < 0.4  # the part of this event


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_few_events_of_any_weights(table: Table, data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 40))
    weight = st.floats(-4, 8, width=16)
    weights = np.array(data.draw(st.lists(weight, min_size=size, max_size=size)), np.float32)
    few = replace(table[np.arange(size)], weights=weights)
    sums = [weights[few.labels == i].sum(dtype=float) for i in range(2) if (weights[few.labels == i] < 0).any()]
    if min(sums, default=1) <= 0:
        message = r'class "\w+": the weights of its training events sum to .*cannot be made positive'
        with pytest.raises(NanoMLError, match=message):
            PositiveWeights.learn(few, 1, 1)
        return
    learned = PositiveWeights.learn(few, 1, 1)
    found = learned.of(few).weights
    for label in range(2):
        mine = few.labels == label
        if (weights[mine] < 0).any():
            assert (found[mine] >= 0).all()
            assert found[mine].sum() == pytest.approx(weights[mine].sum(), rel=1e-4)
        else:
            assert np.array_equal(found[mine], weights[mine])


def test_means_over_networks() -> None:
    networks = [{"a": Reweighted(0.1, 0, 10, 20)}, {"a": Reweighted(0.3, 0.2, 30, 40), "b": Reweighted(0.1, 0, 1, 2)}]
    assert Reweighted.means(networks) == {"a": Reweighted(0.2, 0.1, 20, 30), "b": networks[1]["b"]}


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
