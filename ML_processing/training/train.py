"""Training of one network per fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ML_processing import plots
from ML_processing.events.data import Data
from ML_processing.events.splits import factors_of_split, split_count
from ML_processing.events.survey import Survey
from ML_processing.events.table import Table
from ML_processing.metrics.measured import Measured
from ML_processing.tracking import begin, check, finish, following
from ML_processing.training.description import describe
from ML_processing.training.fold import Report, device_of, is_trained, measure, prepare, train_fold
from ML_processing.training.parallel import train_in_parallel, train_together
from ML_processing.training.run import (
    Run,
    build,
    checkpoint_file,
    training_file,
)
from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.parallel import usable_cores
from MLTools.NanoML.terminal.progress import Bar, progress, say

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train

__all__ = ["train"]

_FEW = 20_000  # events without objects that are learned in seconds


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
            with (
                progress(f"train network {fold + 1} of {len(folds)}", config.epochs, "epochs") as bar,
                following(config.tracking, directory, fold, _shown_by(bar)) as report,
            ):
                train_fold(data, table, survey, config, directory, fold, device, report)
    return _finish(table, description, directory)


def _shown_by(bar: Bar) -> Report:
    return lambda entries, note: bar.advance(len(entries), note)


def _sensible_workers(table: Table, survey: Survey) -> int:
    """One where the networks are trained before a process has begun, else as many as there are cores."""
    numbers = survey.counts.sum() * sum(it.max * len(it.fields) for it in table.about.collections)
    return usable_cores() if survey.counts.sum() + numbers > _FEW else 1


def _finish(table: Table, description: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Measure the networks, plot the losses, and call the training complete."""
    run = Run.of(directory, description)
    metrics = measure(run, table)
    plots.save(plots.losses(run.histories), directory / "loss")
    if run.targets:
        text = ", ".join(f"{name} to {value:.4g}" for name, value in metrics["rmse"].items())
    else:
        measured = Measured(metrics["auc"], metrics["auc_error"])
        text = f"AUC {plots.number(measured)} of {description['signal']} against the rest"
    write_json(training_file(directory), {**description, "complete": True, "metrics": metrics})
    finish(run.description["config"]["tracking"], directory, metrics)
    say(f"train: {text}, on events not trained on.")
    return metrics
