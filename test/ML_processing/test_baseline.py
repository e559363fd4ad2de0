from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ML_processing import baseline as module
from ML_processing.baseline import baseline
from ML_processing.data import read
from ML_processing.splits import make_splits

Toy = Callable[..., Path]


def test_trees_have_not_seen_what_they_score(toy: Toy) -> None:
    table = read([toy()])
    splits = make_splits(table, 3)
    before = baseline(table, splits, 1)
    assert before.sum(axis=1) == pytest.approx(1)
    table.labels[splits[0].test] = 1 - table.labels[splits[0].test]
    after = baseline(table, splits, 1)
    unchanged = [np.array_equal(before[split.test], after[split.test]) for split in splits]
    assert unchanged == [True, False, False]


def test_events_that_no_split_tests(toy: Toy) -> None:
    table = read([toy()])
    scores = baseline(table, make_splits(table, 1), 1)
    assert np.array_equal(np.isnan(scores).any(axis=1), table.folds(5) != 0)


def test_too_many_events(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    table = read([toy(negative=0.2)])
    splits = make_splits(table, 3)
    monkeypatch.setattr(module, "MOST_EVENTS", 60)
    few = baseline(table, splits, 1)
    assert np.array_equal(few, baseline(table, splits, 1))
    assert not np.array_equal(few, baseline(table, splits, 2))
    rows = module._at_most(splits[0].training, table, np.random.default_rng(1))
    assert np.bincount(table.labels[rows]).tolist() == [30, 30]
