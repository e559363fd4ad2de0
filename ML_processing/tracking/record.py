"""Records a training, by the names in `train.tracking`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ML_processing.tracking.boards import Board
from ML_processing.tracking.environment import environment
from ML_processing.tracking.flow import Flow
from ML_processing.tracking.flow import prepare as prepare_flow
from ML_processing.training.description import Epoch, TrainingDescription
from ML_processing.training.loop import Report, rank
from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.installation import how_to_install

__all__ = ["add", "begin", "check", "ending", "finish", "following", "prepare"]

_NEEDS = {"mlflow": ("mlflow", "sqlalchemy", "alembic"), "tensorboard": ("tensorboard",)}


def check(trackers: Sequence[str]) -> None:
    """Make sure that what `train.tracking` names is installed.

    Raises
    ------
    ConfigError
        A package is missing.
    """
    for tracker in trackers:
        for package in _NEEDS[tracker]:
            if importlib.util.find_spec(package) is None:
                raise ConfigError(
                    f"train.tracking: {tracker} needs the Python package {package}, which is missing. "
                    f"Install it: {how_to_install(tracker)}."
                )


def prepare(trackers: Sequence[str], workdir: Path) -> None:
    """Make what the trainings of a work directory share, before several processes begin some.

    Raises
    ------
    TrackingError
        MLflow does not answer.
    """
    if "mlflow" in trackers:
        prepare_flow(workdir)


def begin(
    trackers: Sequence[str], directory: Path, workdir: Path, name: str, description: TrainingDescription
) -> None:
    """Write environment.json, and make the records of a training or go on with those that it has.

    Parameters
    ----------
    trackers
        `train.tracking`.
    directory
        Of the training.
    workdir
        The work directory, where MLflow's data base is.
    name
        Of the training among those of the work directory.
    description
        Content of training.json.

    Raises
    ------
    TrackingError
        MLflow does not answer.
    """
    write_json(directory / "environment.json", environment())
    if "mlflow" in trackers:
        Flow.begin(directory, workdir, name, description)


@contextmanager
def following(trackers: Sequence[str], directory: Path, fold: int, report: Report) -> Iterator[Report]:
    """Record the epochs of one network: use what this yields in the place of `report`."""
    if not trackers or rank() != 0:
        yield report
        return
    board = Board(directory, fold) if "tensorboard" in trackers else None
    flow = Flow.of(directory) if "mlflow" in trackers else None
    last = flow.last_epoch(fold) if flow else 0

    def both(epochs: list[Epoch], note: str) -> None:
        if board is not None:
            board.log(epochs)
        if flow is not None:
            flow.log(fold, [epoch for epoch in epochs if epoch.epoch > last])
        report(epochs, note)

    try:
        yield both
    finally:
        if board is not None:
            board.close()


def finish(
    trackers: Sequence[str], directory: Path, metrics: Mapping[str, Any], state: str = "FINISHED"
) -> None:
    """Record the final numbers and the files of a training, and how it ended: FINISHED or FAILED."""
    flow = Flow.of(directory) if "mlflow" in trackers else None
    if flow is not None:
        flow.add(_files(directory))
        flow.finish(_numbers(metrics), state)


@contextmanager
def ending(trackers: Sequence[str], directory: Path) -> Iterator[None]:
    """Record that a training failed or was interrupted, if the block ends so."""
    try:
        yield
    except ConfigError:  # nothing has begun
        raise
    except BaseException as problem:
        flow = Flow.of(directory) if "mlflow" in trackers else None
        if flow is not None:
            flow.end("FAILED" if isinstance(problem, Exception) else "KILLED")
        raise


def add(directory: Path, files: Sequence[Path]) -> None:
    """Record files that were made of the finished training in `directory`: the report, the model."""
    trackers = TrainingDescription.read(directory).config.tracking
    flow = Flow.of(directory) if "mlflow" in trackers else None
    if flow is not None:
        flow.add(files)


def _files(directory: Path) -> list[Path]:
    names = ("training.json", "environment.json", "network_*.pt", "history_*.json", "loss.*")
    return [path for name in names for path in sorted(directory.glob(name))]


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """All numbers of nested mappings."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{key}": number for key, number in _numbers(value).items()}
        elif isinstance(value, (int, float)):
            found[name] = float(value)
    return found
