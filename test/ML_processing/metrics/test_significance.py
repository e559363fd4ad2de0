"""The expected significance of a fit, against formulae, numbers written out, and the fit of the statistical analysis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ML_processing.metrics.significance import (
    BinnedScore,
    asimov,
    by_bins_of_others,
    by_own_bins,
    discovery,
    fine_sums,
    scan_cuts,
    standing_for,
)

SIGNAL, BACKGROUND, ERRORS = np.array([1.0, 3.0, 8.0]), np.array([80.0, 40.0, 25.0]), np.array([3.0, 2.5, 2.0])
NORMALISATION, TILT = np.array([6.4, 3.2, 2.0]), np.array([-2.0, 0.5, 2.5])


def test_one_bin_by_hand() -> None:
    """s = 10, b = 100, e = 5: fitted^2 - (100 - 25) fitted - 110 * 25 = 0."""
    fitted = (75 + math.sqrt(75**2 + 4 * 110 * 25)) / 2
    pull = (fitted - 100) / 5
    expected = math.sqrt(2 * (fitted - 110 + 110 * math.log(110 / fitted)) + pull**2)
    value, at = discovery([10.0], [100.0], [5.0])
    assert value == pytest.approx(expected)
    assert at.tolist() == [pytest.approx(fitted)]
    assert value == pytest.approx(float(asimov(10, 100, 5)), rel=0.01)
    few_of_many, _ = discovery([1e-3], [1e8], [1e4])
    assert few_of_many == pytest.approx(1e-3 / math.sqrt(2e8), rel=1e-3)


def test_without_uncertainty_bins_add_in_quadrature() -> None:
    value, at = discovery(SIGNAL, BACKGROUND)
    assert value == pytest.approx(math.sqrt((asimov(SIGNAL, BACKGROUND) ** 2).sum()))
    assert at == pytest.approx(BACKGROUND)


def test_a_source_of_one_bin_is_its_error() -> None:
    assert discovery([10.0], [100.0], 0.0, [[5.0]])[0] == pytest.approx(discovery([10.0], [100.0], [5.0])[0])
    assert discovery([10.0], [100.0], [3.0], [[4.0]])[0] == pytest.approx(discovery([10.0], [100.0], [5.0])[0])


numbers = st.lists(st.floats(0.1, 100), min_size=4, max_size=4).map(np.array)
shifts = st.lists(st.lists(st.floats(-0.5, 0.5), min_size=4, max_size=4), min_size=1, max_size=5).map(np.array)


@given(numbers, numbers, st.floats(0, 0.5), shifts)
def test_what_is_uncertain_makes_it_smaller(signal: Any, background: Any, error: float, relative: Any) -> None:
    plain, _ = discovery(signal, background)
    statistical, _ = discovery(signal, background, error * background)
    both, fitted = discovery(signal, background, error * background, relative * background)
    assert both <= statistical * (1 + 1e-6) + 1e-6
    assert statistical <= plain * (1 + 1e-6) + 1e-6
    assert (fitted > 0).all()
    more, _ = discovery(2 * signal, background, error * background, relative * background)
    assert more >= both - 1e-6


def test_bins_without_background_or_signal() -> None:
    some = discovery([5.0, 2.0], [10.0, 20.0], [1.0, 1.0])[0]
    assert discovery([5.0, 7.0, 2.0], [10.0, 0.0, 20.0], [1.0, 0.0, 1.0])[0] == pytest.approx(some)
    assert discovery([5.0, -3.0], [10.0, 20.0])[0] == pytest.approx(discovery([5.0], [10.0])[0])
    assert discovery([0.0], [10.0])[0] == 0
    assert math.isnan(discovery([5.0], [0.0])[0])


@pytest.mark.parametrize("sources", [[], [NORMALISATION, TILT]])
def test_it_is_that_of_the_binned_fit(sources: list[NDArray[np.float64]]) -> None:
    pytest.importorskip("statistical_analysis.inference")
    from statistical_analysis.asymptotic import significance
    from statistical_analysis.likelihood import Likelihood
    from statistical_analysis.maximum import maximum
    from statistical_analysis.model import FitChannel, StatisticalModel
    from statistical_analysis.samples import Sample, Shape
    from statistical_analysis.workspace import workspace

    names = [f"source{number}" for number in range(len(sources))]
    shapes = {name: Shape(BACKGROUND + it, BACKGROUND - it) for name, it in zip(names, sources, strict=True)}
    nothing = np.zeros(3)
    background = Sample("other", None, BACKGROUND, ERRORS, shapes, {}, ())
    samples = (Sample("signal", "mu", SIGNAL, nothing, {}, {}, ()), background)
    data, edges = SIGNAL + BACKGROUND, (0.0, 0.5, 0.8, 1.0)
    channel = FitChannel("SR", "SR", None, "score", edges, samples, data, np.full(3, True))
    model = StatisticalModel({"mu": ["signal"]}, (channel,), {"shape": tuple(names)}, (), 1.0, ())
    likelihood = Likelihood(workspace(model))
    data = likelihood.observed
    found = significance(likelihood, data, maximum(likelihood, data), is_observed=False)
    tolerance = 0.02 if sources else 0.002  # it interpolates log-normally between variations, and we linearly
    assert discovery(SIGNAL, BACKGROUND, ERRORS, sources)[0] == pytest.approx(found.expected, rel=tolerance)


def test_its_error_is_that_of_repeated_simulation() -> None:
    """The spread over samples of events that each draw their numbers anew."""
    random, values = np.random.default_rng(3), []
    starts = [0, 400, 800, 1000]
    rates = np.array([[20.0, 60, 240], [600, 200, 60]])
    weight = 0.1

    def made(events: NDArray[np.float64]) -> BinnedScore:
        yields, errors = weight * events, weight * np.sqrt(events)
        return BinnedScore(starts, yields[0], yields[1], errors[0], errors[1])

    for _ in range(400):
        events = random.poisson(rates).astype(float)
        values.append(made(events).significance().value or np.nan)
    found = made(rates).significance()
    assert found.error == pytest.approx(float(np.std(values)), rel=0.15)
    assert found.value == pytest.approx(float(np.mean(values)), rel=0.02)


def test_the_influence_of_events_is_the_error() -> None:
    score, is_signal, weights = sample(4000, seed=1)
    bins = by_own_bins(fine_sums(score, is_signal, weights))
    effects = weights * bins.influence(score, is_signal)
    assert np.sqrt((effects**2).sum()) == pytest.approx(bins.significance().error)


def sample(count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Scores of events, half of which are signal: 10 events of signal and 100 of background are expected."""
    random = np.random.default_rng(seed)
    is_signal = np.arange(count) % 2 == 0
    score = np.where(is_signal, random.beta(4, 1, count), random.beta(1, 3, count))
    return score, is_signal, np.where(is_signal, 10.0, 100.0) / (count / 2)


