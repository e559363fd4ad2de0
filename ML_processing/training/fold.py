"""The kernel of a training: one network, and what the networks are worth on events that they have not seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ML_processing.events.data import Data
from ML_processing.events.survey import Survey
from ML_processing.events.table import Table
from ML_processing.events.training_data import make_course
from ML_processing.metrics.roc import auc
from ML_processing.training import distributed
from ML_processing.training.loop import Monitor, fit
from ML_processing.training.run import (
    Run,
    build,
    checkpoint_file,
    history_file,
    network_file,
    one_thread,
    shape_of,
    training_file,
)
from ML_processing.training.storage import save
from MLTools.NanoML.atomic import make_directory, write_json
from MLTools.NanoML.errors import ConfigError

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train

__all__ = ["Report", "device_of", "is_trained", "measure", "prepare", "train_fold"]

Report = Callable[[list[dict[str, Any]], str], None]


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
    ):
        torch.manual_seed(config.seed * 1000 + fold)
        network = build(description)
        course = make_course(data, table, survey, network, fold, config, device)
        signal = description["classes"].index(description["signal"])
        monitor = Monitor(fold, shape_of(description), signal, checkpoint, report)
        network.core.to(device)  # events are scaled on the CPU, as they are read
        history = fit(network.core, course, config, monitor, device)
    if distributed.rank() == 0:
        write_json(history_file(directory, fold), history)
        save(network.cpu().state_dict(), network_file(directory, fold))
        checkpoint.unlink(missing_ok=True)


def measure(run: Run, table: Table) -> dict[str, Any]:
    """What finished networks are worth on the events that they have not seen: auc and auc_error, or rmse of each target."""
    with one_thread():
        rows, scores = run.out_of_fold(table)
    if run.targets:
        distance = scores.astype(np.float64) - table.targets()[rows]
        error = np.sqrt((distance**2).mean(axis=0)).tolist()
        return {"rmse": dict(zip(run.targets, error, strict=True))}
    measured = auc(scores[:, run.signal], table.labels[rows] == run.signal, table.weights[rows])
    return {"auc": measured.value, "auc_error": measured.error}
