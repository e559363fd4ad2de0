from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ML_processing.events.data import Data, read
from ML_processing.events.splits import (
    class_factors,
    factors_of_split,
    make_splits,
    signal_index,
    split_count,
)
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import ConfigError, NanoMLError


@pytest.mark.parametrize("folds", [3, 5, 8])
def test_no_event_is_used_twice(files: list[Path], folds: int) -> None:
    table = read(files, Train())
    splits = make_splits(table, folds)
    assert [split.fold for split in splits] == list(range(folds))
    fold = table.folds(folds)
    for split in splits:
        together = np.concatenate([split.training, split.validation, split.test])
        assert np.array_equal(np.sort(together), np.arange(len(table)))
        assert set(fold[split.test]) == {split.fold}
        assert set(fold[split.validation]) == {(split.fold + 1) % folds}
    tested = np.concatenate([split.test for split in splits])
    assert np.array_equal(np.sort(tested), np.arange(len(table)))


def test_single_network(files: list[Path]) -> None:
    table = read(files, Train())
    (only,) = make_splits(table, 1)
    assert np.array_equal(only.test, make_splits(table, 5)[0].test)
    assert split_count(1) == (5, 1)


def test_two_folds_leave_nothing_to_train_on() -> None:
    with pytest.raises(ConfigError, match=r"train.folds: 2 leaves no event to train on"):
        split_count(2)


def test_too_few_events(toy: Callable[..., Path]) -> None:
    def factors(path: Path, folds: int) -> None:
        factors_of_split(Data.open([path], Train()).sample(100, folds)[1], 0)

    with pytest.raises(
        NanoMLError, match=r'class "signal" has no event in the training part of fold 0: 4 events are'
    ):
        factors(toy(count=4, event=np.array([9, 2, 1, 3])), 3)
    with pytest.raises(NanoMLError, match="has no event to validate with"):
        factors(toy(count=4), 100)


def test_factors_of_counts_are_those_of_events(toy: Callable[..., Path]) -> None:
    data = Data.open([toy(negative=0.2)], Train())
    table, survey = data.sample(100, 5)
    training = make_splits(table, 5)[2].training
    expected = class_factors(table.labels[training], table.weights[training], table.classes)
    assert factors_of_split(survey, 2) == pytest.approx(expected)


def test_classes_weigh_the_same() -> None:
    random = np.random.default_rng(1)
    labels = random.choice(3, 1000, p=[0.1, 0.2, 0.7])
    weights = random.normal(1, 1, 1000).astype("f4") * np.array([0.1, 3, 20], "f4")[labels]
    assert (weights < 0).any()
    scaled = weights * class_factors(labels, weights, ["a", "b", "c"])[labels]
    sums = np.bincount(labels, scaled)
    assert sums == pytest.approx([sums[0]] * 3)
    assert np.abs(scaled).mean() == pytest.approx(1)
    assert np.array_equal(np.sign(scaled), np.sign(weights))


def test_negative_class() -> None:
    with pytest.raises(
        NanoMLError, match=r'class "b": the weights of its training events sum to -1, so they cannot'
    ):
        class_factors(np.array([0, 1, 1]), np.array([1.0, 1.0, -2.0]), ["a", "b"])


def test_signal() -> None:
    assert signal_index(["WZ", "signal"], None) == 1
    assert signal_index(["WZ", "ZG"], None) == 0
    assert signal_index(["WZ", "ZG"], "ZG") == 1
    with pytest.raises(ConfigError, match=r'train.signal: "ZZ" is not a class. Known: WZ, ZG'):
        signal_index(["WZ", "ZG"], "ZZ")
