"""Workers of a search: processes that do trials beside each other, and are replaced when they are killed."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NoReturn

from ML_processing.tuning.space import Space
from ML_processing.tuning.study import Study
from ML_processing.tuning.trial import Material, work
from MLTools.NanoML.config.training import Tune
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.parallel import begin_worker
from MLTools.NanoML.terminal.progress import say

__all__ = ["Job", "Team"]

_PATIENCE = 10.0  # seconds for a worker to put its trial back
_DEATHS = 3  # of each worker without any progress in between, before it is given up


@dataclass(frozen=True)
class Job:
    """What a worker is to do; it can be sent to another process.

    Attributes
    ----------
    files
        HDF5 files.
    tune
        The section `tune`.
    space
        What is varied, and the section `train`.
    directory
        Of the search.
    data
        Hash of the events.
    most
        How many trials there are to be in all.
    deadline
        When to stop, as time.time() counts; None to go on to the end.
    """

    files: Sequence[Path]
    tune: Tune
    space: Space
    directory: Path
    data: str
    most: int
    deadline: float | None

    def study(self) -> Study:
        """The search, joined."""
        return Study.open(self.directory, self.space, self.tune, self.data)


class Team:
    """Processes that do a job.

    Parameters
    ----------
    job
        What they do.
    size
        How many they are.
    """

    def __init__(self, job: Job, size: int) -> None:
        self._job, self._size = job, size
        self._context = multiprocessing.get_context("spawn")
        self._members: list[tuple[SpawnProcess, Connection]] = []
        self._deaths = 0

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *problem: object) -> None:
        for process, _ in self._members:
            process.terminate()  # puts its trial back
        for process, _ in self._members:
            process.join(_PATIENCE)
            process.kill()  # what is left of it can be lost: another goes on with its trial
            process.join()

    @property
    def size(self) -> int:
        """How many are at work."""
        return len(self._members)

    def got_on(self) -> None:
        """Tell that trials have got on since, so that it is worth replacing those that are killed."""
        self._deaths = 0

    def fill(self) -> None:
        """Start as many as are missing."""
        while len(self._members) < self._size:
            mine, theirs = self._context.Pipe(duplex=False)
            process = self._context.Process(target=_member, args=(self._job, theirs))
            process.start()
            theirs.close()
            self._members.append((process, mine))

    def check(self) -> None:
        """Take those that have ended from the list.

        Raises
        ------
        NanoMLError
            One could not go on, or they are killed again and again.
        """
        for member in list(self._members):
            process, pipe = member
            if process.is_alive():
                continue
            process.join()
            self._members.remove(member)
            if process.exitcode != 0:
                self._explain(process, pipe)

    def _explain(self, process: SpawnProcess, pipe: Connection) -> None:
        try:
            kind, text = pipe.recv()
        except EOFError:
            kind, text = "", ""
        if text:
            raise ConfigError(text) if kind == "ConfigError" else NanoMLError(text)
        number = process.exitcode or 0
        if number > 0:
            raise NanoMLError(f"tune: a worker ended with {number}, see above. The same command goes on.")
        self._deaths += 1
        if self._deaths > _DEATHS * self._size:
            raise NanoMLError(
                "tune: workers are killed again and again, maybe for lack of memory: use fewer --workers, or lower "
                "train.memory. The same command goes on."
            )
        say(f"tune: a worker was killed ({signal.Signals(-number).name}); another goes on with its trial.")


def _member(job: Job, pipe: Connection) -> None:
    begin_worker()
    signal.signal(signal.SIGTERM, _ended)
    try:
        work(
            Material.read(job.files, job.space.train),
            job.study(),
            job.most,
            job.deadline,
            lambda _: None,
        )
    except NanoMLError as problem:
        pipe.send((type(problem).__name__, str(problem)))
        raise SystemExit(1) from None


def _ended(number: int, frame: object) -> NoReturn:
    raise SystemExit(0)
