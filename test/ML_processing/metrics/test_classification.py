from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from ML_processing.metrics.classification import asimov, confusion, reliability, scan_cuts


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
        found = reliability(probability, random.random(2000) < probability, weight)
        assert found is not None
        ratios.append(found.expected_calibration_error / found.by_chance)
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)


def test_too_sure() -> None:
    random = np.random.default_rng(1)
    truth = random.random(20_000)
    stretched = np.clip(0.5 + 1.5 * (truth - 0.5), 0, 1)
    found = reliability(stretched, random.random(20_000) < truth, np.ones(20_000))
    assert found is not None
    assert found.observed[0] > found.predicted[0]
    assert found.observed[-1] < found.predicted[-1]
    assert found.expected_calibration_error > 10 * found.by_chance


def test_each_bin_is_by_itself_and_one_is_in_the_last() -> None:
    found = reliability([0.05, 0.85, 0.95, 1.0], [0, 1, 1, 1], np.ones(4))
    assert found is not None
    assert found.predicted == pytest.approx([0.05, 0.85, 0.975])
    assert found.share == pytest.approx([0.25, 0.25, 0.5])


def test_numbers_of_a_bin() -> None:
    found = reliability([0.11, 0.13, 0.15, 0.92], [1, 0, 0, 1], [2.0, 1.0, -0.5, 1.0])
    assert found is not None
    assert found.predicted == pytest.approx([(2 * 0.11 + 0.13 - 0.5 * 0.15) / 2.5, 0.92])
    assert found.observed == pytest.approx([0.8, 1])
    assert found.error[0] == pytest.approx(np.sqrt(4 * 0.2**2 + (1 + 0.25) * 0.8**2) / 2.5)
    assert found.error[1] > 0
    assert found.share == pytest.approx([2.5 / 3.5, 1 / 3.5])


def test_no_positive_weight() -> None:
    assert reliability([0.1, 0.9], [0, 1], [-1.0, -1.0]) is None


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
    found = scan_cuts(score, truth, weight)
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


def test_one_cut_is_as_in_the_scan() -> None:
    random = np.random.default_rng(1)
    truth, score, weight = random.random(500) < 0.3, random.random(500), random.exponential(1, 500)
    found = scan_cuts(score, truth, weight)
    assert found is not None
    one = scan_cuts(score, truth, weight, at=float(found.cuts[70]))
    assert one is not None
    assert one.cuts.tolist() == [found.cuts[70]]
    assert one.plain[0] == pytest.approx(found.plain[70])
    assert one.plain_error[0] == pytest.approx(found.plain_error[70])
    assert one.usable[0] == found.usable[70]


def test_error_is_the_spread() -> None:
    random = np.random.default_rng(1)
    truth = np.arange(4000) < 1000
    score, weight = np.full(4000, 0.5), random.exponential(1, 4000)
    found = scan_cuts(score, truth, weight)
    assert found is not None
    drawn = []
    for _ in range(400):
        w = weight * random.poisson(1, 4000)
        drawn.append(float(asimov(w[truth].sum(), w[~truth].sum())))
    assert found.plain_error[0] == pytest.approx(np.std(drawn), rel=0.15)


def test_nothing_to_cut_on() -> None:
    assert scan_cuts([0.5], [True], [1.0]) is None
    few = scan_cuts([0.9, 0.1], [True, False], [1.0, 1.0])
    assert few is not None
    assert few.best is None