def test_no_bin_has_nothing_in_it() -> None:
    """Where these events have a gap above which there is signal alone, it does not count for more than what is known."""
    score, is_signal, weights = sample(4000, seed=2)
    others = fine_sums(*sample(4000, seed=3))
    usual = by_bins_of_others(fine_sums(score, is_signal, weights), others, 1)
    effective = (usual.background / usual.background_errors) ** 2
    assert len(usual.signal) > 5
    assert (effective >= 5).all()
    gap = is_signal | (score < 0.6)
    found = by_bins_of_others(fine_sums(score[gap], is_signal[gap], weights[gap]), others, 1)
    assert len(found.signal) < len(usual.signal)
    assert ((found.background / found.background_errors) ** 2 >= 5).all()
    assert set(found.starts) <= set(by_bins_of_others(others, others, 1).starts)


def test_more_folds_have_smaller_errors() -> None:
    sums = fine_sums(*sample(400, seed=4))
    one, five = (by_bins_of_others(sums, sums, folds).significance() for folds in (1, 5))
    assert one.value is not None
    assert five.value is not None
    bins = by_bins_of_others(sums, sums, 5)
    expected, _ = discovery(bins.signal, bins.background, bins.background_errors / math.sqrt(5))
    assert five.value == pytest.approx(expected)
    assert five.value > one.value


