"""Training of one network per fold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ML_processing import plots
from ML_processing.data import Table, read
from ML_processing.description import describe
from ML_processing.loop import Events, Monitor, fit
from ML_processing.metrics import auc
from ML_processing.run import (
    Run,
    build,
    checkpoint_file,
    history_file,
    network_file,
    one_thread,
    training_file,
)
from ML_processing.splits import Split, class_factors, make_splits
from ML_processing.storage import save
from MLTools.NanoML.atomic import make_directory, write_json
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.progress import progress, say

if TYPE_CHECKING:
    from MLTools.NanoML.config import Train

__all__ = ["train"]


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
    AUC of the signal against the rest on events not trained on (auc), and its error (auc_error).

    Raises
    ------
    NanoMLError
        The events cannot be trained on, or the loss is not a finite number.
    """
    device = _device(config.device)
    table = read(files)
    for note in table.notes:
        say(f"train: {note}")
    splits = make_splits(table, config.folds)
    description = describe(table, files, config, device)
    _prepare(directory, description)
    for split in splits:
        _train_fold(table, split, config, description, directory, device)
    return _finish(table, description, directory)


def _device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("train.device: there is no usable GPU here (CUDA). Use auto or cpu.")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def _prepare(directory: Path, description: dict[str, Any]) -> None:
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


def _train_fold(
    table: Table,
    split: Split,
    config: Train,
    description: dict[str, Any],
    directory: Path,
    device: torch.device,
) -> None:
    """Train one network, unless it is there already."""
    path, checkpoint = network_file(directory, split.fold), checkpoint_file(directory, split.fold)
    number = f"{split.fold + 1} of {description['folds']['networks']}"
    if path.is_file() and history_file(directory, split.fold).is_file():
        say(f"train: network {number} is trained already.")
        return
    cuda = [device] if device.type == "cuda" else []
    with (
        one_thread(),
        torch.random.fork_rng(devices=cuda),
        progress(f"train network {number}", config.epochs, "epochs") as bar,
    ):
        torch.manual_seed(config.seed * 1000 + split.fold)
        network = build(description)
        network.scaler.fit(table.features[split.training])
        network.to(device)
        factors = class_factors(table.labels[split.training], table.weights[split.training], table.classes)
        training, validation = (
            _events(table, rows, factors, device) for rows in (split.training, split.validation)
        )
        signal = description["classes"].index(description["signal"])
        monitor = Monitor(split.fold, table.names, signal, checkpoint, bar)
        history = fit(network, training, validation, config, monitor)
    write_json(history_file(directory, split.fold), history)
    save(network.cpu().state_dict(), path)
    checkpoint.unlink(missing_ok=True)


def _events(
    table: Table, rows: NDArray[np.int64], factors: NDArray[np.float64], device: torch.device
) -> Events:
    labels = table.labels[rows]
    weights = (table.weights[rows] * factors[labels]).astype(np.float32)
    return Events(*(torch.from_numpy(array).to(device) for array in (table.features[rows], labels, weights)))


def _finish(table: Table, description: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Measure the networks on the events that they have not seen, plot the losses, and call it complete."""
    run = Run.of(directory, description)
    with one_thread():
        rows, scores = run.out_of_fold(table)
    measured = auc(scores[:, run.signal], table.labels[rows] == run.signal, table.weights[rows])
    plots.save(plots.losses(run.histories), directory / "loss")
    metrics = {"auc": measured.value, "auc_error": measured.error}
    write_json(training_file(directory), {**description, "complete": True, "metrics": metrics})
    say(
        f"train: AUC {plots.number(measured)} of {description['signal']} against the rest, on events not trained on."
    )
    return metrics
