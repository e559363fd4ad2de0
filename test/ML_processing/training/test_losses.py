"""Losses of events, of a batch, and the dependence on a spectator; learning rates; weights of events and of networks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from ML_processing.events.data import Table
from ML_processing.events.inputs import EventTensors, Inputs
from ML_processing.metrics.measured import effective_events
from ML_processing.metrics.roc import auc
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.training.data import read
from ML_processing.training.directory import Training
from ML_processing.training.losses import (
    Loss,
    Rates,
    averaged,
    distance_correlation,
    error_of_change,
    event_losses,
    make_optimizer,
    penalty,
    separation,
)
from ML_processing.training.reweighting import Flattening, PositiveWeights, Reweighted
from ML_processing.training.train import train
from MLTools.NanoML.config.training import Decorrelation, Train
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Discriminant

TWO = BoundDiscriminant.probability("signal", ["signal", "other"])


def events(labels: torch.Tensor, targets: torch.Tensor | None = None, spectator: torch.Tensor | None = None) -> EventTensors:  # fmt: skip
    count, nothing = len(labels), torch.empty(0)
    inputs, weights = Inputs(torch.zeros(count, 1), {}), torch.ones(count)
    values = torch.empty(count, 0) if targets is None else targets
    return EventTensors(inputs, labels, weights, values, nothing if spectator is None else spectator, nothing.bool())


def test_cross_entropy() -> None:
    logits = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, -1.0]])
    labels = torch.tensor([1, 0, 1])
    expected = -torch.log(torch.softmax(logits, 1)[torch.arange(3), labels])
    torch.testing.assert_close(event_losses(logits, events(labels)), expected)


def test_huber() -> None:
    outputs = torch.tensor([[0.5, 10.0], [0.0, 0.0]])
    found = event_losses(outputs, events(torch.zeros(2).long(), torch.zeros(2, 2)))
    torch.testing.assert_close(found, torch.tensor([0.125 + 9.5, 0.0]))


def brute_force(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    """Means over different pairs, triples and quadruples of events."""
    a, b = (np.abs(values[:, None] - values[None, :]) for values in (x, y))
    four = np.array(list(itertools.permutations(range(len(x)), 4)))
    i, j, k, m = four.T

    def covariance(a: np.ndarray, b: np.ndarray) -> float:
        def mean(values: np.ndarray, *of: np.ndarray) -> float:
            return float(np.average(values, weights=np.prod([weights[it] for it in of], axis=0)))

        pairs, triples = (np.unique(four[:, :count], axis=0).T for count in (2, 3))
        quadruples = mean(a[i, j] * b[k, m], i, j, k, m)
        of_triples = mean(a[triples[0], triples[1]] * b[triples[0], triples[2]], *triples)
        return mean(a[pairs[0], pairs[1]] * b[pairs[0], pairs[1]], *pairs) + quadruples - 2 * of_triples

    return covariance(a, b) / np.sqrt(covariance(a, a) * covariance(b, b))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_distance_correlation_is_that_of_the_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=12)
    y = x**2 + random.normal(size=12)
    weights = random.integers(0, 4, 12)
    found = distance_correlation(*(torch.tensor(it).float() for it in (x, y, weights)))
    assert float(found) == pytest.approx(brute_force(x, y, weights), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("size", [16, 64, 256])
def test_distance_correlation_is_the_same_in_batches_of_any_size(size: int) -> None:
    random = torch.Generator().manual_seed(1)
    x, noise = torch.randn(2, 40 * 256, generator=random)
    weights = torch.rand(len(x), generator=random)
    for y, truth in ((noise, 0.0), (x + noise, 0.44)):
        parts = zip(x.split(size), y.split(size), weights.split(size), strict=True)
        values = torch.stack([distance_correlation(*part) for part in parts])
        assert float(values.mean()) == pytest.approx(truth, abs=0.04)


def test_distance_correlation_of_known_cases() -> None:
    random = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 700, generator=random)
    weights = torch.rand(700, generator=random)
    assert float(distance_correlation(x, 3 - 2 * x, weights)) == pytest.approx(1, abs=1e-4)
    assert float(distance_correlation(x, y, weights)) == pytest.approx(0, abs=0.02)
    assert float(distance_correlation(x, x**2, weights)) > 0.1  # which has no linear correlation
    assert float(distance_correlation(x, 1e4 * x + 1e5, weights)) == pytest.approx(1, abs=1e-3)
    assert float(distance_correlation(x, torch.ones(700), weights)) == pytest.approx(0, abs=1e-6)
    assert float(distance_correlation(x[:1], y[:1], weights[:1])) == 0
    assert float(distance_correlation(x, y, 0 * weights)) == 0


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_penalty_has_a_finite_gradient(count: int) -> None:
    outputs = torch.zeros(count, 2, requires_grad=True)  # all scores are the same
    found = penalty(outputs, events(torch.ones(count).long(), spectator=torch.arange(count).float()), TWO)
    found.backward()
    assert torch.isfinite(outputs.grad).all()


def test_penalty_is_of_the_background_and_of_known_spectators() -> None:
    random = torch.Generator().manual_seed(1)
    outputs = torch.randn(500, 2, generator=random)
    labels = torch.arange(500) % 2
    score = torch.softmax(outputs, 1)[:, 0]
    spectator = torch.where(labels == 1, torch.randn(500, generator=random), score)  # of signal: all
    assert float(penalty(outputs, events(labels, spectator=spectator), TWO)) < 0.05
    spectator = torch.where(labels == 1, score, torch.nan)
    spectator[torch.arange(500) % 3 == 0] = torch.inf
    assert float(penalty(outputs, events(labels, spectator=spectator), TWO)) == pytest.approx(1, abs=1e-4)


def test_penalty_sees_each_background_by_itself() -> None:
    """In one background the spectator rises with the score, in the other it falls: their mixture hardly shows it."""
    random = torch.Generator().manual_seed(1)
    score, noise = torch.rand(2, 1200, generator=random)
    labels = torch.arange(1200) % 3
    outputs = torch.log(torch.stack([score, (1 - score) / 2, (1 - score) / 2], 1))
    spectator = torch.where(labels == 1, score, 1 - score)
    both = BoundDiscriminant(Discriminant("d", "signal", {"signal": 1, "WZ": 1, "ZG": 1}), ["signal", "WZ", "ZG"])
    assert float(penalty(outputs, events(labels, spectator=spectator), both)) == pytest.approx(1, abs=0.01)
    background = labels > 0
    assert float(distance_correlation(score[background], spectator[background], torch.ones(800))) < 0.3
    without = BoundDiscriminant(Discriminant("d", "signal", {"signal": 1, "WZ": 1}), ["signal", "WZ", "ZG"])
    spectator = torch.where(labels == 1, noise, score)  # of a class that does not count
    assert float(penalty(outputs, events(labels, spectator=spectator), without)) < 0.05


def test_events_of_a_class_count_in_the_auc_as_often_as_its_share_says() -> None:
    labels = torch.arange(400) % 4
    outputs = torch.randn(400, 4, generator=torch.Generator().manual_seed(1))
    of = Discriminant("d", "b", {"a": 3, "b": 2, "c": 1})  # d does not count
    found = separation(outputs, events(labels), BoundDiscriminant(of, ["a", "b", "c", "d"]))
    p = torch.softmax(outputs, 1).numpy()
    copied = np.repeat(np.arange(400), np.array([3, 1, 1, 0])[labels])
    expected = auc((p[:, 1] / (3 * p[:, 0] + 2 * p[:, 1] + p[:, 2]))[copied], labels.numpy()[copied] == 1, np.ones(500))
    assert found == pytest.approx(expected.value, abs=1e-5)


def test_negative_weights_count_by_their_absolute_values_in_the_penalty() -> None:
    outputs = torch.randn(40, 2, generator=torch.Generator().manual_seed(1))
    made = events(torch.ones(40).long(), spectator=outputs[:, 0] ** 2)
    weights = torch.where(torch.arange(40) % 4 == 0, -2.0, 1.0)
    found, expected = (penalty(outputs, replace(made, weights=each), TWO) for each in (weights, weights.abs()))
    assert float(found) == float(expected) > 0.03


def test_penalty_of_a_regression_is_of_all_events() -> None:
    outputs = torch.arange(50.0)[:, None]
    found = penalty(outputs, events(torch.zeros(50).long(), outputs, -outputs[:, 0]), TWO)
    assert float(found) == pytest.approx(1, abs=1e-5)


def test_error_of_a_change_is_its_spread() -> None:
    random = np.random.default_rng(2)
    weights = torch.from_numpy(np.where(random.random(2000) < 0.25, -1.0, 1.0) * random.exponential(1, 2000))
    before = torch.from_numpy(random.exponential(1, 2000))
    after = before + 0.1 + torch.from_numpy(random.normal(0, 0.2, 2000)) * before
    rows = torch.from_numpy(random.integers(0, 2000, (1000, 2000)))
    resampled = (weights * (after - before))[rows].sum(dim=1) / weights[rows].sum(dim=1)
    assert error_of_change(after, before, weights) == pytest.approx(float(resampled.std()), rel=0.1)
    assert error_of_change(before + 0.1, before, weights) == pytest.approx(0, abs=1e-12)  # the same for all events


class OfEvents(nn.Module):
    """A loss of each event."""

    def loss(self, outputs: torch.Tensor, batch: EventTensors) -> torch.Tensor:
        return outputs[:, 0] ** 2


class OfAll(nn.Module):
    """The same of all events, with the weights in it."""

    def loss(self, outputs: torch.Tensor, batch: EventTensors) -> torch.Tensor:
        return (batch.weights * outputs[:, 0] ** 2).mean()


def test_a_loss_of_ones_own_is_of_each_event_or_of_all() -> None:
    random = torch.Generator().manual_seed(1)
    outputs = torch.randn(100, 2, generator=random, requires_grad=True)
    batch = replace(events(torch.zeros(100).long()), weights=torch.rand(100, generator=random))
    expected = float((batch.weights * outputs[:, 0] ** 2).mean().detach())
    for core in (OfEvents(), OfAll()):
        loss = Loss.of(core, None, TWO)
        assert float(loss.of_batch(outputs, batch, 1 / 100).detach()) == pytest.approx(expected, rel=1e-5)
    # in validation the first is a mean with the weights, the second a mean over batches
    mean = expected / float(batch.weights.mean())
    found, each = Loss.of(OfEvents(), None, TWO).of_events(outputs, batch, 30)
    assert found == pytest.approx(mean, rel=1e-5)
    assert each is not None
    torch.testing.assert_close(each, outputs.detach()[:, 0] ** 2)
    found, each = Loss.of(OfAll(), None, TWO).of_events(outputs, batch, 30)
    assert found == pytest.approx(expected, rel=1e-5)
    assert each is None


def test_losses_of_heads_add_up_and_leave_out_what_has_no_target() -> None:
    logits, estimates = torch.tensor([[2.0, -1.0], [0.5, 0.0]]), torch.tensor([[0.2], [3.0]], requires_grad=True)
    batch = events(torch.tensor([0, 1]), torch.tensor([[0.5], [math.nan]]))
    found = event_losses({"targets": estimates, "classes": logits, "more": logits}, batch)
    entropy = event_losses(logits, events(batch.labels))
    torch.testing.assert_close(found, entropy + torch.tensor([0.5 * 0.3**2, 0]))
    found.sum().backward()
    assert estimates.grad is not None
    assert estimates.grad[1].item() == 0


def test_all_rates_rise_and_fall_together_also_after_a_restart() -> None:
    weights = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": weights[:1], "lr": 0.1}, {"params": weights[1:]}], lr=1.0)
    rates = Rates(optimizer)
    rates.set(0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.5]
    optimizer.load_state_dict(optimizer.state_dict())
    rates.set(1.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 1.0]


def test_the_average_is_short_at_first_and_then_that_of_its_decay() -> None:
    layer = nn.Linear(1, 1, bias=False)
    average, expected = averaged(layer, 0.9), 0.0
    for step in range(200):
        with torch.no_grad():
            layer.weight.fill_(float(step % 7))
        average.update_parameters(layer)
        share = min(0.9, (1 + step) / (10 + step)) if step else 0.0
        expected = share * expected + (1 - share) * (step % 7)
        assert abs(average.module.weight.item() - expected) < 1e-4
    assert share == 0.9


def test_parameters_that_are_thawed_later_are_known_to_the_optimizer() -> None:
    layers = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    layers[0].requires_grad_(False)
    optimizer = make_optimizer(layers, Train(learning_rate=0.25, weight_decay=0.5))
    (group,) = optimizer.param_groups
    assert (len(group["params"]), group["lr"], group["weight_decay"]) == (4, 0.25, 0.5)


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