def test_weights_that_stand_for_all() -> None:
    labels, weights = np.array([0, 0, 1, 1]), np.array([1.0, 3.0, 5.0, -1.0])
    found: Any = standing_for(labels, weights, [8.0, 2.0])
    assert found.tolist() == [2, 6, 2.5, -0.5]
    assert standing_for(labels, np.array([1.0, 3.0, 1.0, -1.0]), [8.0, 2.0]) is None
    assert standing_for(labels, weights, [8.0, -2.0]) is None


def test_asimov() -> None:
    assert asimov(10, 100) == pytest.approx(np.sqrt(2 * (110 * np.log(1.1) - 10)))
    assert asimov(1, 1e6) == pytest.approx(1e-3, rel=1e-5)  # s / sqrt(b)
    assert asimov(0, 5) == 0
    assert np.isnan(asimov(5, 0))


def test_uncertainty_of_the_background() -> None:
    assert asimov(10, 100, 1e-3) == pytest.approx(asimov(10, 100), rel=1e-4)
    assert asimov(10, 100, 20) == pytest.approx(10 / np.sqrt(100 + 20**2), rel=0.05)
    assert asimov(50, 100, 10) < asimov(50, 100, 5) < asimov(50, 100)
    assert asimov(1e-3, 1e8, 1e4) == pytest.approx(1e-3 / np.sqrt(2e8), rel=1e-3)  # few of very many events


def test_scan_counts_what_passes() -> None:
    random = np.random.default_rng(1)
    truth = random.random(3000) < 0.3
    score = np.clip(random.normal(np.where(truth, 0.7, 0.3), 0.15), 0, 1)
    weight = np.where(truth, 0.1, 1.0) * np.where(random.random(3000) < 0.1, -1, 1)
    found: Any = scan_cuts(score, truth, weight)
    for i in range(0, len(found.cuts), 17):
        passed = score >= found.cuts[i]
        assert found.signal[i] == pytest.approx(weight[passed & truth].sum())
        assert found.background[i] == pytest.approx(weight[passed & ~truth].sum())
    behind = weight[(score >= found.cuts[found.best]) & ~truth]
    assert behind.sum() ** 2 / (behind**2).sum() >= 5
    assert 0.4 < found.cuts[found.best] < 0.8
    assert found.significance[found.best] == np.nanmax(found.significance[found.usable])


def test_one_cut_is_as_in_the_scan() -> None:
    random = np.random.default_rng(1)
    truth, score, weight = random.random(500) < 0.3, random.random(500), random.exponential(1, 500)
    found: Any = scan_cuts(score, truth, weight)
    one: Any = scan_cuts(score, truth, weight, at=float(found.cuts[70]))
    assert one.cuts.tolist() == [found.cuts[70]]
    assert one.plain[0] == pytest.approx(found.plain[70])
    assert one.plain_error[0] == pytest.approx(found.plain_error[70])
    assert one.usable[0] == found.usable[70]


def test_error_is_the_spread() -> None:
    random = np.random.default_rng(1)
    truth = np.arange(4000) < 1000
    score, weight = np.full(4000, 0.5), random.exponential(1, 4000)
    found: Any = scan_cuts(score, truth, weight)
    drawn = []
    for _ in range(400):
        w = weight * random.poisson(1, 4000)
        drawn.append(float(asimov(w[truth].sum(), w[~truth].sum())))
    assert found.plain_error[0] == pytest.approx(np.std(drawn), rel=0.15)


def test_nothing_to_cut_on() -> None:
    assert scan_cuts([0.5], [True], [1.0]) is None
    few: Any = scan_cuts([0.9, 0.1], [True, False], [1.0, 1.0])
    assert few.best is None
