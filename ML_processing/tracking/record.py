"""Records a training where `train.tracking` says: MLflow, TensorBoard; and in environment.json, what it ran in."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ML_processing.tracking.mlflow_run import MLflowRun
from ML_processing.tracking.mlflow_run import prepare as prepare_mlflow
from ML_processing.training.description import Epoch, TrainingDescription, git_state, now, versions
from ML_processing.training.loop import Report, rank
from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.installation import how_to_install
from MLTools.NanoML.parallel import usable_cores

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

# variables that identify the batch job and the release
_JOB = ("SLURM_JOB_ID", "_CONDOR_JOB_AD", "CMSSW_VERSION", "SCRAM_ARCH")
_NEEDS = {"mlflow": ("mlflow", "sqlalchemy", "alembic"), "tensorboard": ("tensorboard",)}


def check(trackers: Sequence[str]) -> None:
    """Make sure that the packages behind `train.tracking` are installed; a ConfigError if one is missing."""
    for tracker in trackers:
        for package in _NEEDS[tracker]:
            if importlib.util.find_spec(package) is None:
                raise ConfigError(
                    f"train.tracking: {tracker} needs the Python package {package}, which is missing. "
                    f"Install it: {how_to_install(tracker)}."
                )


def prepare(trackers: Sequence[str], workdir: Path) -> None:
    """Make what the trainings of a work directory share, before several processes begin.

    A TrackingError says that MLflow does not answer.
    """
    if "mlflow" in trackers:
        prepare_mlflow(workdir)


def begin(trackers: Sequence[str], directory: Path, workdir: Path, name: str, description: TrainingDescription) -> None:
    """Write environment.json, and begin the records of a training or continue those that it has.

    `name` is that of the training in its work directory. A TrackingError says that MLflow does not answer.
    """
    write_json(directory / "environment.json", _environment())
    if "mlflow" in trackers:
        MLflowRun.begin(directory, workdir, name, description)


@contextmanager
def following(trackers: Sequence[str], directory: Path, fold: int, report: Report) -> Iterator[Report]:
    """Record the epochs of one network: use what this yields instead of `report`."""
    if not trackers or rank() != 0:
        yield report
        return
    board = _tensorboard(directory / "tensorboard" / f"fold_{fold}") if "tensorboard" in trackers else None
    run = _run(trackers, directory)
    last = run.last_epoch(fold) if run else 0

    def both(epochs: list[Epoch], note: str) -> None:
        if board is not None:
            for epoch in epochs:
                for name, value in epoch.metrics.items():
                    board.add_scalar(name, value, epoch.epoch)
            board.flush()
        if run is not None:
            run.log(fold, [epoch for epoch in epochs if epoch.epoch > last])
        report(epochs, note)

    try:
        yield both
    finally:
        if board is not None:
            board.close()


def finish(trackers: Sequence[str], directory: Path, metrics: Mapping[str, Any], state: str = "FINISHED") -> None:
    """Record the final numbers and the files of a training, and how it ended: FINISHED or FAILED."""
    run = _run(trackers, directory)
    if run is not None:
        names = ("training.json", "environment.json", "network_*.pt", "history_*.json", "weights_*.json", "loss.*")
        run.add([path for name in names for path in sorted(directory.glob(name))])
        run.finish(_numbers(metrics), state)


@contextmanager
def ending(trackers: Sequence[str], directory: Path) -> Iterator[None]:
    """Record that a training failed or was interrupted, if the block ends like that."""
    try:
        yield
    except ConfigError:  # nothing has begun
        raise
    except BaseException as problem:
        run = _run(trackers, directory)
        if run is not None:
            run.end("FAILED" if isinstance(problem, Exception) else "KILLED")
        raise


def add(directory: Path, files: Sequence[Path]) -> None:
    """Record files made from the finished training in `directory`: the report, the model."""
    run = _run(TrainingDescription.read(directory).config.tracking, directory)
    if run is not None:
        run.add(files)


def _run(trackers: Sequence[str], directory: Path) -> MLflowRun | None:
    return MLflowRun.of(directory) if "mlflow" in trackers else None


def _environment() -> dict[str, Any]:
    """The command, the code, the machine and all installed packages: content of environment.json."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else range(0)
    packages = {it.metadata["Name"]: it.version for it in metadata.distributions() if it.metadata["Name"]}
    return {
        "created": now(),
        "command": sys.argv,
        "directory": os.getcwd(),
        "git": git_state(),
        "versions": versions(),
        "host": platform.node(),
        "system": platform.platform(),
        "cores": usable_cores(),
        "gpus": [torch.cuda.get_device_name(i) for i in gpus],
        "job": {name: os.environ[name] for name in _JOB if name in os.environ},
        "packages": dict(sorted(packages.items(), key=lambda it: it[0].lower())),
    }


def _tensorboard(directory: Path) -> SummaryWriter:
    """Event files of one network; older ones are removed, since an interrupted training reports its epochs again."""
    from torch.utils.tensorboard import SummaryWriter

    for outdated in directory.glob("events.out.tfevents.*"):
        outdated.unlink()
    return SummaryWriter(str(directory))


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """All numbers of nested mappings."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{key}": number for key, number in _numbers(value).items()}
        elif isinstance(value, (int, float)):
            found[name] = float(value)
    return found
