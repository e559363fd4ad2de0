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
from ML_processing.training.data import TrainingFiles
from MLTools.NanoML.config.training import Decorrelation, PerObject, Train
from MLTools.NanoML.errors import ConfigError, NanoMLError

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
