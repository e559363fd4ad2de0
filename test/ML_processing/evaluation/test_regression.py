from __future__ import annotations

import numpy as np
import pytest

from ML_processing.evaluation.sections.regression import residuals, rmse_difference

pytestmark = pytest.mark.exhaustive("each section and answer of the report")


def test_residuals_are_predicted_minus_true() -> None:
    found = residuals([1.0, 1.0, np.nan], [1.5, 3.0, 9.0], [3.0, -1.0, 5.0], seed=1)
    assert found.bias.value == (3 * 0.5 - 2) / 2
    assert found.bias.error == pytest.approx(np.sqrt(9 * 0.75**2 + 2.25**2) / 2)
    assert residuals([1.0], [2.0], [-1.0], seed=1).bias.value is None


def test_residuals() -> None:
    random = np.random.default_rng(1)
    truth = random.normal(size=5000)
    predicted = truth + random.normal(0.5, 2.0, 5000)
    found = residuals(truth, predicted, np.ones(5000), seed=1)
    assert found.bias.value == pytest.approx(0.5, abs=4 * 2 / np.sqrt(5000))
    assert found.bias.error == pytest.approx(2 / np.sqrt(5000), rel=0.05)
    assert found.rmse.value == pytest.approx(np.hypot(0.5, 2), rel=0.05)
    assert found.resolution.value == pytest.approx(2 * 0.9945, rel=0.05)
    # of a quantile at 16 %: sqrt(p (1 - p) / n) / density, and two of them with their correlation
    assert found.resolution.error == pytest.approx(2 * np.sqrt(0.16 * 0.68 / 2 / 5000) / 0.2433, rel=0.2)


def test_residuals_with_weights_of_either_sign() -> None:
    random = np.random.default_rng(1)
    truth, noise = random.normal(size=2000), random.normal(size=2000)
    extra = np.full(200, 30.0)
    both = np.concatenate([noise, extra, extra])
    weight = np.concatenate([np.ones(2000), np.ones(200), -np.ones(200)])
    known = np.concatenate([truth, np.zeros(400)])
    found = residuals(known, known + both, weight, seed=1)
    assert found.bias.value == pytest.approx(noise.mean())
    assert found.resolution.value == pytest.approx(1, abs=0.1)


def test_residuals_not_defined() -> None:
    assert residuals([1.0], [2.0], [-1.0], seed=1).rmse.value is None
    assert residuals([np.nan], [2.0], [1.0], seed=1).bias.value is None


def test_difference_in_rmse_knows_that_the_events_are_the_same() -> None:
    random = np.random.default_rng(1)
    truth, weight = random.normal(size=3000), random.exponential(1, 3000)
    first = truth + random.normal(0, 2, 3000)
    other = first + random.normal(0, 0.1, 3000)
    found = rmse_difference(truth, first, other, weight)
    one, two = (residuals(truth, values, weight, 1, 2).rmse for values in (first, other))
    assert one.value is not None
    assert two.value is not None
    assert found.value == pytest.approx(one.value - two.value)
    assert found.error is not None
    assert one.error is not None
    assert 0 < found.error < one.error / 5
    assert rmse_difference(truth, first, first, weight).error == 0
    assert rmse_difference([1.0], [2.0], [3.0], [-1.0]).value is None
