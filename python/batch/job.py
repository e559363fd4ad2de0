"""A job as files: what it does, `jobs/NAME.json`, and what it leaves, `results/NAME.json`.

A job is tasks that one process on one machine does one after the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.batch.codec import decode, encode
from MLTools.NanoML.batch.problems import JobProblem
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.workflow.task import Stamp, Task

__all__ = ["Attempt", "Job", "JobResult", "OutputFile", "TaskResult", "url_of"]

_VERSION = 1


@dataclass(frozen=True)
class Job:
    """What one job does."""

    name: str  # unique in its submission, made of letters, digits and "-": "skim-0003"
    stage: str  # the stage of its tasks
    workdir: str  # the work directory of the analysis, on the submitting machine
    base: str  # the directory of its YAML file, likewise
    tasks: Sequence[Any] = ()  # what it does, as `encode` writes it
    command: Sequence[str] = ()  # arguments of `nanoml`, instead of tasks
    # if workers do not see the files of the submitting machine: patterns of paths, and the URLs by which
    # workers reach them. Otherwise None
    storage: Optional[Mapping[str, str]] = None
    proxy: bool = False  # whether it needs a grid proxy
    environment: Mapping[str, str] = field(default_factory=dict)  # variables that it sets

    @classmethod
    def of(cls, name: str, tasks: Sequence[Task], **others: Any) -> Job:
        """The job that does these tasks."""
        return cls(name, tasks[0].stage, tasks=[encode(task) for task in tasks], **others)

    def decoded(self, rename: Callable[[str], str] = lambda text: text) -> list[Task]:
        """Its tasks, with paths changed by `rename`."""
        return [decode(task, rename) for task in self.tasks]

    def recorded(self) -> list[Task]:
        """Its tasks as they were submitted, but without their work, whose code need not be imported."""
        names = ("stage", "name", "inputs", "outputs", "settings", "code")
        return [Task(**{name: decode(task["fields"][name]) for name in names}, work=dict) for task in self.tasks]

    def write(self, path: Path) -> None:
        """Write it as JSON, one task per line, into a directory that is not in use yet."""
        head = {it.name: getattr(self, it.name) for it in fields(self) if it.name != "tasks"}
        lines = [json.dumps({"schema": _VERSION, **head}, allow_nan=False)[:-1] + ', "tasks": [']
        lines.append(",\n".join(json.dumps(task, allow_nan=False) for task in self.tasks))
        path.write_text("\n".join([*lines, "]}\n"]), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read what `write` wrote; an error if it cannot be read, or was written by another version."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("schema") != _VERSION:
                raise ValueError("it was written by another version of NanoML: submit it again")
            return cls(**content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise NanoMLError(f"{path}: is not a job of this version of NanoML ({problem}).") from None


def url_of(path: str, storage: Mapping[str, str]) -> Optional[str]:
    """The URL by which a worker reaches a file of the submitting machine; None if it cannot.

    Parameters
    ----------
    path
        The file.
    storage
        Regular expressions for the beginnings of paths, and what replaces them in the URL: "/eos/user/" and
        "root://eosuser.cern.ch//eos/user/".
    """
    for pattern, url in storage.items():
        found = re.match(pattern, path)
        if found:
            return found.expand(url) + path[found.end() :]
    return None


@dataclass(frozen=True)
class OutputFile:
    """A file that a task made."""

    path: str  # where it is for the submitting machine
    size: int  # its size [B]
    modified: int  # time of its last change [ns since 1970], on the worker
    adler32: str  # its Adler-32 checksum, as 8 hexadecimal digits


@dataclass(frozen=True)
class TaskResult:
    """What became of one task."""

    state: str  # "done" or "failed"
    inputs: tuple[Stamp, ...] = ()  # versions of the inputs, as `task.stamps` has them
    outputs: tuple[OutputFile, ...] = ()  # what it made
    summary: Mapping[str, Any] = field(default_factory=dict)  # what its work returned: accounting, counts
    seconds: float = 0.0  # how long it took
    memory: int = 0  # peak memory of the process until then [MB]
    # host, finished: where and when
    host: str = ""
    finished: str = ""
    problem: Optional[JobProblem] = None  # why it failed

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TaskResult:
        """Undo `dataclasses.asdict`."""
        inputs = tuple(Stamp(**stamp) for stamp in content["inputs"])
        outputs = tuple(OutputFile(**output) for output in content["outputs"])
        problem = _problem(content["problem"])
        return cls(**{**content, "inputs": inputs, "outputs": outputs, "problem": problem})


@dataclass(frozen=True)
class Attempt:
    """An earlier attempt at a job: where it ran, and why it failed (a kind of problem, and a message)."""

    host: str
    kind: str
    message: str


@dataclass
class JobResult:
    """What became of one job."""

    job: str  # its name
    # "running", "done", "failed", or "stopped" if it was told to stop before it was done
    state: str = "running"
    # results of its tasks by name; tasks that it did not get to are absent
    tasks: dict[str, TaskResult] = field(default_factory=dict)
    # host, process, batch: where it ran, and its identifier in the batch system
    host: str = ""
    process: int = 0
    batch: str = ""
    # started, finished: seconds since 1970; finished is 0 until it ends
    started: float = 0.0
    finished: float = 0.0
    exit_code: Optional[int] = None  # the exit code of the job; None until it ends
    problem: Optional[JobProblem] = None  # what is wrong with the job as a whole
    earlier: list[Attempt] = field(default_factory=list)  # attempts before this one

    @property
    def has_ended(self) -> bool:
        """Whether the job itself wrote that it has ended."""
        return self.state != "running"

    @property
    def done(self) -> int:
        """How many of its tasks are done."""
        return sum(task.state == "done" for task in self.tasks.values())

    @property
    def problems(self) -> list[JobProblem]:
        """All reasons for failure: first that of the job as a whole, then those of its tasks."""
        found = (self.problem, *(task.problem for task in self.tasks.values()))
        return [problem for problem in found if problem is not None]

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_json(path, {"schema": _VERSION, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> Optional[JobResult]:
        """Read what `write` wrote; None if there is no such file, or it cannot be read."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("schema", _VERSION) != _VERSION:  # the first release wrote no version
                return None
            tasks = {name: TaskResult.from_dict(record) for name, record in content["tasks"].items()}
            earlier = [Attempt(**attempt) for attempt in content["earlier"]]
            changes = {"tasks": tasks, "problem": _problem(content["problem"]), "earlier": earlier}
            return cls(**{**content, **changes})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


def _problem(content: Optional[Mapping[str, Any]]) -> Optional[JobProblem]:
    return JobProblem(**content) if content else None
