"""Weights, samples and cuts of events with scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ML_processing.evaluation.scored import OutOfFold, Scored, sampled
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.training.data import read
from MLTools.NanoML.config.training import Train

TWO = BoundDiscriminant.probability("signal", ["signal", "other"])


def scored(labels: list[int], weights: list[float], scores: list[float] | None = None) -> Scored:
    score = np.float32(scores or np.zeros(len(labels)))
    probabilities = np.stack([score, 1 - score], axis=1)
    return Scored(np.array(labels), np.float32(weights), probabilities, probabilities, TWO)


def test_balanced_weights_sum_to_the_same_with_their_signs() -> None:
    balanced: Any = scored([0, 0, 1], [3, -1, 4]).balanced()
    assert balanced.tolist() == [1.5, -0.5, 1]
    assert scored([0, 0, 1], [1, -1, 4]).balanced() is None


def test_a_sample_stands_for_all_events_of_each_class() -> None:
    labels = np.repeat([0, 1], [900, 100])
    rows, factors = sampled(labels, 200, seed=1)
    assert np.bincount(labels[rows]).tolist() == [100, 100]
    assert np.bincount(labels[rows], factors).tolist() == [900, 100]


def test_the_weights_of_a_sample_are_scaled(toy: Callable[..., Path]) -> None:
    table = read([toy()], Train())
    events = OutOfFold(None, table, np.zeros((len(table), 2), np.float32))  # type: ignore[arg-type]
    part = events.select(np.array([3, 5]), np.float32([2, 0.5]))
    assert part.table.weights.tolist() == [2 * table.weights[3], 0.5 * table.weights[5]]


def test_a_cut_keeps_as_much_background_as_it_may() -> None:
    background = (np.arange(10) + 1) / 10
    events = scored([0, *[1] * 10], [1] * 11, [0.95, *background])
    assert events.cut_at(0.2) == pytest.approx(0.9)
    assert events.cut_at(0.3) == pytest.approx(0.8)
