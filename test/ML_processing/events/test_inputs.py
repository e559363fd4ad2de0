"""Which columns a training reads; in what order, how often and with what weights events are drawn."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from ML_processing.events.columns import TrainingColumns
from ML_processing.events.inputs import Batches, EventTensors, Inputs, ObjectTensors, Position, drawn
from ML_processing.events.survey import ClassTotal, Survey, class_factors, factors_of_split, make_splits, split_count
from ML_processing.training import data as training_data
from ML_processing.training.data import TrainingFiles, read
from MLTools.NanoML.config.training import Decorrelation, PerObject, Train
from MLTools.NanoML.errors import ConfigError, NanoMLError
from services.trainings import event_rows

SIZES = [10, 0, 7, 3, 12]  # events of the blocks


def block(number: int) -> EventTensors:
    """Events that are numbered through all blocks, in a feature, in a target and in jets."""
    count, start = SIZES[number], sum(SIZES[:number])
    numbers = torch.arange(start, start + count)
    values = numbers.float()[:, None]
    jets = ObjectTensors(values[:, None], torch.ones(count, 1, dtype=torch.bool), torch.zeros(count, 1, 4))
    nothing = torch.empty(0)
    inputs = Inputs(values.clone(), {"Jet": jets})
    return EventTensors(inputs, numbers, torch.ones(count), values, nothing, nothing.bool())


def batches(seed: int = 1, size: int = 4, ahead: bool = False, sampler: str = "every") -> Batches:
    return Batches(len(SIZES), block, size, seed, ahead, None, sampler)


def numbers(found: Batches, start: Position) -> list[list[int]]:
    return [events.labels.tolist() for _, events in found.epoch(start)]


@pytest.mark.parametrize("ahead", [False, True])
def test_every_event_once_and_all_of_an_event_together(ahead: bool) -> None:
    seen = []
    for _, events in batches(ahead=ahead).epoch(Position(3)):
        assert 1 <= len(events) <= 4
        assert torch.equal(events.inputs.features[:, 0].long(), events.labels)
        assert torch.equal(events.targets[:, 0].long(), events.labels)
        assert torch.equal(events.inputs.objects["Jet"].values[:, 0, 0].long(), events.labels)
        assert len(events.spectator) == len(events.free) == 0
        seen += events.labels.tolist()
    assert sorted(seen) == list(range(32))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first = numbers(batches(), Position(0))
    assert numbers(batches(ahead=True), Position(0)) == first
    assert numbers(batches(), Position(1)) != first
    assert numbers(batches(seed=2), Position(0)) != first
    assert len({tuple(chain(*numbers(batches(), Position(i)))) for i in range(20)}) == 20


@pytest.mark.parametrize(("ahead", "sampler"), [(False, "every"), (True, "every"), (True, "balanced")])
def test_goes_on_from_every_position(ahead: bool, sampler: str) -> None:
    whole = list(batches(sampler=sampler).epoch(Position(2)))
    positions = [Position(2), *(after for after, _ in whole)]
    assert positions[-1].block == 5
    assert len(set(positions)) == len(positions)
    for i, position in enumerate(positions):
        rest = numbers(batches(ahead=ahead, sampler=sampler), position)
        assert rest == [events.labels.tolist() for _, events in whole[i:]]


def test_what_is_drawn_anew_depends_on_the_position_alone() -> None:
    def redraw(events: EventTensors, generator: torch.Generator) -> None:
        events.inputs.features[:] = torch.rand(events.inputs.features.shape, generator=generator)

    found = Batches(len(SIZES), block, 4, 1, False, redraw)
    whole = [(after, events.inputs.features) for after, events in found.epoch(Position(0))]
    rest = [events.inputs.features for _, events in found.epoch(whole[3][0])]
    assert all(torch.equal(a, b) for (_, a), b in zip(whole[4:], rest, strict=True))
    again = [events.inputs.features for _, events in found.epoch(Position(1))]
    assert not any(torch.equal(a, b) for _, a in whole for b in again)


def test_a_block_that_cannot_be_read() -> None:
    def broken(number: int) -> EventTensors:
        if number == 3:
            raise ValueError("broken")
        return block(number)

    for ahead in (False, True):
        with pytest.raises(ValueError, match="broken"):
            numbers(Batches(len(SIZES), broken, 4, 1, ahead), Position(0))


COUNT, TIMES = 300, 500
CHANGED = ["weighted", "balanced"]


def events(negative: float = 0.2) -> tuple[Tensor, Tensor]:
    """Three classes, the last one with 1 % of the events; weights over two orders of magnitude, some of them 0."""
    generator = torch.Generator().manual_seed(1)
    labels = (torch.arange(COUNT) % 100 == 0).long() * 2 + (torch.arange(COUNT) % 100 > 60).long()
    sizes = 10 ** (2 * torch.rand(COUNT, generator=generator))
    sizes[5:10] = 0
    return labels, torch.where(torch.rand(COUNT, generator=generator) < negative, -sizes, sizes)


def some(sampler: str, seed: int, negative: float = 0.2) -> tuple[Tensor, Tensor, Tensor]:
    labels, weights = events(negative)
    rows, found = drawn(labels, weights, sampler, torch.Generator().manual_seed(seed))
    assert found.dtype == torch.float32
    assert len(rows) == len(found) == COUNT
    return rows, labels[rows], found


@pytest.mark.parametrize("sampler", ["every", *CHANGED])
def test_the_expectation_of_every_weight_is_the_same(sampler: str) -> None:
    _, weights = events()
    sums = torch.zeros(COUNT, dtype=torch.double)
    for seed in range(TIMES):
        rows, _, found = some(sampler, seed)
        sums.index_add_(0, rows, found.double())
    spread = 0.5 * float(found.abs().max()) / TIMES**0.5  # an event comes so many times, or once more
    assert torch.allclose(sums / TIMES, weights.double(), rtol=1e-5, atol=5 * spread)
    # and of sums over classes, which hardly vary at all
    labels = events()[0]
    for i in range(3):
        assert float(sums[labels == i].sum()) / TIMES == pytest.approx(float(weights[labels == i].sum()), rel=0.1)


def test_every_takes_each_event_once() -> None:
    rows, _, found = some("every", 1)
    assert sorted(rows.tolist()) == list(range(COUNT))
    assert torch.equal(found, events()[1][rows])


def test_weighted_leaves_only_the_sign() -> None:
    rows, _, found = some("weighted", 1)
    _, weights = events()
    assert torch.equal(found.sign(), weights[rows].sign())
    assert found.abs().tolist() == pytest.approx([float(weights.abs().mean())] * COUNT)
    times, expected = torch.bincount(rows, minlength=COUNT), weights.abs() / weights.abs().mean()
    assert float((times - expected).abs().max()) < 1
    assert times.max() > 3
    assert not times[5:10].any()  # no weight, no draw


@pytest.mark.parametrize("size", [6, 50])
def test_balanced_has_as_many_of_each_class_in_any_batch(size: int) -> None:
    rows, labels, found = some("balanced", 1)
    for part in labels.split(size):
        counts = torch.bincount(part, minlength=3)
        assert counts.max() - counts.min() <= 2
    _, weights = events()
    assert torch.equal(found.sign(), weights[rows].sign())
    for i in range(3):
        assert len(found[labels == i].abs().unique()) <= 3  # but for rounding the same
    # neighbours are in random order: processes share a batch by taking every second event
    assert torch.bincount(labels[::2]).min() > 35


def test_classes_without_weight_and_blocks_without_events() -> None:
    labels, weights = events()
    weights[labels == 1] = 0
    for sampler in CHANGED:
        rows, found = drawn(labels, weights, sampler, torch.Generator().manual_seed(1))
        assert not (labels[rows] == 1).any()
        assert torch.isfinite(found).all()
        rows, found = drawn(labels, weights * 0, sampler, torch.Generator().manual_seed(1))
        assert sorted(rows.tolist()) == list(range(COUNT))
        rows, found = drawn(labels[:0], weights[:0], sampler, torch.Generator().manual_seed(1))
        assert len(rows) == len(found) == 0


def test_equal_weights_are_each_event_once() -> None:
    rows, found = drawn(torch.zeros(COUNT).long(), torch.ones(COUNT), "weighted", torch.Generator().manual_seed(3))
    assert sorted(rows.tolist()) == list(range(COUNT))
    assert found.tolist() == pytest.approx([1.0] * COUNT)


Toy = Callable[..., Path]


def columns(path: Path, everything: bool = False, **settings: Any) -> TrainingColumns:
    return TrainingFiles.open([path], Train(**settings), everything).columns


def jets(fields: str = "pt eta", most: int = 2) -> dict[str, Any]:
    return {"Jet": np.zeros((600, most), [("valid", "?"), *((name, "f4") for name in fields.split())])}


@pytest.fixture
def rich(toy: Toy) -> Path:
    """Features x, y, z and the parameter mass, and jets."""
    return toy(objects=jets(), parameter="mass", z=np.arange(600), mass=np.full(600, np.nan))


def test_by_default_all_columns_but_parameters(rich: Path) -> None:
    found = columns(rich)
    assert found.names == ["x", "y", "z"]
    assert found.extras == ()
    assert found.shape.tensors == ["features", "Jet", "Jet_mask"]
    assert found.shape.outputs == 2


def test_a_choice_in_its_order(rich: Path) -> None:
    found = columns(rich, features=["z", "x"], objects=[])
    assert found.names == ["z", "x"]
    assert found.shape.tensors == ["features"]
    assert columns(rich, features=[]).shape.tensors == ["Jet", "Jet_mask"]


def test_a_parameter_is_the_last_feature(rich: Path) -> None:
    assert columns(rich, parameter="mass").names == ["x", "y", "z", "mass"]
    assert columns(rich, parameter="mass", features=["mass", "x"]).names == ["x", "mass"]


def test_targets_and_spectators_are_no_features(rich: Path) -> None:
    found = columns(rich, targets=["z"], decorrelate=Decorrelation("x"))
    assert found.names == ["x", "y"]  # what the output must not depend on may be a feature
    assert (found.targets, found.spectator, found.extras) == (("z",), "x", ("z", "x"))
    assert found.shape.outputs == 1
    assert columns(rich, everything=True, features=["x"]).extras == ("y", "z")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": ["x", "masss"]}, 'train.features: "masss" is not in the HDF5 files. Did you mean "mass"?'),
        ({"objects": ["Jets"]}, 'train.objects: "Jets" is not in the HDF5 files. Did you mean "Jet"?'),
        ({"targets": ["pt"]}, 'train.targets: "pt" is not in the HDF5 files. They have: x, y, z, mass.'),
        ({"decorrelate": Decorrelation("mas")}, 'train.decorrelate.column: "mas" is not in the HDF5 files. Did you mean'),
        ({"flatten": ["p"]}, 'train.flatten: "p" is not in the HDF5 files'),
        ({"parameter": "x"}, 'train.parameter: "x" is not a parameter of the HDF5 files (mass). Give its value'),
        ({"features": ["x", "mass"]}, "train.features: mass is a parameter of some datasets, so it would tell them"),
        ({"features": ["x"], "targets": ["x"]}, "train.targets: x is a feature as well"),
    ],
)  # fmt: skip
def test_names_that_do_not_fit(rich: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        columns(rich, **settings)


def test_nothing_is_left(rich: Path) -> None:
    with pytest.raises(NanoMLError, match="or leave `train.features` and `train.objects` out"):
        columns(rich, features=[], objects=[])


def test_no_weight(toy: Toy) -> None:
    path = toy()
    with h5py.File(path, "r+") as file:
        rows = file["events"][:]
        del file["events"]
        file["events"] = rows[["run", "luminosityBlock", "event", "label", "x", "y"]]
    with pytest.raises(NanoMLError, match="toy.h5: its events have no weight, since no cross section or lumino"):
        columns(path)


def test_a_collection_that_is_not_there(toy: Toy) -> None:
    path = toy(objects=jets())
    with h5py.File(path, "r+") as file:
        del file["Jet"]
    with pytest.raises(NanoMLError, match="`Jet` has no field valid. Make the file again"):
        columns(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objects": jets("pt")}, "its collections are not those of .*a.h5: without Jet_eta"),
        ({"objects": {}}, "its collections are not those of .*a.h5: without Jet_pt, Jet_eta"),
        ({"objects": jets(most=3)}, r"its numbers of objects are not .* with Jet \(3, sorted by -pt\)"),
        ({"objects": jets(), "parameter": "y"}, "its parameters are not those of .*a.h5: with y"),
    ],
)
def test_files_that_disagree(toy: Toy, changes: dict[str, Any], message: str) -> None:
    files = [toy("a.h5", objects=jets()), toy("b.h5", **changes)]
    with pytest.raises(NanoMLError, match=message):
        TrainingFiles.open(files, Train())


FLAVOUR = PerObject("Jet", "flavour", {"b": [5, -5], "light": [0]})


def flavoured(toy: Toy, **changes: Any) -> Path:
    types = [("valid", "?"), ("pt", "f4"), ("flavour", "i4"), ("eta", "f4")]
    return toy(objects={"Jet": np.zeros((600, 2), types), "Muon": jets()["Jet"]}, parameter="mass", **changes)


def test_of_objects_all_fields_but_the_label(toy: Toy) -> None:
    path = flavoured(toy, mass=np.full(600, np.nan))
    found = columns(path, everything=True, per_object=FLAVOUR)
    assert found.names == ["Jet_pt", "Jet_eta", "x", "y"]
    assert (found.classes, found.collections, found.extras) == (["b", "light"], (), ())
    assert found.datasets_read == ["events", "Jet"]
    assert found.shape.tensors == ["features"]
    found = columns(path, True, per_object=FLAVOUR, features=["y", "Jet_eta"], parameter="mass")
    assert found.names == ["y", "Jet_eta", "mass"]
    assert found.extras == ("Jet_pt", "x")
    found = columns(path, per_object=FLAVOUR, features=["x"], decorrelate=Decorrelation("Jet_pt"))
    assert (found.spectator, found.extras) == ("Jet_pt", ("Jet_pt",))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_object": PerObject("Jets", "flavour", {})}, 'per_object.collection: "Jets" is not .*"Jet"'),
        ({"per_object": PerObject("Jet", "flavor", {})}, 'per_object.label: "flavor" is not .*"flavour"'),
        ({"per_object": PerObject("Jet", "pt", {})}, '"pt" is of type float32, but classes are given by whole'),
        ({"per_object": FLAVOUR, "objects": ["Muon"]}, "one object at a time .* take out train.objects"),
        ({"per_object": FLAVOUR, "targets": ["x"]}, "separate classes: take out train.targets"),
        ({"per_object": FLAVOUR, "features": ["Jet_flavour"]}, '"Jet_flavour" is not in the HDF5 files'),
    ],
)
def test_objects_that_cannot_be_told_apart(toy: Toy, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        columns(flavoured(toy, mass=np.zeros(600)), **settings)


def test_a_name_of_the_event_and_of_the_object(toy: Toy) -> None:
    path = flavoured(toy, mass=np.zeros(600), Jet_pt=np.zeros(600))
    with pytest.raises(NanoMLError, match=r"Jet_pt is a column of the event and, as Jet\.pt, one of its objects"):
        columns(path, per_object=FLAVOUR)


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
