from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2, ks_2samp, kstwobign
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from ML_processing.metrics.distances import (
    ShapeTest,
    bonferroni,
    jensen_shannon,
    kolmogorov,
    kolmogorov_probability,
    sculpting,
    shape_test,
)
from ML_processing.metrics.measured import (
    MERGED,
    PAIR,
    Histogram,
    Measured,
    as_json,
    bin_of,
    effective_events,
    efficiency,
    even_edges,
    histogram,
    quantile,
    quantile_edges,
)
from ML_processing.metrics.roc import auc, auc_difference, bootstrap, confusion, reliability, roc, working_points

Arrays = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]


def events(count: int, seed: int = 1, negative: float = 0.0, ties: bool = False) -> Arrays:
    random = np.random.default_rng(seed)
    truth = random.random(count) < 0.3
    score = random.normal(truth * 1.5, 1.0)
    weight = random.exponential(1, count) * np.where(random.random(count) < negative, -1, 1)
    return np.round(score) if ties else score, truth, weight


def by_pairs(score: NDArray[np.float64], truth: NDArray[np.bool_], weight: NDArray[np.float64]) -> float:
    """The definition of the area, pair by pair."""
    signal, background = np.flatnonzero(truth), np.flatnonzero(~truth)
    first, second = score[signal][:, None], score[background][None, :]
    wins = (first > second) + 0.5 * (first == second)
    pairs = weight[signal][:, None] * weight[background][None, :]
    return float((wins * pairs).sum() / pairs.sum())


@pytest.mark.parametrize("ties", [False, True])
def test_area_agrees_with_scikit_learn(ties: bool) -> None:
    score, truth, weight = events(2000, ties=ties)
    assert auc(score, truth, weight).value == pytest.approx(roc_auc_score(truth, score, sample_weight=weight))
    assert auc(score, truth, np.ones(2000)).value == pytest.approx(roc_auc_score(truth, score))


@pytest.mark.parametrize("ties", [False, True])
def test_area_with_negative_weights_is_that_of_the_definition(ties: bool) -> None:
    score, truth, weight = events(800, negative=0.3, ties=ties)
    assert auc(score, truth, weight).value == pytest.approx(by_pairs(score, truth, weight))
    curve = roc(score, truth, weight)
    assert np.trapezoid(curve.signal, curve.background) == pytest.approx(by_pairs(score, truth, weight))


def test_curve_agrees_with_scikit_learn() -> None:
    score, truth, weight = events(300, ties=True)
    curve = roc(score, truth, weight)
    background, signal, thresholds = roc_curve(truth, score, sample_weight=weight, drop_intermediate=False)
    assert curve.signal == pytest.approx(signal)
    assert curve.background == pytest.approx(background)
    assert np.array_equal(curve.thresholds, thresholds)


@pytest.mark.parametrize("negative", [0.0, 0.2])
def test_error_is_the_spread_of_the_area(negative: float) -> None:
    score, truth, weight = events(600, negative=negative)
    random = np.random.default_rng(2)
    repeats = []
    for _ in range(400):
        counts = random.poisson(1, 600)
        repeats.append(auc(score, truth, weight * counts).value)
    error = auc(score, truth, weight).error
    assert error == pytest.approx(np.std(np.array(repeats, float)), rel=0.15)


def test_difference_knows_that_the_events_are_the_same() -> None:
    score, truth, weight = events(1000)
    other = score + np.random.default_rng(3).normal(0, 0.05, 1000)
    difference: Any = auc_difference(score, other, truth, weight)
    first, second = auc(score, truth, weight), auc(other, truth, weight)
    assert first.value is not None
    assert second.value is not None
    assert first.error is not None
    assert difference.value == pytest.approx(first.value - second.value)
    assert difference.error < first.error / 5
    assert auc_difference(score, score, truth, weight).error == 0


def test_not_defined() -> None:
    assert auc([1, 2], [True, True], [1, 1]).value is None
    assert auc([1, 2, 3], [True, False, False], [1, 1, -2]).error is None
    assert auc_difference([1, 2], [1, 2], [True, True], [1, 1]).value is None
    assert bootstrap([1, 2, 3], [True, False, False], [1, 1, -2], (0.5,), seed=1) is None
    assert reliability([0.1, 0.9], [0, 1], [-1.0, -1.0]) is None


@pytest.mark.parametrize("negative", [0.0, 0.2])
def test_error_of_the_area_agrees_with_delong(negative: float) -> None:
    score, truth, weight = events(1500, negative=negative)
    found: Any = bootstrap(score, truth, weight, (), seed=1, repeats=400)
    assert found.auc_error == pytest.approx(auc(score, truth, weight).error, rel=0.12)


