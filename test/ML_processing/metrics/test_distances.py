from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2, ks_2samp, kstwobign

from ML_processing.metrics.distances import (
    ShapeTest,
    bonferroni,
    jensen_shannon,
    kolmogorov,
    kolmogorov_probability,
    sculpting,
    shape_test,
)
from ML_processing.metrics.measured import Histogram, even_edges


def test_unweighted_test_is_that_of_scipy() -> None:
    random = np.random.default_rng(1)
    first, other = random.normal(0, 1, 500), random.normal(0.1, 1, 800)
    found = kolmogorov(first, np.ones(500), other, np.ones(800))
    expected = ks_2samp(first, other, method="asymp")
    assert found.distance == pytest.approx(expected.statistic)
    assert found.probability == pytest.approx(expected.pvalue, rel=0.1)


@pytest.mark.parametrize("x", [0.1, 0.19, 0.21, 0.5, 1.0, 2.0])
def test_probability_is_that_of_kolmogorov(x: float) -> None:
    assert kolmogorov_probability(x) == pytest.approx(kstwobign.sf(x), abs=1e-10)


def test_a_weight_of_two_is_an_event_twice_in_the_distance_but_not_in_the_probability() -> None:
    random = np.random.default_rng(1)
    first, other = random.normal(0, 1, 300), random.normal(0.2, 1, 300)
    once = kolmogorov(first, np.ones(300), other, np.ones(300))
    scaled = kolmogorov(first, np.full(300, 2.0), other, np.full(300, 7.0))
    assert scaled == once
    twice = kolmogorov(np.repeat(first, 2), np.ones(600), other, np.ones(300))
    assert twice.distance == pytest.approx(once.distance)


@pytest.mark.parametrize("negative", [0.0, 0.2])
def test_probability_is_uniform_without_a_difference(negative: float) -> None:
    """What "below 5 %" promises, for weights that differ and for those of either sign."""
    random = np.random.default_rng(5)

    def sample(count: int) -> tuple[np.ndarray, np.ndarray]:
        sign = np.where(random.random(count) < negative, -1, 1)
        return random.normal(size=count), random.exponential(1, count) * sign

    found = [kolmogorov(*sample(400), *sample(300)).probability for _ in range(400)]
    below = np.mean([probability < 0.05 for probability in found if probability is not None])
    assert 0.015 < below < 0.085


def test_missing_values_and_no_weight() -> None:
    assert kolmogorov([1, np.nan, 2], [1, 5, 1], [1, 2], [1, 1]).distance == 0
    assert kolmogorov([1, 2], [1, -1], [1, 2], [1, 1]).distance is None
    assert kolmogorov([], [], [1, 2], [1, 1]).probability is None


def test_bonferroni() -> None:
    assert bonferroni([0.3, 0.004, 0.9]) == pytest.approx(0.012)
    assert bonferroni([0.8, 0.9]) == 1
    assert bonferroni([]) is None


def test_divergence_is_that_of_scipy() -> None:
    random = np.random.default_rng(1)
    p, q = random.random(12), random.random(12)
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    assert jensen_shannon(p, 3 * p) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon([1, 0], [0, 1]) == 1
    assert jensen_shannon([1, -5], [1, 0]) == 0
    assert jensen_shannon([0, 0], [0, 1]) is None


def test_sculpting() -> None:
    random = np.random.default_rng(1)
    mass, weight = random.exponential(100, 3000), np.where(random.random(3000) < 0.1, -1.0, 1.0)
    edges = even_edges(mass, 20)
    free: Any = sculpting(mass, random.random(3000) < 0.2, weight, edges, seed=1)
    bound: Any = sculpting(mass, mass > 150, weight, edges, seed=1)
    assert abs(free.standard_deviations) < 4
    assert bound.jensen_shannon > 0.9
    assert bound.standard_deviations > 20
    few = sculpting(mass, np.arange(3000) < 5, weight, edges, seed=1)
    assert few.jensen_shannon is None
    assert few.standard_deviations is None


def test_sculpting_compares_what_passes_with_what_fails() -> None:
    values = np.repeat([0.5, 1.5, 2.5], 40)
    found: Any = sculpting(values, values > 1, np.ones(120), np.arange(4.0), seed=1)
    assert found.jensen_shannon == pytest.approx(1)  # no overlap
    assert found.standard_deviations > 10


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


def test_what_is_too_little_at_the_end_belongs_to_the_last_bin() -> None:
    def test(counts: list[float], expected: list[float]) -> ShapeTest:
        return shape_test(counts, Histogram(np.array(expected), np.sqrt(expected)))

    assert test([10, 12, 3], [100.0, 100.0, 30.0]) == test([10, 15], [100.0, 130.0])


def test_too_few_events_for_a_shape() -> None:
    assert shape_test([3, 3], Histogram(np.ones(2), np.full(2, 0.1))).probability is None
    assert shape_test([0, 0], Histogram(np.ones(2), np.full(2, 0.1))).probability is None
    assert shape_test([50, 50], Histogram(np.ones(2), np.ones(2))).probability is None
