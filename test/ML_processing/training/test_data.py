"""Which events a network learns from, with what weights, and with what values of its parameter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from ML_processing.events.data import Table
from ML_processing.events.inputs import EventTensors, Inputs, Position
from ML_processing.events.survey import Survey, class_factors
from ML_processing.models.network import Network, make_network
from ML_processing.training import data as training_data
from ML_processing.training.data import ParameterGrid, TrainingFiles, inputs_of, make_training_data
from ML_processing.training.loop import TrainingData
from MLTools.NanoML.config.training import Decorrelation, Train
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.schema.plain import build, plain
from services.trainings import changing

Toy = Callable[..., Path]
COUNT = 30_000  # more than 1 MB of events


def made(files: list[Path], fold: int = 0, memory: int = 1, **settings: Any) -> tuple[TrainingData, Network]:
    config = Train(folds=3, memory=memory, batch_size=1000, **settings)
    opened = TrainingFiles.open(files, config)
    table, survey = opened.sample(memory, 3)
    network = make_network("mlp", {"hidden": [4]}, table.shape)
    return make_training_data(opened, table, survey, network, fold, config, torch.device("cpu")), network


def labels_and_weights(found: TrainingData) -> tuple[torch.Tensor, torch.Tensor]:
    """Of all events of the first epoch."""
    parts = [events for _, events in found.batches.epoch(Position())]
    return torch.cat([it.labels for it in parts]), torch.cat([it.weights for it in parts])


def numbers(found: TrainingData, network: Network, epoch: int) -> list[int]:
    """What the feature `number` is before scaling, in the order of an epoch."""
    i = network.shape.features.index("number")
    scaled = torch.cat([events.inputs.features[:, i] for _, events in found.batches.epoch(Position(epoch))])
    scaler = network.scaling.features
    return (scaled.double() * scaler.width[i] + scaler.center[i]).round().int().tolist()


@pytest.fixture
def numbered(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three files, one of no event, too large for a memory of 1 MB; every 10th event has no class."""
    monkeypatch.setattr(training_data, "_BLOCK_EVENTS", 5000)
    label = np.where(np.arange(COUNT) % 10 == 0, -1, np.arange(COUNT) % 2)
    path = toy(count=COUNT, number=np.arange(COUNT, dtype="f4"))
    with h5py.File(path, "r+") as file:
        rows = file["events"][:]
        rows["label"] = label
        paths = [path.with_name(f"{i}.h5") for i in range(3)]
        for part, some in zip(paths, (rows[:20_000], rows[:0], rows[20_000:]), strict=True):
            with h5py.File(part, "w") as new:
                new["events"] = some
                file.copy("metadata", new)
    return paths