def test_working_points_are_on_the_curve_with_binomial_errors() -> None:
    score, truth, _ = events(4000)
    weight = np.ones(4000)
    found: Any = bootstrap(score, truth, weight, (0.5, 0.9), seed=1)
    points = working_points(roc(score, truth, weight), (0.5, 0.9), found.errors)
    for wanted, working in zip((0.5, 0.9), points, strict=True):
        passed = score >= working.score_at_least
        assert passed[truth].mean() == pytest.approx(working.signal_efficiency) == pytest.approx(wanted, abs=1e-3)
        share, background = passed[~truth].mean(), working.background_efficiency
        assert background.value == pytest.approx(share)
        # the threshold moves with the signal, so the error is larger than that of a fixed cut
        binomial = np.sqrt(share * (1 - share) / (~truth).sum())
        assert background.error is not None
        assert binomial < background.error < 2.5 * binomial
        assert working.background_rejection.value == pytest.approx(1 / share)
        assert working.background_rejection.error == pytest.approx(background.error / share**2)


def test_band_holds_the_curve() -> None:
    score, truth, weight = events(2000)
    found, curve = bootstrap(score, truth, weight, (), seed=1), roc(score, truth, weight)
    assert found is not None
    band = found.band
    own = np.interp(band.signal, curve.signal, curve.background)
    inside = (band.low <= own + 1e-9) & (own <= band.high + 1e-9)
    assert inside.mean() > 0.9
    half = np.interp(0.6, band.signal, (band.high - band.low) / 2)  # of 68 %: one standard deviation
    at_point: Any = bootstrap(score, truth, weight, (0.6,), seed=1)
    assert half == pytest.approx(at_point.errors[0], rel=0.2)


def test_same_seed_same_numbers() -> None:
    first, second, other = (bootstrap(*events(300), (0.5,), seed) for seed in (1, 1, 2))
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.auc_error == second.auc_error != other.auc_error


def test_no_background_left() -> None:
    (found,) = working_points(roc([3, 2, 1, 0], [True, True, False, False], np.ones(4)), (0.5,), np.zeros(1))
    assert found.background_efficiency.value == 0
    assert found.background_rejection.value is None


def test_confusion() -> None:
    random = np.random.default_rng(1)
    truth, predicted, weight = random.choice(3, 100), random.choice(3, 100), random.normal(1, 2, 100)
    expected = confusion_matrix(truth, predicted, sample_weight=weight)
    assert confusion(truth, predicted, weight, 3) == pytest.approx(expected)
    assert confusion([0], [0], [2.0], 2).tolist() == [[2, 0], [0, 0]]


def test_perfect_probabilities_are_off_by_chance_alone() -> None:
    random = np.random.default_rng(1)
    ratios = []
    for _ in range(30):
        probability = random.random(2000)
        weight = random.exponential(1, 2000) * np.where(random.random(2000) < 0.1, -1, 1)
        found: Any = reliability(probability, random.random(2000) < probability, weight)
        ratios.append(found.expected_calibration_error / found.by_chance)
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)


def test_too_sure() -> None:
    random = np.random.default_rng(1)
    truth = random.random(20_000)
    stretched = np.clip(0.5 + 1.5 * (truth - 0.5), 0, 1)
    found: Any = reliability(stretched, random.random(20_000) < truth, np.ones(20_000))
    assert found.observed[0] > found.predicted[0]
    assert found.observed[-1] < found.predicted[-1]
    assert found.expected_calibration_error > 10 * found.by_chance


def test_each_bin_is_by_itself_and_one_is_in_the_last() -> None:
    found: Any = reliability([0.05, 0.85, 0.95, 1.0], [0, 1, 1, 1], np.ones(4))
    assert found.predicted == pytest.approx([0.05, 0.85, 0.975])
    assert found.share == pytest.approx([0.25, 0.25, 0.5])


def test_numbers_of_a_bin() -> None:
    found: Any = reliability([0.11, 0.13, 0.15, 0.92], [1, 0, 0, 1], [2.0, 1.0, -0.5, 1.0])
    assert found.predicted == pytest.approx([(2 * 0.11 + 0.13 - 0.5 * 0.15) / 2.5, 0.92])
    assert found.observed == pytest.approx([0.8, 1])
    assert found.error[0] == pytest.approx(np.sqrt(4 * 0.2**2 + (1 + 0.25) * 0.8**2) / 2.5)
    assert found.error[1] > 0
    assert found.share == pytest.approx([2.5 / 3.5, 1 / 3.5])


