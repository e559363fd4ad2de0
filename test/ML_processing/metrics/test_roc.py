from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

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


def test_a_negative_event_takes_a_positive_one_away() -> None:
    score, truth, weight = events(500)
    twice = [np.concatenate([array, array[:100]]) for array in (score, truth)]
    cancelled = np.concatenate([weight, -weight[:100]])
    expected = auc(score[100:], truth[100:], weight[100:]).value
    assert auc(*twice, cancelled).value == pytest.approx(expected)


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


def test_perfect_and_reversed() -> None:
    truth = np.array([True, True, False, False])
    assert auc([4, 3, 2, 1], truth, np.ones(4)).value == 1
    assert auc([1, 2, 3, 4], truth, np.ones(4)).value == 0
    assert auc([1, 1, 1, 1], truth, np.ones(4)).value == 0.5


def test_not_defined() -> None:
    assert auc([1, 2], [True, True], [1, 1]).value is None
    assert auc([1, 2, 3], [True, False, False], [1, 1, -2]).error is None
    assert auc_difference([1, 2], [1, 2], [True, True], [1, 1]).value is None


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


def test_no_bootstrap() -> None:
    assert bootstrap([1, 2, 3], [True, False, False], [1, 1, -2], (0.5,), seed=1) is None


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


def test_no_positive_weight() -> None:
    assert reliability([0.1, 0.9], [0, 1], [-1.0, -1.0]) is None
