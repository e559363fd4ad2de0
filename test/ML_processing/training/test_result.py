"""Training on the result of a fit: events in bins, errors, and a toy whose best possible result is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from ML_processing.events.inputs import Batches, Inputs, Position
from ML_processing.training import result_training
from ML_processing.training.data import TrainingFiles
from ML_processing.training.description import describe
from ML_processing.training.directory import Training, network_file
from ML_processing.training.result import ResultEvents, ResultLoss, in_bins
from ML_processing.training.result_training import before_file, gain, read_fold
from ML_processing.training.train import train
from MLTools.NanoML.config.fit import FitTarget, Histogram
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.contracts.bins import FINE, chosen_bins, fine_edges, information
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.folds import fold_of
from services.shiftedbackground import ShiftedBackground
from services.trainings import OF_RESULT, changing

QUICK = replace(OF_RESULT, options={"hidden": [24, 24], "dropout": 0.0}, epochs=15, patience=5, folds=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Training, Train]:
    directory = tmp_path_factory.mktemp("result")
    target = ShiftedBackground().write(directory / "events.h5", 6000, seed=1)
    train([directory / "events.h5"], replace(QUICK, target=target), directory / "run")
    return directory / "run", Training.load(directory / "run"), replace(QUICK, target=target)


def gained(toy: ShiftedBackground, directory: Path) -> float:
    """The share of what is possible."""
    (network,) = Training.load(directory).networks
    after = toy.of_network(network)
    network.load_state_dict(torch.load(before_file(directory, 0), weights_only=True)["network"])
    before = toy.of_network(network)
    return (before - after) / (before - toy.best())


def test_most_of_what_is_possible_is_gained(trained: tuple[Path, Training, Train]) -> None:
    directory, training, _ = trained
    assert gained(ShiftedBackground(), directory) > 0.75
    found = read_fold(directory, 0)
    assert found.is_kept
    assert min(found.epochs) < found.before
    assert training.description.metrics is not None
    assert training.description.metrics["result"]["after"] < training.description.metrics["result"]["before"]


def test_an_interrupted_training_ends_with_the_same_network(trained: tuple[Path, Training, Train]) -> None:
    directory, training, config = trained
    path, epochs = network_file(directory, 0), read_fold(directory, 0).epochs
    network = path.read_bytes()
    path.unlink()
    files = [Path(it) for it in training.description.data.files]
    train(files, config, directory)
    assert path.read_bytes() == network
    assert read_fold(directory, 0).epochs == epochs


def test_networks_that_are_no_better_are_not_kept(trained: tuple[Path, Training, Train]) -> None:
    directory, training, config = trained
    path, before = network_file(directory, 0), torch.load(before_file(directory, 0), weights_only=True)["network"]
    training.networks[0].load_state_dict(before)
    found = gain(training, config, directory)
    assert not found.is_kept
    assert found.after == found.before
    kept = torch.load(path, weights_only=True)
    assert all(torch.equal(kept[name], it) for name, it in before.items())


def test_other_variations_are_another_training(tmp_path: Path) -> None:
    files = [tmp_path / "events.h5"]
    described = []
    for shift in (0.3, 0.3, 0.4):
        target = ShiftedBackground(shift).write(files[0], 300, seed=1)
        config = replace(QUICK, target=target)
        sample = TrainingFiles.open(files, config).sample(config.memory, 2)
        described.append(describe(*sample, files, config, torch.device("cpu")))
    first, same, other = described
    assert first.fingerprint == same.fingerprint != other.fingerprint
    assert first.data.sha256 == other.data.sha256  # nominally these are the same events


def test_bins_are_hard_and_edges_soft() -> None:
    values: Any = torch.tensor([-0.1, 0.05, 0.99, 5.0], requires_grad=True)
    edges = torch.tensor([-torch.inf, 0.0, 1.0, torch.inf], dtype=torch.float64)
    bins = in_bins(values, edges)
    assert bins.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]
    bins[:, 1].sum().backward()
    low, inside, high, far = values.grad.tolist()
    assert low > 0 < inside  # to the right is into the bin
    assert high < 0
    assert abs(far) < 1e-3


def of_column(target: FitTarget, bins: Sequence[float], **changes: Any) -> FitTarget:
    """The same fit to x in bins; so the networks do not matter."""
    settings = replace(target.settings, channels={"all": "x"}, **changes)
    return replace(target, settings=settings, histograms={"x": Histogram(of=["x"], bins=[*bins], overflow="add")})


def test_what_is_expected_in_two_eras(tmp_path: Path) -> None:
    """Sums in bins of a column are those of the events."""
    toy = ShiftedBackground()
    target = toy.write(tmp_path / "one.h5", 2000, seed=1)
    toy.write(tmp_path / "two.h5", 1000, seed=2)
    eras = {it: [str(tmp_path / f"{it}.h5")] for it in ("one", "two")}
    target = replace(of_column(target, [4, -2, 2]), luminosity={"one": {}, "two": {}}, eras=eras)
    found = ResultEvents.read(replace(QUICK, target=target), {})
    assert found.without(0, 4).varied[:, 0].sum() == pytest.approx(found.varied[:, 0].sum(), rel=0.05)
    events = found.tensors(_Unscaled(), np.arange(len(found.table)), torch.device("cpu"))  # type: ignore[arg-type]
    one, two = ResultLoss(found, {}).expected(torch.zeros(len(events), 3), events)
    for samples, name in ((one, "one"), (two, "two")):
        with h5py.File(tmp_path / f"{name}.h5") as file:
            rows = file["events"][()]
        for label, counts in enumerate(samples):
            mine = rows[rows["label"] == label]
            place = np.clip(np.floor(mine["x"] + 2), 0, 3).astype(int)
            assert counts.nominal.numpy() == pytest.approx(np.bincount(place, mine["weight"]), rel=1e-5)
            # the one network has seen all but a fold
            squares = np.bincount(place, mine["weight"] ** 2) * 5
            assert counts.variances.numpy() == pytest.approx(squares, rel=1e-5)
            up = np.bincount(place, mine["weight_placeUp"])
            assert counts.shapes["place"].up.numpy() == pytest.approx(up, rel=1e-5)


def test_events_under_a_shift_are_rows_of_their_own(tmp_path: Path) -> None:
    """Sums in their column are those of the moved events; nominal sums do not know them; a batch has all of an event."""
    toy = ShiftedBackground(of_objects=True)
    target = of_column(toy.write(tmp_path / "events.h5", 2000, seed=1), [4, -2, 2])
    found = ResultEvents.read(replace(QUICK, target=target), {})
    assert found.columns == ["weight", "placeUp", "placeDown"]
    events = found.tensors(_Unscaled(), np.arange(len(found.table)), torch.device("cpu"))  # type: ignore[arg-type]
    assert len(events) == 3 * 6000
    (samples,) = ResultLoss(found, {}).expected(torch.zeros(len(events), 3), events)
    with h5py.File(tmp_path / "events.h5") as file:
        rows = {name: file[f"{group}events"][()] for name, group in (("", ""), ("up", "shifts/placeUp/"))}
    for label, counts in enumerate(samples):
        for name, values in (("", counts.nominal), ("up", counts.shapes["place"].up)):
            mine = rows[name][rows[name]["label"] == label]
            place = np.clip(np.floor(mine["x"] + 2), 0, 3).astype(int)
            assert values.numpy() == pytest.approx(np.bincount(place, mine["weight"]), rel=1e-5)
    batches = [it for _, it in Batches(1, lambda _: events, 600, 1, False).epoch(Position())]
    assert sum(map(len, batches)) == len(events)
    for it in batches:
        together = np.unique(it.event, return_counts=True)[1]
        assert (together == 3).sum() >= len(it) / 3 - 2


def test_a_shift_of_objects_is_learnt_as_weights_are(tmp_path: Path) -> None:
    toy = ShiftedBackground(of_objects=True)
    target = toy.write(tmp_path / "events.h5", 5_000, seed=1)
    train([tmp_path / "events.h5"], replace(QUICK, target=target), tmp_path / "run")
    assert gained(toy, tmp_path / "run") > 0.5


def test_the_loss_of_several_strengths_is_the_mean_of_their_uncertainties(tmp_path: Path) -> None:
    """The geometric one, each with the other free, in bins of a column."""
    target = ShiftedBackground().write(tmp_path / "events.h5", 1000, seed=1)
    target = of_column(target, [6, -2, 3], signals={"one": ["signal"], "two": ["shifted", "none"]})
    found = ResultEvents.read(replace(QUICK, target=target), {})
    events = found.tensors(_Unscaled(), np.arange(len(found.table)), torch.device("cpu"))  # type: ignore[arg-type]
    loss = ResultLoss(found, {})
    names, each = information(loss.expected(torch.zeros(len(events), 3), events), torch)
    assert names[:2] == ["one", "two"]
    errors = np.linalg.inv(each.numpy()).diagonal()[:2] ** 0.5
    assert errors[0] != pytest.approx(errors[1], rel=0.1)
    assert loss.of_events(torch.zeros(len(events), 3), events, 0)[0] == pytest.approx((errors[0] * errors[1]) ** 0.5)
    with pytest.raises(NanoMLError, match="no events of none are expected"):
        replace(found, target=of_column(target, [6, -2, 3], signals={"one": ["none"]}))._check()


def test_bins_that_are_chosen_are_common_to_all_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the networks before: so the first ones wait until all are trained on single events."""
    target, seen = ShiftedBackground().write(tmp_path / "events.h5", 1000, seed=1), []
    target = replace(target, histograms={"signal": Histogram(most_bins=12)})

    class Seen(ResultLoss):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            seen.extend(given[2:])

    monkeypatch.setattr(result_training, "_STEPS", 4)
    monkeypatch.setattr(result_training, "ResultLoss", Seen)
    config = replace(QUICK, target=target, folds=3, epochs=2)
    train([tmp_path / "events.h5"], config, tmp_path / "run")
    one, *others = ([edges.tolist() for edges in each] for each in seen)
    assert others == [one, one]
    assert 3 < len(one[0]) < 12
    description = Training.load(tmp_path / "run").description

    # those of the histograms are chosen by the same rule
    networks = [result_training.network_before(description, tmp_path / "run", fold) for fold in range(3)]
    with h5py.File(tmp_path / "events.h5") as file:
        rows = file["events"][()]
    fold = fold_of(rows["run"], rows["luminosityBlock"], rows["event"], 3)
    found = np.zeros((3, FINE))
    for number, network in enumerate(networks):
        mine = rows[fold == number]
        features = torch.from_numpy(np.stack([mine["x"], mine["y"]], axis=1))
        with torch.no_grad():
            score = torch.softmax(network(Inputs(features, {})).double(), dim=1)[:, 0].numpy()
        for part, label, power in ((0, [0], 1), (1, [1, 2], 1), (2, [1, 2], 2)):
            use = np.isin(mine["label"], label)
            found[part] += np.histogram(score[use], fine_edges(), weights=mine["weight"][use].astype(float) ** power)[0]
    every = ResultEvents.read(config, result_training.scores_by_name(description))
    loss = ResultLoss(every, result_training.scores_by_name(description))
    outputs, events = result_training._scored(dict(enumerate(networks)), every, 3)
    loss.choose_bins(outputs, events, len(events))
    expected = np.array(fine_edges())[chosen_bins(*found, most=12)]
    assert torch.sigmoid(loss.edges[0]).tolist() == pytest.approx(expected.tolist())


class _Unscaled:
    def scaling(self, inputs):  # type: ignore[no-untyped-def]
        return inputs


def _no_signal(rows: np.ndarray) -> None:
    rows["label"][rows["label"] == 0] = 1


def _no_variation(rows: np.ndarray) -> None:
    rows["weight_placeUp"][rows["label"] == 2] = 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_no_signal, r"no events of signal are expected in the channels of the fit \(all\)"),
        (_no_variation, "the variation weight_placeUp leaves no events of shifted"),
    ],
)
def test_events_that_cannot_be_fitted(tmp_path: Path, change: Callable[[np.ndarray], None], message: str) -> None:
    target = ShiftedBackground().write(tmp_path / "events.h5", 100, seed=1)
    with changing(tmp_path / "events.h5") as rows:
        change(rows)
    with pytest.raises(NanoMLError, match=message):
        ResultEvents.read(replace(QUICK, target=target), {"signal": None})  # type: ignore[dict-item]
