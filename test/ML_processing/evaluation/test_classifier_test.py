"""Whether a BDT finds a difference that is there, and none that is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ML_processing.evaluation.classifier_test import ClassifierTest, classifier_test
from ML_processing.evaluation.scored import OutOfFold
from ML_processing.events.data import Table
from ML_processing.training.data import read
from ML_processing.training.directory import Training

pytestmark = pytest.mark.exhaustive("each section and answer of the report")

COUNT = 3000


@pytest.fixture
def simulation(toy: Any, whole: Path) -> OutOfFold:
    """Toy events as a training sees them; their scores are not needed."""
    training = Training.load(whole)
    table = read([toy(count=COUNT)], training.description.config)
    return OutOfFold(training, table, np.zeros((len(table), 2), np.float32))


def data(simulation: OutOfFold, shift: float = 0.0) -> OutOfFold:
    """Other events of the same distribution, but for a shift of y."""
    random, table = np.random.default_rng(9), simulation.table
    label = np.arange(COUNT) % 2
    x, y = random.normal(label, 1.0), random.normal(-label, 1.0) + shift
    features = np.column_stack([x, y]).astype(np.float32)
    return replace(simulation, table=replace(table, features=features, identifiers=_others(table)))


def _others(table: Table) -> Any:
    run, block, event = table.identifiers
    return run, block, event + 10 * COUNT


def weighted(simulation: OutOfFold, weights: Any) -> OutOfFold:
    return replace(simulation, table=replace(simulation.table, weights=np.asarray(weights, np.float32)))


def told_apart(simulation: OutOfFold, data: OutOfFold) -> ClassifierTest:
    found = classifier_test(simulation, data)
    assert found is not None
    return found


def test_equal_samples_are_not_told_apart(simulation: OutOfFold) -> None:
    found = told_apart(simulation, data(simulation))
    assert abs(found.standard_deviations) < 3
    assert found.auc.value == pytest.approx(0.5, abs=4 * (found.auc.error or 0))
    assert found.auc.error == pytest.approx(np.sqrt(2 / (6 * COUNT)), rel=0.2)  # sqrt(2) / sqrt(12 n m / (n + m))
    assert found.probability == pytest.approx(0.5, abs=0.499)
    assert found.events == 2 * COUNT


def test_a_shift_is_found_and_its_input_is_named(simulation: OutOfFold) -> None:
    found = told_apart(simulation, data(simulation, 0.3))
    assert found.standard_deviations > 5
    assert found.probability < 1e-8
    assert found.telling[0] == "y"
    assert found.inputs[0].loss == pytest.approx((found.auc.value or 0) - 0.5, rel=0.3)


def test_negative_weights_are_no_difference(simulation: OutOfFold) -> None:
    """A third of the events with x > 1 are doubled and as many subtracted: a test by |weight| would find them."""
    table = simulation.table
    extra = table[np.flatnonzero(table.features[:, 0] > 1)]
    both = [replace(extra, weights=sign * extra.weights) for sign in (np.float32(1), np.float32(-1))]
    doubled = Table.join([table, *both])
    same = replace(simulation, table=doubled, scores=np.zeros((len(doubled), 2), np.float32))
    found = told_apart(same, data(simulation))
    assert abs(found.standard_deviations) < 3
    by_size = told_apart(weighted(same, np.abs(doubled.weights)), data(simulation))
    assert by_size.standard_deviations > 10


def test_too_few_events(simulation: OutOfFold) -> None:
    few = replace(simulation, table=simulation.table[np.arange(50)])
    assert classifier_test(few, data(simulation)) is None
    assert classifier_test(simulation, few) is None


def test_a_correlation_is_found_that_no_single_input_shows(simulation: OutOfFold) -> None:
    other, half = data(simulation), COUNT // 2
    label = np.argsort(np.arange(COUNT) % 2, kind="stable")  # class by class: each keeps its shapes
    for rows in (label[:half], label[half:]):
        x, y = (other.table.features[rows, i] for i in (0, 1))
        noisy = x + np.random.default_rng(1).normal(size=half)
        other.table.features[rows[np.argsort(noisy)], 1] = np.sort(y)
    found: Any = told_apart(simulation, other)
    assert found.state == "bad"
    assert found.correlation.names == ("x", "y")
    assert found.correlation.deviations > 10
    assert "the correlation of x and y is" in found.text("these")