def test_effective_events() -> None:
    assert effective_events([2.0, 2.0, 2.0]) == pytest.approx(3)
    assert effective_events([1.0, 1.0, -1.0]) == pytest.approx(1 / 3)
    assert effective_events([]) == 0


def test_efficiency_without_weights_is_binomial() -> None:
    passed = np.arange(100) < 20
    found = efficiency(passed, np.ones(100))
    assert found.value == pytest.approx(0.2)
    assert found.error == pytest.approx(np.sqrt(0.2 * 0.8 / 100))
    assert efficiency([True], [-1.0]).value is None


def test_error_of_an_efficiency_depends_on_which_weights_pass() -> None:
    assert efficiency([True, False], [3.0, 1.0]).value == 0.75
    assert efficiency([True, False], [3.0, 1.0]).error == pytest.approx(np.sqrt(9 * 0.25**2 + 1 * 0.75**2) / 4)


def test_error_of_the_efficiency_is_its_spread() -> None:
    random = np.random.default_rng(1)
    passed, weight = (random.random(500) < 0.3, random.exponential(1, 500) * np.where(random.random(500) < 0.1, -1, 1))
    drawn = [efficiency(passed, weight * random.poisson(1, 500)).value for _ in range(500)]
    assert efficiency(passed, weight).error == pytest.approx(np.std(np.array(drawn, float)), rel=0.1)


def test_histogram_holds_what_is_beyond() -> None:
    found = histogram([-5, 0.5, 0.6, 9, np.nan], [1, 2, -1, 2, 7], np.array([0.0, 0.4, 1.0]))
    assert found.values == pytest.approx([0.25, 0.75])
    assert found.errors == pytest.approx([0.25, 0.75])
    assert histogram([0.5], [-1], np.array([0.0, 1.0])).values.tolist() == [0]


def test_quantile() -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=5000)
    assert quantile(values, np.ones(5000), (0.16, 0.5)) == pytest.approx(np.quantile(values, (0.16, 0.5)), abs=0.01)
    doubled = quantile(np.append(values, values[:100]), np.append(np.ones(5000), -np.ones(100)), (0.5,))
    assert doubled == pytest.approx(np.median(values[100:]), abs=0.02)
    assert np.isnan(quantile([1.0], [-1.0], (0.5,))).all()
    found = quantile([1.0, 3.0, 2.0], [1.0, 2.0, 1.0], (0.5, 0.75))  # half of each is below it
    assert found.tolist() == pytest.approx([7 / 3, 3])


def test_edges() -> None:
    random = np.random.default_rng(1)
    values = random.exponential(1, 8000)
    counts = np.histogram(values, quantile_edges(values, 8))[0]
    assert counts == pytest.approx(1000, abs=2)
    assert quantile_edges(np.full(5, 2.0), 4).size == 0
    assert quantile_edges(np.array([np.nan]), 4).size == 0
    mostly_zero = quantile_edges(np.append(np.zeros(99), 1.0), 8)
    assert np.bincount(bin_of([0, 0, 1], mostly_zero)).tolist() == [2, 1]
    edges = even_edges(np.append(random.normal(90, 3, 1000), [1e6]), 20)
    assert 70 < edges[0] < edges[-1] < 110
    assert even_edges(np.array([]), 20).size == 0
    tails = np.append(random.normal(0, 1, 9000), random.uniform(-100, 100, 1000))
    low, high = np.quantile(tails, (0.16, 0.84))
    assert np.ptp(even_edges(tails, 20)) == pytest.approx(5 * (high - low))


def test_bins() -> None:
    found = bin_of([-1, 0, 0.5, 1, 1.5, 2, 9, np.nan], np.array([0.0, 1.0, 2.0]))
    assert found.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]


def test_measured() -> None:
    assert Measured.of(np.float64(1), np.nan) == Measured(None, None)
    assert as_json(Measured.of(1, 2)) == {"value": 1, "error": 2}


def test_json_of_dataclasses() -> None:
    @dataclass
    class Point:
        area: Measured = field(metadata=PAIR)
        bins: Histogram = field(metadata=MERGED)
        usable: NDArray[np.bool_]

    bins = Histogram(np.array([1 / 3, np.nan]), np.ones((1, 2)))
    assert as_json({"points": [Point(Measured(1 / 3, None), bins, np.array([True]))]}) == {
        "points": [
            {"area": 1 / 3, "area_error": None, "values": [0.333333, None], "errors": [[1.0, 1.0]], "usable": [True]}
        ]
    }


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
