"""What is made small, against the formulas written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ML_processing.events.inputs import EventTensors, Inputs
from ML_processing.training.losses import distance_correlation, event_losses, penalty


def events(labels: torch.Tensor, targets: torch.Tensor | None = None, spectator: torch.Tensor | None = None) -> EventTensors:  # fmt: skip
    count, nothing = len(labels), torch.empty(0)
    return EventTensors(
        Inputs(torch.zeros(count, 1), {}),
        labels,
        torch.ones(count),
        torch.empty(count, 0) if targets is None else targets,
        nothing if spectator is None else spectator,
        nothing.bool(),
    )


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
    """Sums over pairs, triples and quadruples of the definition, each event as often as its weight."""
    x, y = (np.repeat(values, weights) for values in (x, y))
    a, b = (np.abs(values[:, None] - values[None, :]) for values in (x, y))

    def covariance(a: np.ndarray, b: np.ndarray) -> float:
        triples = np.einsum("ij,ik->", a, b) / len(x) ** 3
        return float((a * b).mean() + a.mean() * b.mean() - 2 * triples)

    return covariance(a, b) / np.sqrt(covariance(a, a) * covariance(b, b))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_distance_correlation_is_that_of_the_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=30)
    y = x**2 + random.normal(size=30)
    weights = random.integers(0, 4, 30)
    found = distance_correlation(*(torch.tensor(it).float() for it in (x, y, weights)))
    assert float(found) == pytest.approx(brute_force(x, y, weights), rel=1e-4)


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
    found = penalty(outputs, events(torch.ones(count).long(), spectator=torch.arange(count).float()), 0)
    found.backward()
    assert torch.isfinite(outputs.grad).all()


def test_penalty_is_of_the_background_and_of_known_spectators() -> None:
    random = torch.Generator().manual_seed(1)
    outputs = torch.randn(500, 2, generator=random)
    labels = torch.arange(500) % 2
    score = torch.softmax(outputs, 1)[:, 0]
    spectator = torch.where(labels == 1, torch.randn(500, generator=random), score)  # of signal: all
    assert float(penalty(outputs, events(labels, spectator=spectator), 0)) < 0.05
    spectator = torch.where(labels == 1, score, torch.nan)
    spectator[torch.arange(500) % 3 == 0] = torch.inf
    assert float(penalty(outputs, events(labels, spectator=spectator), 0)) == pytest.approx(1, abs=1e-4)


def test_negative_weights_count_by_their_absolute_values_in_the_penalty() -> None:
    outputs = torch.randn(40, 2, generator=torch.Generator().manual_seed(1))
    made = events(torch.ones(40).long(), spectator=outputs[:, 0] ** 2)
    weights = torch.where(torch.arange(40) % 4 == 0, -2.0, 1.0)
    found, expected = (penalty(outputs, replace(made, weights=each), 0) for each in (weights, weights.abs()))
    assert float(found) == float(expected) > 0.1


def test_penalty_of_a_regression_is_of_all_events() -> None:
    outputs = torch.arange(50.0)[:, None]
    found = penalty(outputs, events(torch.zeros(50).long(), outputs, -outputs[:, 0]), 0)
    assert float(found) == pytest.approx(1, abs=1e-5)
