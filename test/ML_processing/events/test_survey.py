"""What is counted while events are read, reported before a training begins, and used to split them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ML_processing.events.survey import ClassTotal, Survey, class_factors, factors_of_split, make_splits, split_count
from ML_processing.training import data as training_data
from ML_processing.training.data import TrainingFiles, read
from MLTools.NanoML.config.training import Decorrelation, PerObject, Train
from MLTools.NanoML.errors import ConfigError, NanoMLError
from services.trainings import event_rows

Toy = Callable[..., Path]
GAP = np.where(np.arange(600) % 3, np.arange(600), np.nan).astype("f4")
MASS = np.where(np.arange(600) % 2, np.nan, 600.0 + 400 * (np.arange(600) % 4)).astype("f4")


def survey_of(path: Path, **settings: Any) -> Survey:
    return TrainingFiles.open([path], Train(**settings)).sample(100, 5)[1]


def test_counts(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    path = toy(negative=0.2)
    table, survey = TrainingFiles.open([path], Train()).sample(100, 5)
    fold = table.folds(5)
    for i in range(2):
        for k in range(5):
            weights = table.weights[(table.labels == i) & (fold == k)]
            assert survey.counts[i, k] == len(weights)
            assert survey.sums[i, k] == weights.sum()
            assert survey.absolute[i, k] == np.abs(weights).sum()
    for i, total in enumerate(survey.summary().values()):
        weights = table.weights[table.labels == i]
        assert total == ClassTotal(len(weights), weights.sum(dtype="f8"))
    monkeypatch.setattr(training_data, "_BLOCK_EVENTS", 50)
    assert np.array_equal(survey_of(path).sums, survey.sums)


def test_values_of_a_parameter(toy: Toy) -> None:
    survey = survey_of(toy(mass=MASS, parameter="mass"), parameter="mass")
    assert survey.parameters == {600.0: 150.0, 1400.0: 150.0}
    assert survey.notes() == []


@pytest.mark.parametrize(
    ("mass", "found"),
    [
        (np.full(600, np.nan), "0 values in these events"),
        (np.where(MASS > 0, 600.0, np.nan), "1 values in these events"),
        (np.arange(3000, dtype="f4"), "3000 values .*up to 1000"),
    ],
)
def test_a_parameter_that_is_no_grid(toy: Toy, mass: np.ndarray[Any, Any], found: str) -> None:
    with pytest.raises(NanoMLError, match=f'parameter "mass" has {found}'):
        survey_of(toy(count=len(mass), mass=mass, parameter="mass"), parameter="mass")


def test_targets_and_spectators(toy: Toy) -> None:
    with pytest.raises(NanoMLError, match='target "gap" is not a finite number in 200 events'):
        survey_of(toy(gap=GAP), targets=["gap"])
    (note,) = survey_of(toy(gap=GAP), decorrelate=Decorrelation("gap"), features=["x"]).notes()
    assert note.startswith("Column gap is not a finite number in 200 of 600 events (33 %): these count as missing")
    assert note.endswith(" and are not decorrelated.")
    with pytest.raises(NanoMLError, match='"gap" is not a finite number in any event'):
        survey_of(toy(gap=GAP * np.nan), decorrelate=Decorrelation("gap"), features=["x"])
    (note,) = survey_of(toy(same=np.full(600, 3)), targets=["same"]).notes()
    assert note == "Column same has the same value, 3, everywhere: it cannot help."


def test_objects_count_and_padding_does_not(toy: Toy) -> None:
    members = np.zeros((600, 2), [("valid", "?"), ("pt", "f4"), ("eta", "f4")])
    members["valid"][:, 0] = True
    members["pt"][:, 0] = np.arange(600)
    members["eta"][:300, 0] = np.nan
    assert survey_of(toy(objects={"Jet": members})).notes() == [
        "Feature Jet_eta is not a finite number in 300 of 600 objects (50 %): these count as missing.",
        "Feature Jet_eta has the same value, 0, everywhere: it cannot help.",
    ]


def test_a_regression_needs_no_class(toy: Toy, write: Callable[..., Path], tmp_path: Path) -> None:
    rows = event_rows({name: np.zeros(10, "f4") for name in "xy"}, 0, 1.0)
    one = write(tmp_path / "one.h5", rows, classes=["all"])
    assert survey_of(one, targets=["y"]).counts.sum() == 10
    with pytest.raises(NanoMLError, match="a training needs two classes or more; these files have all"):
        survey_of(one)
    rows["label"] = -1
    none = write(tmp_path / "none.h5", rows, classes=[])
    assert survey_of(none, targets=["y"]).summary() == {"all": ClassTotal(10, 10)}
    with pytest.raises(NanoMLError, match="a training needs two classes or more; these files have none"):
        survey_of(none)
    with pytest.raises(NanoMLError, match=r"^there is no event to train on\. Check the selection"):
        survey_of(write(tmp_path / "empty.h5", rows[:0], classes=[]), targets=["y"])
    # where there are classes, an event without one is left out
    rows["label"][:4] = 0
    some = write(tmp_path / "some.h5", rows, classes=["a"])
    assert survey_of(some, targets=["y"]).summary() == {"a": ClassTotal(4, 4)}


def test_objects_of_no_class_are_told(toy: Toy) -> None:
    jets = np.zeros((600, 2), [("valid", "?"), ("pt", "f4"), ("id", "i2")])
    jets["valid"][:, 0], jets["pt"][:, 0] = True, np.where(np.arange(600) % 2, np.arange(600), np.nan)
    jets["id"][:, 0] = np.arange(600) % 4 - 2
    path = toy(objects={"Jet": jets})
    classes = {"a": [-2, 7], "b": [-1]}
    found = survey_of(path, per_object=PerObject("Jet", "id", classes))
    assert found.summary() == dict.fromkeys("ab", ClassTotal(150, 150))
    assert found.notes() == [
        "300 of 600 objects of Jet have no class by Jet_id and are left out: 0 (150), 1 (150).",
        "Feature Jet_pt is not a finite number in 150 of 300 objects (50 %): these count as missing.",
    ]
    with pytest.raises(NanoMLError, match=r'class "c" has no object: no Jet_id is 7 or 8\. Without a class are: -2 \('):
        survey_of(path, per_object=PerObject("Jet", "id", {"a": [0], "c": [7, 8]}))


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
        factors_of_split(TrainingFiles.open([path], Train()).sample(100, folds)[1], 0)

    message = 'class "signal" has no event in the training part of fold 1 of 3: 2 in all are'
    with pytest.raises(NanoMLError, match=message):
        factors(toy(count=4, event=np.array([9, 2, 1, 3])), 3)
    with pytest.raises(NanoMLError, match="has no event to validate with"):
        factors(toy(count=4), 100)


def test_factors_of_counts_are_those_of_events(toy: Callable[..., Path]) -> None:
    data = TrainingFiles.open([toy(negative=0.2)], Train())
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
    with pytest.raises(NanoMLError, match=r'class "b": the weights of its training events sum to -1, so they cannot'):
        class_factors(np.array([0, 1, 1]), np.array([1.0, 1.0, -2.0]), ["a", "b"])
