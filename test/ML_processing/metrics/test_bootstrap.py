from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ML_processing.metrics import auc, resample, roc

Arrays = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]


def events(count: int, negative: float = 0.0, seed: int = 1) -> Arrays:
    random = np.random.default_rng(seed)
    truth = random.random(count) < 0.4
    score = random.normal(truth * 1.5, 1.0)
    return score, truth, random.exponential(1, count) * np.where(random.random(count) < negative, -1, 1)


@pytest.mark.parametrize("negative", [0.0, 0.2])
def test_error_of_the_area_agrees_with_delong(negative: float) -> None:
    score, truth, weight = events(1500, negative)
    found = resample(score, truth, weight, (), seed=1, repeats=400)
    assert found is not None
    assert found.auc_error == pytest.approx(auc(score, truth, weight).error, rel=0.12)


def test_working_points_are_on_the_curve_with_binomial_errors() -> None:
    score, truth, _ = events(4000)
    weight = np.ones(4000)
    found = resample(score, truth, weight, (0.5, 0.9), seed=1)
    assert found is not None
    for working in found.working:
        passed = score >= working.threshold
        assert passed[truth].mean() == pytest.approx(working.signal, abs=1e-3)
        share, background = passed[~truth].mean(), working.background
        assert background.value == pytest.approx(share)
        # the threshold moves with the signal, so the error is larger than that of a fixed cut
        binomial = np.sqrt(share * (1 - share) / (~truth).sum())
        assert background.error is not None
        assert binomial < background.error < 2.5 * binomial
        assert working.rejection.value == pytest.approx(1 / share)
        assert working.rejection.error == pytest.approx(background.error / share**2)


def test_band_holds_the_curve() -> None:
    score, truth, weight = events(2000)
    found, curve = resample(score, truth, weight, (), seed=1), roc(score, truth, weight)
    assert found is not None
    own = np.interp(found.signal, curve.signal, curve.background)
    inside = (found.low <= own + 1e-9) & (own <= found.high + 1e-9)
    assert inside.mean() > 0.9


def test_same_seed_same_numbers() -> None:
    first, second, other = (resample(*events(300), (0.5,), seed) for seed in (1, 1, 2))
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.auc_error == second.auc_error != other.auc_error


def test_no_background_left() -> None:
    found = resample([3, 2, 1, 0], [True, True, False, False], np.ones(4), (0.5,), seed=1)
    assert found is not None
    assert found.working[0].background.value == 0
    assert found.working[0].rejection.value is None


def test_not_defined() -> None:
    assert resample([1, 2, 3], [True, False, False], [1, 1, -2], (0.5,), seed=1) is None
