"""One trial: a network is trained with the settings to be tried, without the events that will test the result."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optuna
import torch
from optuna.trial import TrialState

from ML_processing.events.columns import TrainingColumns, agreed_columns
from ML_processing.events.data import Table
from ML_processing.events.survey import Survey, split_count
from ML_processing.metrics.significance import ExpectedEvents
from ML_processing.models.network import heads_of
from ML_processing.training.data import TrainingFiles
from ML_processing.training.description import Epoch, best_epoch, describe
from ML_processing.training.directory import checkpoint_file, history_file, read_history
from ML_processing.training.fold import device_of, is_trained, prepare, train_fold
from ML_processing.training.following import FollowerError, begin, beside, finish, following
from ML_processing.training.loop import Report
from ML_processing.training.result_training import read_fold
from ML_processing.tuning.space import Space
from ML_processing.tuning.study import HeldTrial, Study
from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.contracts.hdf5 import read_metadata
from MLTools.NanoML.errors import ConfigError, NanoMLError, is_os_error
from MLTools.NanoML.terminal.progress import check_interrupt

if TYPE_CHECKING:
    from MLTools.NanoML.config.evaluation import Tune
    from MLTools.NanoML.config.training import Train

FOLD = 0
"""The network that is trained in a trial: it tests on the fold with this number."""

Note = Callable[[str], object]


class _TimeUpError(Exception):
    """No more time: the trial continues when the search is called again."""


@dataclass(frozen=True)
class _BlindFiles(TrainingFiles):
    """HDF5 files without the events of the test fold, which no trial can read."""

    folds: int
    taken: TrainingColumns  # those of all trials, or of one

    def block(self, number: int) -> Table:
        """The labelled events of a block that are not in the test fold."""
        table = super().block(number)
        return table[np.flatnonzero(table.folds(self.folds) != FOLD)].taking(self.taken)


def columns_of(files: Sequence[Path], space: Space) -> dict[str, TrainingColumns]:
    """The columns for each choice of features, by its JSON text; a ConfigError, with its place, says that one is not in the files."""
    metadata, found = [read_metadata(file) for file in files], {}
    for number, names in enumerate(space.features):
        try:
            train = replace(space.train, features=names)
            columns = agreed_columns(files, metadata, train, heads_of(train.model), everything=False)
        except ConfigError as problem:  # the first are those of the configuration
            raise ConfigError(f"{space.place}: {problem}" if number else str(problem)) from None
        found[json.dumps(names)] = columns
    return found


@dataclass(frozen=True)
class TrialData:
    """The events that the networks are trained on: files, events of all but the test fold, read once for all trials, and the device."""

    files: Sequence[Path]
    data: _BlindFiles
    table: Table
    survey: Survey
    device: torch.device
    columns: Mapping[str, TrainingColumns]  # as `columns_of` gives them

    @classmethod
    def read(cls, files: Sequence[Path], space: Space) -> TrialData:
        """Read the events with the features of all trials; raises NanoMLError if they cannot be trained on."""
        train, columns = space.train, columns_of(files, space)
        folds, found = split_count(train.folds)[0], TrainingFiles.open(files, space.widest)
        data = _BlindFiles(found.files, found.columns, found.rows, found.chunks, found.blocks, folds, found.columns)
        return cls(files, data, *data.sample(train.memory, folds), device_of(train), columns)

    def of(self, train: Train) -> TrialData:
        """The same events with the features of a trial."""
        columns = self.columns[json.dumps(train.features)]
        table = self.table.taking(columns)
        return replace(self, data=replace(self.data, taken=columns), table=table, survey=self.survey.taking(table))

    def expected(self, train: Train, tune: Tune) -> ExpectedEvents | None:
        """The expected events with the test fold, which is as large as any other; None if the metric does not ask for it.

        A NanoMLError says that it is not known.
        """
        if tune.metric != "validation_significance":
            return None
        if not self.table.about.physical:
            raise NanoMLError(
                "tune.metric: validation_significance needs expected numbers of events: give each dataset its cross_section, and "
                "the luminosity. Or use validation_auc."
            )
        folds, networks = split_count(train.folds)
        return ExpectedEvents(self.survey.sums.sum(axis=1) * folds / (folds - 1), networks)


def train_one(
    data: TrialData, train: Train, directory: Path, report: Report, expected: ExpectedEvents | None = None
) -> list[Epoch]:
    """Train the one network of a trial in its directory, or continue an interrupted training; all its epochs.

    They are those of the training on the result of a fit, if there is one, with a loss that is the expected uncertainty. With `expected`
    events they have their significance. A NanoMLError says that the settings do not fit, or that the loss is not a finite number.
    """
    data = data.of(train)
    description = describe(data.table, data.survey, data.files, train, data.device)
    prepare(directory, description)
    workdir = next(parent.parent for parent in directory.parents if parent.name == "tuning")
    name = f"{'trial' if directory.name.isdecimal() else 'tuning'} {directory.name}"
    begin(train, directory, workdir, name, description)
    of_result = None if train.target is None else report
    of_loss = report if of_result is None else lambda _, note: report([], note)
    if not is_trained(directory, FOLD):
        events = data.data, data.table, data.survey
        with following(train, directory, FOLD, of_loss) as followed:
            train_fold(*events, train, directory, FOLD, data.device, followed, expected, of_result, alone=True)
    return read_history(directory, FOLD) if of_result is None else read_fold(directory, FOLD).history


def work(data: TrialData, study: Study, most: int, deadline: float | None, note: Note) -> None:
    """Do trials until `most` have begun or it is later than `deadline`; `note` gets a few words on their state, often.

    An error in the settings of one trial goes into its record, and the search continues. Raises NanoMLError if the
    operating system refuses to write, and the like.
    """
    while (deadline is None or time.time() < deadline) and (held := study.next(most)) is not None:
        try:
            _one(data, study, held, deadline, note)
        except (KeyboardInterrupt, SystemExit):
            held.put_back()
            raise
        except _TimeUpError:
            held.put_back()
            return
        finally:
            held.release()


def _one(data: TrialData, study: Study, held: HeldTrial, deadline: float | None, note: Note) -> None:
    train = beside(replace(study.space.apply(held.values), processes=1), study.tune)
    history: list[Epoch] = []

    def report(epochs: list[Epoch], text: str) -> None:
        check_interrupt()
        history.extend(epochs)
        held.report({it.epoch: _metric(it, study.tune) for it in epochs})
        note(text)
        if deadline is not None and time.time() > deadline:
            raise _TimeUpError

    def close(state: TrialState, found: Sequence[Epoch], value: float | None = None, reason: str = "") -> None:
        best, metric = best_epoch(found) if found else None, study.tune.metric
        held.note(seconds=held.seconds, epochs=len(found), best_epoch=best and best.epoch)
        _tidy(held.directory, found)
        numbers = {metric: best and getattr(best, metric)}
        finish(train, held.directory, numbers, "FAILED" if state == TrialState.FAIL else "FINISHED")
        held.end(state, value, reason)

    try:
        found = train_one(data, train, held.directory, report, data.expected(train, study.tune))
        value = _metric(best_epoch(found), study.tune)
    except optuna.TrialPruned:
        close(TrialState.PRUNED, history)
    except (_TimeUpError, OSError, FollowerError):
        raise
    except Exception as problem:  # also in a network of the user's own: other trials may do well
        if is_os_error(problem.__cause__ or problem):
            raise
        kind = "" if isinstance(problem, NanoMLError) else f"{type(problem).__name__}: "
        close(TrialState.FAIL, history, reason=f"{kind}{problem}")
    else:
        close(TrialState.COMPLETE, found, value)


def _metric(epoch: Epoch, tune: Tune) -> float:
    value = getattr(epoch, tune.metric)
    if value is None or not math.isfinite(value):
        raise NanoMLError(
            f"{tune.metric} is not defined on the validation fold at epoch {epoch.epoch}: the weights of signal or "
            "background do not sum to something positive. Use tune.metric: validation_loss, or more events."
        )
    return float(value)


def _tidy(directory: Path, history: Sequence[Epoch]) -> None:
    """Keep the history of a trial that has ended, but no checkpoint."""
    for phase in ("", "result"):
        checkpoint_file(directory, FOLD, phase).unlink(missing_ok=True)
    if not history_file(directory, FOLD).is_file():
        write_json(history_file(directory, FOLD), [asdict(epoch) for epoch in history])
