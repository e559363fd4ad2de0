from __future__ import annotations

import numpy as np
import pytest

from ML_processing.metrics import reliability


def test_perfect_probabilities_are_off_by_chance_alone() -> None:
    random = np.random.default_rng(1)
    ratios = []
    for _ in range(30):
        probability = random.random(2000)
        weight = random.exponential(1, 2000) * np.where(random.random(2000) < 0.1, -1, 1)
        found = reliability(probability, random.random(2000) < probability, weight)
        assert found is not None
        ratios.append(found.deviation / found.by_chance)
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)


def test_too_sure() -> None:
    random = np.random.default_rng(1)
    truth = random.random(20_000)
    stretched = np.clip(0.5 + 1.5 * (truth - 0.5), 0, 1)
    found = reliability(stretched, random.random(20_000) < truth, np.ones(20_000))
    assert found is not None
    assert found.observed[0] > found.predicted[0]
    assert found.observed[-1] < found.predicted[-1]
    assert found.deviation > 10 * found.by_chance


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
