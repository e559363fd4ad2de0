from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chi2

from ML_processing.metrics.counts import shape_test
from ML_processing.metrics.measured import Histogram


def test_without_errors_of_the_expectation_it_is_pearsons() -> None:
    counts, expected = np.array([30.0, 55, 20]), np.array([25.0, 50, 25])
    found = shape_test(counts, Histogram(expected, 1e-6 * expected))
    scaled = expected * counts.sum() / expected.sum()
    assert found.chi2 == pytest.approx(((counts - scaled) ** 2 / scaled).sum(), rel=1e-4)
    assert found.degrees_of_freedom == 2
    assert found.probability == pytest.approx(chi2.sf(found.chi2, 2), rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_probabilities_of_equal_shapes_are_even(share: float) -> None:
    """With as few simulated events as data, and some of them with negative weights."""
    random, edges, found = np.random.default_rng(1), np.linspace(-2, 2, 11), []
    for _ in range(400):
        data = np.histogram(random.normal(size=500), edges)[0]
        values, weights = random.normal(size=800), np.where(random.random(800) < share, -0.7, 0.7)
        sums, squares = (np.histogram(values, edges, weights=it)[0] for it in (weights, weights**2))
        probability = shape_test(data, Histogram(sums, np.sqrt(squares))).probability
        assert probability is not None
        found.append(probability)
    # four standard deviations of the mean and of the share
    assert np.mean(found) == pytest.approx(0.5, abs=4 * 0.289 / 20)
    assert np.mean(np.array(found) < 0.1) == pytest.approx(0.1, abs=4 * 0.3 / 20)


def test_another_shape_is_found_and_the_normalisation_does_not_matter() -> None:
    counts = np.array([100.0, 100, 100, 100])
    flat, slope = (Histogram(np.array(it), np.full(4, 0.05)) for it in ([1.0] * 4, [0.7, 0.9, 1.1, 1.3]))
    assert shape_test(counts, flat).chi2 == pytest.approx(0)
    assert (shape_test(counts, slope).probability or 0) < 1e-3


@settings(max_examples=200)
@given(
    arrays(np.float64, 8, elements=st.integers(0, 60).map(float)),
    arrays(np.float64, 8, elements=st.floats(-5, 40)),
    arrays(np.float64, 8, elements=st.floats(0.01, 10)),
)
def test_a_probability_is_one_or_there_is_none(counts: np.ndarray, sums: np.ndarray, errors: np.ndarray) -> None:
    found = shape_test(counts, Histogram(sums, errors))
    assert found.degrees_of_freedom < 8
    if found.probability is None:
        assert found.degrees_of_freedom == 0
    else:
        assert 0 <= found.probability <= 1


def test_too_few_events_for_a_shape() -> None:
    assert shape_test([3, 3], Histogram(np.ones(2), np.full(2, 0.1))).probability is None
    assert shape_test([0, 0], Histogram(np.ones(2), np.full(2, 0.1))).probability is None
    assert shape_test([50, 50], Histogram(np.ones(2), np.ones(2))).probability is None
