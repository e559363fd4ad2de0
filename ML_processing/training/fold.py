"""The kernel of a training: one network, and how well the networks do on events that they have not seen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ML_processing.events.data import Table
from ML_processing.events.inputs import EventTensors
from ML_processing.events.survey import Survey
from ML_processing.metrics.significance import ExpectedEvents, by_bins_of_others, fine_sums, standing_for
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.models.hooks import Boosted
from ML_processing.models.network import model_class, one_thread
from ML_processing.training.data import TrainingData, TrainingFiles, make_training_data
from ML_processing.training.description import Epoch, TrainingDescription, best_epoch, last_improvement
from ML_processing.training.directory import (
    Training,
    checkpoint_file,
    history_file,
    initial_network,
    network_file,
    weights_file,
)
from ML_processing.training.loop import Judged, Monitor, Report, ended, fit, rank, save
from ML_processing.training.losses import error_of_change, event_losses, separation
from ML_processing.training.result_training import after_classes, before_file
from MLTools.NanoML.atomic import make_directory, write_json
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.terminal.progress import check_interrupt

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train


_FILES = ("network_*.pt", "history_*.json", "weights_*.json", "checkpoint_*.pt", "before_*.pt", "result_*.json")


def device_of(config: Train) -> torch.device:
    """Where to compute; a ConfigError if there is no such device here."""
    if issubclass(model_class(config.model), Boosted):
        if config.device == "cuda":
            raise ConfigError(f'train.device: the model "{config.model}" learns on the CPU. Use auto or cpu.')
        return torch.device("cpu")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("train.device: there is no usable GPU here (CUDA). Use auto or cpu.")
    device = torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")
    if device.type == "cuda" and config.processes > torch.cuda.device_count():
        raise ConfigError(f"train.processes: {config.processes}, but there are {torch.cuda.device_count()} GPUs here.")
    return device


def prepare(directory: Path, description: TrainingDescription) -> None:
    """Make `directory` ready for this training; the files of another one are removed."""
    make_directory(directory)
    with suppress(NanoMLError):  # there may be none that could be continued
        before = TrainingDescription.read(directory)
        if before.fingerprint == description.fingerprint:
            if before.discriminants != description.discriminants:
                description.write(directory)
            return
    for pattern in _FILES:
        for outdated in directory.glob(pattern):
            outdated.unlink()
    description.write(directory)


def is_trained(directory: Path, fold: int) -> bool:
    """Whether the network of a fold is finished."""
    return network_file(directory, fold).is_file() and history_file(directory, fold).is_file()


def train_fold(
    files: TrainingFiles,
    table: Table,
    survey: Survey,
    config: Train,
    directory: Path,
    fold: int,
    device: torch.device,
    report: Report,
    expected: ExpectedEvents | None = None,
    of_result: Report | None = None,
    alone: bool = False,
) -> None:
    """Train the network of a fold of a training whose description is in `directory` already.

    `files`, `table` and `survey` are the files and the result of `TrainingFiles.sample`, `config` is the section `train`. With
    `expected` events the epochs have their significance. A training on the result of a fit reports its epochs to `of_result`, and
    without it only how it goes on; if it chooses bins, it waits for the networks of the other folds, unless this one is `alone`: call it
    again for those that are not trained then. A NanoMLError says that the loss is not a finite number.
    """
    description = TrainingDescription.read(directory)
    checkpoint = checkpoint_file(directory, fold)
    with one_thread(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed * 1000 + fold)
        network, begun, before = initial_network(description), time.process_time(), before_file(directory, fold)
        if config.target is None or not before.is_file():
            data = make_training_data(files, table, survey, network, fold, config, device)
            judge = description.discriminant
            significance = None if expected is None else partial(_significance, judge, expected)
            monitor = Monitor(fold, description.folds.k, description.shape, judge, checkpoint, report, significance)
            if isinstance(network.core, Boosted):
                history = boost(network.core, data, config, monitor)
            else:
                network.core.to(device)  # events are scaled on the CPU, as they are read
                history = fit(network.core, data, config, monitor, device)
            if rank() == 0:
                if data.reweighted:
                    found = {name: asdict(it) for name, it in data.reweighted.items()}
                    write_json(weights_file(directory, fold), found)
                write_json(history_file(directory, fold), [asdict(epoch) for epoch in history])
                if config.target is not None:
                    save({"network": network.cpu().state_dict(), "seconds": time.process_time() - begun}, before)
        if config.target is not None:
            folds = [fold] if alone or not config.target.chooses_bins else range(description.folds.networks)
            if not all(before_file(directory, it).is_file() for it in folds):
                return
            result = of_result or (lambda _, note: report([], f"result: {note}"))
            after_classes(network, description, config, directory, fold, device, result, folds)
    if rank() == 0:
        save(network.cpu().state_dict(), network_file(directory, fold))
        for path in (checkpoint, checkpoint_file(directory, fold, "result")):
            path.unlink(missing_ok=True)


def _significance(judge: BoundDiscriminant, expected: ExpectedEvents, validation: Judged, seen: Judged) -> float | None:
    """Expected significance on validation events, in bins that training events have chosen; None if it is not defined."""
    found = []
    for outputs, events in (validation, seen):
        labels = events.labels.cpu().numpy()
        weights = standing_for(labels, events.weights.cpu().numpy(), expected.events)
        if weights is None:
            return None
        score = judge.values(torch.softmax(outputs, dim=1).cpu().numpy())
        found.append(fine_sums(score, labels == judge.signal, weights))
    here, others = found
    return by_bins_of_others(here, others, expected.folds).significance().value


def measure(training: Training, table: Table) -> dict[str, Any]:
    """Performance on events that the networks have not seen, as `train` returns it."""
    count = training.shape.outputs
    with one_thread():
        rows, found = training.all_out_of_fold(table)
    scores, tested = found[:, :count], table[rows]
    if training.targets:
        return {"rmse": rmse(training.targets, scores, tested)}
    metrics: dict[str, object] = {}
    if training.description.estimates:
        metrics["rmse"] = rmse(training.description.estimates, found[:, count:], tested)
    if training.parameter:
        tested = training.parameter.measured(table)[rows]
    measured = training.discriminant.area(scores, tested.labels, tested.weights)
    return {"auc": measured.value, "auc_error": measured.error, **metrics}


def rmse(names: Sequence[str], estimates: NDArray[np.float32], table: Table) -> dict[str, float]:
    """Root of the mean squared error of each target, from estimates whose first columns are theirs; of events that have one."""
    distance = estimates[:, : len(names)].astype(np.float64) - table.targets()
    known = np.isfinite(distance)
    squares = np.where(known, distance, 0) ** 2
    return dict(zip(names, np.sqrt(squares.sum(axis=0) / known.sum(axis=0)).tolist(), strict=True))


def boost(core: Boosted, data: TrainingData, config: Train, monitor: Monitor) -> list[Epoch]:
    """Train `core` in place, and leave it as it was after its best round; returns all rounds, an epoch each.

    The best round is the one with the smallest validation loss. The training ends `config.patience` rounds after the last improvement,
    which with negative weights must be larger than its standard error, or after `config.epochs`. An interrupted training begins
    again: rounds are quick.
    """
    history: list[Epoch] = []
    validation, before = data.validation, torch.empty(0)
    is_signed = bool((validation.weights < 0).any())
    seed = np.random.default_rng([config.seed, monitor.fold]).integers(2**31)
    everything, others = data.batches.together(), (data.sample, validation)
    for of_sample, outputs in core.grow(everything, others, config.learning_rate, int(seed)):
        check_interrupt()
        losses = event_losses(outputs, validation)
        error = error_of_change(losses, before, validation.weights) if is_signed and len(before) else None
        area = significance = None
        if not validation.targets.shape[1]:
            area = separation(outputs, validation, monitor.discriminant)
        if monitor.significance is not None:
            significance = monitor.significance((outputs, validation), (of_sample, data.sample))
        means = _mean(event_losses(of_sample, data.sample), data.sample), _mean(losses, validation)
        entry = Epoch(len(history) + 1, *means, config.learning_rate, area, significance, error)
        history.append(entry)
        last = last_improvement(history)
        if last is entry:
            before = losses
        best = best_epoch(history).epoch
        monitor.report([entry], f"validation {entry.validation_loss:.4f}, best round {best}")
        if len(history) >= min(config.epochs, last.epoch + config.patience):
            break
    monitor.report([], ended(history, "round"))
    core.keep(best_epoch(history).epoch)
    return history


def _mean(losses: Tensor, events: EventTensors) -> float:
    """Weighted mean of the losses of events."""
    weights = events.weights.double()
    return float(torch.dot(weights, losses.double()) / weights.sum())
