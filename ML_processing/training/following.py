"""What goes along with a training: environment.json, which says what it ran in, and its followers, as a tracker of experiments is one."""

from __future__ import annotations

import functools
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ML_processing.training.description import Epoch, TrainingDescription, git_state, now, versions
from ML_processing.training.loop import Report, rank
from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.extending import entries, loaded
from MLTools.NanoML.parallel import usable_cores

if TYPE_CHECKING:
    from MLTools.NanoML.config.evaluation import Tune
    from MLTools.NanoML.config.training import Train

# variables that identify the batch job and the release
_JOB = ("SLURM_JOB_ID", "_CONDOR_JOB_AD", "CMSSW_VERSION", "SCRAM_ARCH")


class FollowerError(NanoMLError):
    """A follower cannot begin: neither can any other training that it is to follow."""


class Follower:
    """Follows trainings with the settings `train`; its methods do nothing.

    Extensions derive from it what records trainings elsewhere, and name that in the registry "followers".
    """

    def __init__(self, train: Train) -> None:
        self.train = train

    def check(self) -> None:
        """Raise a ConfigError if it lacks something."""

    def prepare(self, workdir: Path) -> None:
        """Make what the trainings of a work directory share, before several processes begin; it may raise a FollowerError."""

    def begin(self, directory: Path, workdir: Path, name: str, description: TrainingDescription) -> None:
        """Follow the training in `directory` from now on, or again; `name` is that in its work directory. It may raise a FollowerError."""

    def epochs(self, directory: Path, fold: int) -> AbstractContextManager[Callable[[list[Epoch]], object]]:
        """Give what is called with the epochs of one network, as they are done."""
        return nullcontext(lambda _: None)

    def finish(self, directory: Path, metrics: Mapping[str, object], state: str = "FINISHED") -> None:
        """Take the final numbers and the files of a training, and how it ended: FINISHED or FAILED."""

    def end(self, directory: Path, state: str) -> None:
        """Know that a training ended before that: FAILED or KILLED."""

    def add(self, directory: Path, files: Sequence[Path]) -> None:
        """Take files made from the finished training in `directory`: the report, the model."""

    def beside(self, tune: Tune | None) -> Train:
        """The settings of trainings that belong to this one: trials of `tune`, or repeats. Some followers leave them alone."""
        return self.train


def followers(train: Train) -> list[Follower]:
    """All that follow trainings with these settings."""
    return [loaded(place)(train) for place in entries("followers").values()]


def beside(train: Train, tune: Tune | None = None) -> Train:
    """The settings of trials of `tune`, or of repeats, as the followers of the training have them."""
    for place in entries("followers").values():
        train = loaded(place)(train).beside(tune)
    return train


def begin(train: Train, directory: Path, workdir: Path, name: str, description: TrainingDescription) -> None:
    """Write environment.json, and let the followers begin; the arguments and errors are those of `Follower.begin`."""
    write_json(directory / "environment.json", _environment())
    for it in followers(train):
        it.begin(directory, workdir, name, description)


@contextmanager
def following(train: Train, directory: Path, fold: int, report: Report) -> Iterator[Report]:
    """Let the followers know the epochs of one network: use what this yields instead of `report`."""
    with ExitStack() as stack:
        heard = [stack.enter_context(it.epochs(directory, fold)) for it in followers(train) if rank() == 0]

        def told(epochs: list[Epoch], note: str) -> None:
            for each in heard:
                each(epochs)
            report(epochs, note)

        yield told if heard else report


@contextmanager
def ending(train: Train, directory: Path) -> Iterator[None]:
    """Let the followers know that a training failed or was interrupted, if the block ends like that."""
    try:
        yield
    except ConfigError:  # nothing has begun
        raise
    except BaseException as problem:
        for it in followers(train):
            it.end(directory, "FAILED" if isinstance(problem, Exception) else "KILLED")
        raise


def finish(train: Train, directory: Path, metrics: Mapping[str, object], state: str = "FINISHED") -> None:
    """Give the followers the final numbers of a training, and how it ended: FINISHED or FAILED."""
    for it in followers(train):
        it.finish(directory, metrics, state)


def add(directory: Path, files: Sequence[Path]) -> None:
    """Give the followers files made from the finished training in `directory`."""
    for it in followers(TrainingDescription.read(directory).config):
        it.add(directory, files)


def _environment() -> dict[str, object]:
    """The command, the code, the machine and all installed packages: content of environment.json."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else range(0)
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
        "packages": _packages(),
    }


@functools.cache
def _packages() -> dict[str, str]:
    """The versions of all installed packages: to read them takes longer than a small training, and they do not change meanwhile."""
    files = [it.metadata for it in metadata.distributions()]  # which each access would read again
    packages = {it["Name"]: it["Version"] for it in files if it["Name"]}
    return dict(sorted(packages.items(), key=lambda it: it[0].lower()))