@pytest.mark.parametrize("memory", [1, 1000])
def test_every_training_event_once_in_an_epoch_and_none_of_another_fold(numbered: list[Path], memory: int) -> None:
    found, network = made(numbered, fold=1, memory=memory)
    assert found.batches.ahead == (memory == 1)
    event = np.arange(COUNT)
    mine = fold_of(np.ones(COUNT), event // 100, event, 3) == 0
    expected = event[mine & (event % 10 > 0)].tolist()
    assert found.events == len(expected)
    first = numbers(found, network, 0)
    assert sorted(first) == expected
    assert numbers(made(numbered, fold=1, memory=memory)[0], network, 0) == first
    second = numbers(found, network, 1)
    assert second != first
    assert sorted(second) == expected
    assert numbers(made(numbered, fold=1, memory=memory, seed=2)[0], network, 0) != first


def test_blocks_are_read_again_in_each_epoch(numbered: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    found, network = made(numbered)
    read: list[int] = []
    block = TrainingFiles.block

    def counted(self: TrainingFiles, number: int) -> Any:
        read.append(number)
        return block(self, number)

    monkeypatch.setattr(TrainingFiles, "block", counted)
    for epoch in range(2):
        numbers(found, network, epoch)
        assert sorted(read) == list(range(6))
        read.clear()


def test_a_file_that_is_damaged_in_mid_training(numbered: list[Path]) -> None:
    found, network = made(numbered)
    with open(numbered[2], "r+b") as file:
        file.truncate(numbered[2].stat().st_size // 2)
    with pytest.raises(NanoMLError, match=r"2.h5: .*(truncated|cannot be read)"):
        numbers(found, network, 0)


def test_in_memory_more_events_than_one_block_has(numbered: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_data, "_BLOCK", 3000)
    found, network = made(numbered, memory=1000)
    assert found.batches.blocks == 3
    assert len(set(numbers(found, network, 0))) == found.events


def test_classes_count_the_same_and_signs_stay(toy: Toy) -> None:
    found, _ = made([toy(negative=0.2)])
    opened = TrainingFiles.open([toy(negative=0.2)], Train())
    table, _ = opened.sample(100, 3)
    training = table[table.folds(3) == 2]
    factors = class_factors(training.labels, training.weights, training.classes)
    labels, weights = labels_and_weights(found)
    assert [float(weights[labels == i].sum()) for i in range(2)] == pytest.approx([float(weights.sum()) / 2] * 2)
    assert float(weights.abs().mean()) == pytest.approx(1)
    assert sorted(weights.tolist()) == pytest.approx(sorted((training.weights * factors[training.labels]).tolist()))


@pytest.mark.parametrize(("memory", "sampler"), [(1, "balanced"), (1000, "weighted")])
def test_drawn_events_have_the_sums_of_all(numbered: list[Path], memory: int, sampler: str) -> None:
    sums, used = [], []
    for how in ("every", sampler):
        found, network = made(numbered, memory=memory, sampler=how)
        labels, weights = labels_and_weights(found)
        sums.append([float(weights[labels == i].sum()) for i in range(2)])
        used.append(set(numbers(found, network, 0)))
    assert sums[1] == pytest.approx(sums[0], rel=0.01)
    assert used[1] < used[0]


def test_only_training_events_get_positive_weights(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_data, "_BLOCK_EVENTS", 5000)
    path = toy(count=COUNT, negative=0.2)
    signed, _ = made([path])
    found, _ = made([path], negative_weights="reweight")
    labels, weights = labels_and_weights(found)
    assert len(weights) == found.events == signed.events
    assert float(weights.min()) >= 0
    assert [float(weights[labels == i].mean()) for i in range(2)] == pytest.approx([1, 1], rel=0.03)
    assert float(found.sample.weights.min()) >= 0
    assert list(found.reweighted) == ["signal", "other"]
    assert signed.reweighted == {}
    ratio = found.validation.weights / signed.validation.weights  # another factor for all of a class, and that is all
    assert [float(ratio[found.validation.labels == i].std()) for i in range(2)] == pytest.approx([0, 0], abs=1e-5)
    assert float(found.validation.weights.min()) < 0


def test_positive_weights_know_nothing_of_validation_and_test(toy: Toy) -> None:
    path = toy(count=2000, negative=0.2)

    def weights() -> torch.Tensor:
        return labels_and_weights(made([path], memory=1000, negative_weights="reweight")[0])[1]

    before = weights()
    with changing(path) as rows:
        training = fold_of(rows["run"], rows["luminosityBlock"], rows["event"], 3) == 2
        rows["weight"][~training] = 1
    assert torch.equal(before, weights())


def test_targets_are_standardised_and_spectators_as_they_are(toy: Toy) -> None:
    number = np.arange(600, dtype="f4")
    path = toy(z=1000 + number, m=5 * number)
    found, network = made([path], targets=["z"], decorrelate=Decorrelation("m"), features=["x", "y"])
    ((_, events),) = found.batches.epoch(Position())
    z = events.targets[:, 0] * network.target_width + network.target_center
    torch.testing.assert_close(5 * (z - 1000), events.spectator, atol=0.01, rtol=0)
    assert abs(float(events.targets.median())) < 0.1


def test_a_parameter_has_the_same_distribution_in_all_classes(toy: Toy) -> None:
    number = np.arange(6000)
    mass = np.where(number % 2, np.nan, np.where(number % 8, 600, 1000)).astype("f4")
    found, network = made([toy(count=6000, mass=mass, parameter="mass")], parameter="mass")
    assert not torch.isnan(network.scaling.features.center).any()
    drawn = []
    for epoch in range(2):
        parts = [events for _, events in found.batches.epoch(Position(epoch))]
        labels = torch.cat([it.labels for it in parts])
        values = torch.cat([it.inputs.features[:, -1] for it in parts])
        weights = torch.cat([it.weights for it in parts])
        heavy = weights * (values == values.max())
        of_class = [float(heavy[labels == i].sum() / weights[labels == i].sum()) for i in range(2)]
        assert of_class == pytest.approx([0.5, 0.5], abs=0.04)
        drawn.append(of_class[1])
    assert drawn[0] != drawn[1]  # it is drawn anew
    for events in (found.sample, found.validation):
        heavy = events.inputs.features[:, -1] == values.max()
        total = [events.weights[events.labels == i].sum() for i in range(2)]
        share = [events.weights[heavy & (events.labels == i)].sum() / total[i] for i in range(2)]
        assert [float(it) for it in share] == pytest.approx([0.5, 0.5], abs=0.05)


def test_collections_are_scaled(object_files: list[Path]) -> None:
    found, network = made(object_files, memory=100)
    ((_, first), *_) = found.batches.epoch(Position())
    jets: Any = first.inputs.objects["Electron"]
    assert jets.vectors.shape[1:] == (3, 4)
    assert not jets.values[~jets.mask].any()
    assert 0.5 < float(jets.values[jets.mask].std()) < 2
    table, _ = TrainingFiles.open(object_files, Train()).sample(100, 3)
    muons = network.scaling(inputs_of(table)).objects["Muon"]
    torch.testing.assert_close(muons.vectors[..., 0], torch.from_numpy(table.objects["Muon"][0][..., 0]))


def test_weights_of_what_is_measured(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    path = toy(count=3000)
    with changing(path) as rows:
        rows["weight"] = np.where(np.arange(3000) % 50 < 2, 100, -1)
    monkeypatch.setattr(training_data, "_MOST_VALIDATION", 20)
    with pytest.raises(NanoMLError, match="^fold 1 of 3: the weights of 20 events on which its loss is measured do"):
        made([path])


MASSES = np.array([600.0, 1000.0, 1000.0, 2000.0])


@pytest.fixture
def with_masses(toy: Toy) -> tuple[Table, Survey]:
    """4000 events; the odd ones have no mass, and half of the others have 1000."""
    number = np.arange(4000)
    mass = np.where(number % 2, np.nan, MASSES[number // 2 % 4]).astype("f4")
    return TrainingFiles.open([toy(count=4000, mass=mass, parameter="mass")], Train(parameter="mass")).sample(100, 5)


@pytest.fixture
def parameter(with_masses: tuple[Table, Survey]) -> ParameterGrid:
    found = ParameterGrid.of(with_masses[1])
    assert found is not None
    return found


def test_values_and_shares(parameter: ParameterGrid, toy: Toy) -> None:
    assert parameter == ParameterGrid("mass", (600.0, 1000.0, 2000.0), (0.25, 0.5, 0.25))
    assert build(ParameterGrid, plain(parameter)) == parameter
    assert ParameterGrid.of(TrainingFiles.open([toy("without.h5")], Train()).sample(100, 5)[1]) is None


def test_filled_by_the_event_alone(with_masses: tuple[Table, Survey], parameter: ParameterGrid) -> None:
    table, _ = with_masses
    filled = parameter.filled(table)
    own = ~np.isnan(table.features[:, -1])
    assert np.array_equal(filled[own], table.features[own])
    shares = [(filled[~own, -1] == value).mean() for value in parameter.values]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.04)
    for fold in range(5):  # nor does it depend on the fold
        some = filled[~own & (table.folds(5) == fold), -1]
        assert [(some == value).mean() for value in parameter.values] == pytest.approx([1 / 3] * 3, abs=0.08)
    rows = np.array([3999, 5, 17])
    assert np.array_equal(parameter.filled(table[rows]), filled[rows])


def test_every_value_has_the_same_weight(with_masses: tuple[Table, Survey], parameter: ParameterGrid) -> None:
    table, _ = with_masses
    balance, mass = parameter.balance(table), table.features[:, -1]
    totals = [(table.weights * balance)[mass == value].sum() for value in parameter.values]
    assert totals == pytest.approx([table.weights[~np.isnan(mass)].sum() / 3] * 3)
    assert (balance[np.isnan(mass)] == 1).all()


def test_a_value_without_weight(with_masses: tuple[Table, Survey]) -> None:
    survey = with_masses[1]
    survey.parameters[600.0] = -1.0
    with pytest.raises(NanoMLError, match=r"the weights of the events with mass 600 sum to -1, so"):
        ParameterGrid.of(survey)


def test_drawn_anew_in_place(with_masses: tuple[Table, Survey], parameter: ParameterGrid) -> None:
    table, _ = with_masses
    features, nothing = torch.from_numpy(table.features.copy()), torch.empty(0)
    free = torch.isnan(features[:, -1])
    labels, none = torch.from_numpy(table.labels), torch.empty(4000, 0)
    events = EventTensors(Inputs(features, {}), labels, torch.ones(4000), none, nothing, free)
    scaled = torch.tensor([-1.0, 0.0, 1.0])
    drawn = []
    for seed in (1, 1, 2):
        parameter.redraw(events, features.shape[1] - 1, scaled, torch.Generator().manual_seed(seed))
        drawn.append(features[free, -1].clone())
    shares = [float((drawn[0] == value).float().mean()) for value in scaled]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.04)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert np.array_equal(features[~free].numpy(), table.features[~free.numpy()])
