"""How tasks are put into jobs, and what each job asks for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from MLTools.NanoML.batch.resources import Resources, duration
from MLTools.NanoML.config.batch import Batch, Needs
from MLTools.NanoML.rootio.remote.url import is_remote
from MLTools.NanoML.workflow.stages import NAMES, declared
from MLTools.NanoML.workflow.task import Task

__all__ = ["Group", "Grouping"]

_OVERHEAD = 10.0  # seconds for each file, whatever its size
_UNKNOWN = 500e6  # bytes of a file of which nothing is known
_MARGIN = 3.0  # machines differ
_SHORTEST = 1200  # seconds that any job may ask for


@dataclass(frozen=True)
class Group:
    """Tasks that make one job, and what it asks for."""

    tasks: Sequence[Task]
    resources: Resources


@dataclass(frozen=True)
class Grouping:
    """The rule by which tasks become jobs.

    Attributes
    ----------
    batch
        The section of the configuration.
    sizes
        Sizes of remote files, as far as they are known [B].
    lacked
        What jobs before had too little of: tasks, as "skim WZ/0", and kinds of problems; and what they had.
    """

    batch: Batch
    sizes: Mapping[str, int] = field(default_factory=dict)
    lacked: Mapping[str, tuple[str, Resources]] = field(default_factory=dict)

    def groups(self, stage: str, tasks: Sequence[Task]) -> Iterator[Group]:
        """The jobs of a stage."""
        again = [task for task in tasks if f"{stage} {task.name}" in self.lacked]
        for task in again:  # alone, so that it does not take more than it needs for others
            kind, before = self.lacked[f"{stage} {task.name}"]
            yield Group([task], self.wanted(stage, [task], before.after(kind)))
        others = [task for task in tasks if f"{stage} {task.name}" not in self.lacked]
        if others:
            pieces = self._pieces(stage, others)
            resources = [self.wanted(stage, piece) for piece in pieces]
            # jobs of a stage ask for the same, so that they can be one array
            time = max(each.time for each in resources)
            yield from (Group(piece, Resources(**{**vars(resources[0]), "time": time})) for piece in pieces)

    def _pieces(self, stage: str, tasks: Sequence[Task]) -> list[list[Task]]:
        speed = _speed(stage)
        if speed is None:
            return [[task] for task in tasks]
        if self.batch.files_per_job is not None:
            most = self.batch.files_per_job
            return [list(tasks[begin : begin + most]) for begin in range(0, len(tasks), most)]
        pieces: list[list[Task]] = []
        target, filled = duration(self.batch.job_time), 0.0
        for task in tasks:
            seconds = self._seconds(task, speed)
            if not pieces or filled + seconds > target:
                pieces.append([])
                filled = 0.0
            pieces[-1].append(task)
            filled += seconds
        return pieces

    def _seconds(self, task: Task, speed: float) -> float:
        size = sum(self._size(path) for path in task.inputs if path.endswith(".root"))
        return _OVERHEAD + size / speed

    def _size(self, path: str) -> float:
        if path in self.sizes:
            return self.sizes[path]
        if is_remote(path):
            return _UNKNOWN
        try:
            return os.path.getsize(path)
        except OSError:  # an earlier stage makes it
            return _UNKNOWN / 20

    def wanted(self, stage: str, tasks: Sequence[Task] = (), least: Optional[Resources] = None) -> Resources:
        """What a job of these tasks asks for: what the configuration says, else what is usual or follows from sizes."""
        needs, batch = self.batch.stages.get(stage, Needs()), self.batch
        usual = declared(stage if stage in NAMES else "train").resources  # a search is of trainings
        time, speed = usual.time, _speed(stage)
        if speed is not None:
            time = max(_SHORTEST, round(_MARGIN * sum(self._seconds(task, speed) for task in tasks)))
        text = needs.time or batch.time
        found = Resources(
            duration(text) if text else time,
            needs.memory or batch.memory or usual.memory,
            needs.cores or usual.cores,
            needs.gpus or 0,
            needs.disk or batch.disk or usual.disk,
        )
        if least is None:
            return found
        return Resources(**{name: max(value, getattr(least, name)) for name, value in vars(found).items()})


def _speed(stage: str) -> Optional[float]:
    """How fast a stage with a task for each file reads [B/s]."""
    return declared(stage).speed if stage in NAMES else None
