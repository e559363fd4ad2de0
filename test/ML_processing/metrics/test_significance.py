from __future__ import annotations

import numpy as np
import pytest

from ML_processing.metrics import asimov, scan


def test_asimov() -> None:
    assert asimov(10, 100) == pytest.approx(np.sqrt(2 * (110 * np.log(1.1) - 10)))
    assert asimov(1, 1e6) == pytest.approx(1e-3, rel=1e-5)  # s / sqrt(b)
    assert asimov(0, 5) == 0
    assert np.isnan(asimov(5, 0))


def test_uncertainty_of_the_background() -> None:
    assert asimov(10, 100, 1e-3) == pytest.approx(asimov(10, 100), rel=1e-4)
    assert asimov(10, 100, 20) == pytest.approx(10 / np.sqrt(100 + 20**2), rel=0.05)
    assert asimov(50, 100, 10) < asimov(50, 100, 5) < asimov(50, 100)


def test_scan_counts_what_passes() -> None:
    random = np.random.default_rng(1)
    truth = random.random(3000) < 0.3
    score = np.clip(random.normal(np.where(truth, 0.7, 0.3), 0.15), 0, 1)
    weight = np.where(truth, 0.1, 1.0) * np.where(random.random(3000) < 0.1, -1, 1)
    found = scan(score, truth, weight)
    assert found is not None
    for i in range(0, len(found.cuts), 17):
        passed = score >= found.cuts[i]
        assert found.signal[i] == pytest.approx(weight[passed & truth].sum())
        assert found.background[i] == pytest.approx(weight[passed & ~truth].sum())
    assert found.best is not None
    behind = weight[(score >= found.cuts[found.best]) & ~truth]
    assert behind.sum() ** 2 / (behind**2).sum() >= 5
    assert 0.4 < found.cuts[found.best] < 0.8
    assert found.significance[found.best] == np.nanmax(found.significance[found.usable])


def test_error_is_the_spread() -> None:
    random = np.random.default_rng(1)
    truth = np.arange(4000) < 1000
    score, weight = np.full(4000, 0.5), random.exponential(1, 4000)
    found = scan(score, truth, weight)
    assert found is not None
    drawn = []
    for _ in range(400):
        w = weight * random.poisson(1, 4000)
        drawn.append(float(asimov(w[truth].sum(), w[~truth].sum())))
    assert found.plain_error[0] == pytest.approx(np.std(drawn), rel=0.15)


def test_nothing_to_cut_on() -> None:
    assert scan([0.5], [True], [1.0]) is None
    few = scan([0.9, 0.1], [True, False], [1.0, 1.0])
    assert few is not None
    assert few.best is None
