"""Discriminants of networks with classes in an order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ML_processing.metrics.roc import auc
from ML_processing.models.discriminant import BoundDiscriminant
from MLTools.NanoML.config.training import DISCRIMINANT
from MLTools.NanoML.model import Discriminant

CLASSES = ["ZG", "signal", "WZ", "fakes"]
SOME = BoundDiscriminant(Discriminant("d", "signal", {"signal": 2, "WZ": 3, "ZG": 1}), CLASSES)
ALONE = BoundDiscriminant.probability("signal", CLASSES)


def probabilities(count: int = 300) -> np.ndarray:
    return np.random.default_rng(1).dirichlet(np.ones(4), count).astype(np.float32)


def test_classes_without_a_share_do_not_count() -> None:
    assert SOME.signal == 1
    assert SOME.backgrounds == [0, 2]
    assert SOME.shares.tolist() == [1, 2, 3, 0]
    assert SOME.counts(np.array([3, 0, 1])).tolist() == [False, True, True]


def test_values() -> None:
    p = probabilities()
    assert SOME.values(p) == pytest.approx(2 * p[:, 1] / (p[:, 0] + 2 * p[:, 1] + 3 * p[:, 2]), rel=1e-6)
    assert (ALONE.values(p) == p[:, 1]).all()


@pytest.mark.parametrize("discriminant", [SOME, ALONE], ids=["some", "alone"])
def test_log_odds(discriminant: BoundDiscriminant) -> None:
    p = probabilities()
    found = torch.sigmoid(discriminant.log_odds(torch.log(torch.from_numpy(p)) + 7)).numpy()
    assert found == pytest.approx(discriminant.values(p), rel=1e-5)


def test_area_is_of_the_events_that_count() -> None:
    p, random = probabilities(), np.random.default_rng(2)
    labels, weights = random.integers(0, 4, 300), random.normal(1, 0.5, 300).astype(np.float32)
    use = labels < 3
    score, other, truth = SOME.values(p)[use], p[use, 1], labels[use] == 1
    assert SOME.area(p, labels, weights) == auc(score, truth, weights[use])
    exchanged = p[:, [0, 2, 1, 3]]
    found = SOME.area_difference(p, exchanged, labels, weights)
    areas = [SOME.area(each, labels, weights).value or 0 for each in (p, exchanged)]
    assert found.value == pytest.approx(areas[0] - areas[1])
    assert auc(other, truth, weights[use]) != auc(score, truth, weights[use])


def test_words() -> None:
    assert SOME.text == "discriminant d, signal against ZG (25 %) and WZ (75 %)"
    two = BoundDiscriminant.probability("a", ["b", "a"])
    assert two.label == "Probability of a"
    alone = BoundDiscriminant(Discriminant(DISCRIMINANT, "a", {"a": 1.0, "b": 1.0}), ["b", "a"])
    assert (alone.title, alone.label) == ("discriminant", "Discriminant")
    assert two.text == "probability of a, a against b"
