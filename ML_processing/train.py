"""Training of one network per fold."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ML_processing import distributed, plots
from ML_processing.course import make_course
from ML_processing.data import Data
from ML_processing.description import describe
from ML_processing.loop import Monitor, fit
from ML_processing.metrics import auc
from ML_processing.run import (
    Run,
    build,
    checkpoint_file,
    history_file,
    network_file,
    one_thread,
    shape_of,
    training_file,
)
from ML_processing.splits import factors_of_split, split_count
from ML_processing.storage import save
from ML_processing.survey import Survey
from ML_processing.table import Table
from ML_processing.teams import train_in_parallel, train_together
from ML_processing.tracking import begin, check, finish, following
from MLTools.NanoML.atomic import make_directory, write_json
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.progress import Bar, progress, say
from MLTools.NanoML.runner import usable_cores

if TYPE_CHECKING:
    from MLTools.NanoML.config import Train

__all__ = ["device_of", "is_trained", "prepare", "train", "train_fold"]

_FEW = 20_000  # events without objects that are learned in seconds

Report = Callable[[list[dict[str, Any]], str], None]


def train(files: Sequence[Path], config: Train, directory: Path) -> dict[str, Any]:
    """Train the networks of all folds, and describe them.

    A directory that holds a training of the same events with the same settings is continued where it was
    interrupted: finished folds stay, an unfinished one goes on from its last checkpoint. Any other training
    there is replaced.

    Parameters
    ----------
    files
        HDF5 files of the conversion.
    config
        The section `train` of the configuration.
    directory
        Where network_I.pt, history_I.json, training.json, loss.png and loss.pdf are written.

    Returns
    -------
    On events not trained on: AUC of the signal against the rest (auc) and its error (auc_error), or of a regression
    the root of the mean squared error (rmse) of each target.

    Raises
    ------
    NanoMLError
        The events cannot be trained on, or the loss is not a finite number.
    """
    check(config.tracking)
    device = device_of(config)
    data = Data.open(files, config)
    k, _ = split_count(config.folds)
    table, survey = data.sample(config.memory, k)
    description = describe(table, survey, files, config, device)
    for note in description["notes"]:
        say(f"train: {note}")
    folds = range(description["folds"]["networks"])
    for fold in folds:  # what is wrong with any of them is known before the first epoch
        factors_of_split(survey, fold)
    with torch.random.fork_rng(devices=[]):
        build(description)
    prepare(directory, description)
    begin(config.tracking, directory, directory.parent, directory.name, description)
    todo = [fold for fold in folds if not is_trained(directory, fold)]
    for fold in sorted(set(folds) - set(todo)):
        checkpoint_file(directory, fold).unlink(missing_ok=True)
        say(f"train: network {fold + 1} of {len(folds)} is trained already.")
    workers = (
        min(config.workers or _sensible_workers(table, survey), len(todo)) if device.type == "cpu" else 1
    )
    if todo and config.processes > 1:
        train_together(files, config, directory, todo)
    elif workers > 1:
        train_in_parallel(files, config, directory, todo, workers)
    else:
        for fold in todo:
            with progress(f"train network {fold + 1} of {len(folds)}", config.epochs, "epochs") as bar:
                train_fold(data, table, survey, config, directory, fold, device, _shown_by(bar))
    return _finish(table, description, directory)


def _shown_by(bar: Bar) -> Report:
    return lambda entries, note: bar.advance(len(entries), note)


def _sensible_workers(table: Table, survey: Survey) -> int:
    """One where the networks are trained before a process has begun, else as many as there are cores."""
    numbers = survey.counts.sum() * sum(it.max * len(it.fields) for it in table.about.collections)
    return usable_cores() if survey.counts.sum() + numbers > _FEW else 1


def device_of(config: Train) -> torch.device:
    """Where to compute.

    Raises
    ------
    ConfigError
        There is no such device here.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("train.device: there is no usable GPU here (CUDA). Use auto or cpu.")
    device = torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")
    if device.type == "cuda" and config.processes > torch.cuda.device_count():
        raise ConfigError(
            f"train.processes: {config.processes}, but there are {torch.cuda.device_count()} GPUs here."
        )
    return device


def prepare(directory: Path, description: dict[str, Any]) -> None:
    """Make `directory` ready for this training; what another one left there goes."""
    path = training_file(make_directory(directory))
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        before = {}
    if before.get("fingerprint") == description["fingerprint"]:
        return
    for pattern in ("network_*.pt", "history_*.json", "checkpoint_*.pt"):
        for outdated in directory.glob(pattern):
            outdated.unlink()
    write_json(path, description)


def is_trained(directory: Path, fold: int) -> bool:
    """Whether the network of a fold is finished."""
    return network_file(directory, fold).is_file() and history_file(directory, fold).is_file()


def train_fold(
    data: Data,
    table: Table,
    survey: Survey,
    config: Train,
    directory: Path,
    fold: int,
    device: torch.device,
    report: Report,
) -> None:
    """Train one network of a training whose description is in `directory` already.

    Parameters
    ----------
    data, table, survey
        The files, and what `Data.sample` gave.
    config
        The section `train`.
    directory
        Of the training.
    fold
        Number of the network.
    device
        Where to compute.
    report
        Is called with the entries of epochs that are done, and a note on where it is.

    Raises
    ------
    NanoMLError
        The loss is not a finite number.
    """
    description = json.loads(training_file(directory).read_text(encoding="utf-8"))
    checkpoint = checkpoint_file(directory, fold)
    with (
        one_thread(),
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        following(config.tracking, directory, fold, report) as followed,
    ):
        torch.manual_seed(config.seed * 1000 + fold)
        network = build(description)
        course = make_course(data, table, survey, network, fold, config, device)
        signal = description["classes"].index(description["signal"])
        monitor = Monitor(fold, shape_of(description), signal, checkpoint, followed)
        network.core.to(device)  # events are scaled on the CPU, as they are read
        history = fit(network.core, course, config, monitor, device)
    if distributed.rank() == 0:
        write_json(history_file(directory, fold), history)
        save(network.cpu().state_dict(), network_file(directory, fold))
        checkpoint.unlink(missing_ok=True)


def _finish(table: Table, description: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Measure the networks on the events that they have not seen, plot the losses, and call it complete."""
    run = Run.of(directory, description)
    with one_thread():
        rows, scores = run.out_of_fold(table)
    plots.save(plots.losses(run.histories), directory / "loss")
    if run.targets:
        distance = scores.astype(np.float64) - table.targets()[rows]
        error = np.sqrt((distance**2).mean(axis=0)).tolist()
        metrics: dict[str, Any] = {"rmse": dict(zip(run.targets, error, strict=True))}
        text = ", ".join(f"{name} to {value:.4g}" for name, value in metrics["rmse"].items())
    else:
        measured = auc(scores[:, run.signal], table.labels[rows] == run.signal, table.weights[rows])
        metrics = {"auc": measured.value, "auc_error": measured.error}
        text = f"AUC {plots.number(measured)} of {description['signal']} against the rest"
    write_json(training_file(directory), {**description, "complete": True, "metrics": metrics})
    finish(run.description["config"]["tracking"], directory, metrics)
    say(f"train: {text}, on events not trained on.")
    return metrics
