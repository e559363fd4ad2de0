"""A submission: the directory with its jobs, what the batch system calls it, and what came of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.atomic import write_json, write_text
from MLTools.NanoML.batch.job import Job
from MLTools.NanoML.batch.resources import Resources
from MLTools.NanoML.batch.result import Result
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import RECORDS

__all__ = ["JOBS", "Entry", "Submission", "submissions_of"]

JOBS = "jobs"
"""Name of the directory of submissions, beside the YAML file, and of that of jobs in a submission."""

_SCHEMA = 1
_FILE = "submission.json"


@dataclass(frozen=True)
class Entry:
    """What one must know of a job to submit it.

    Attributes
    ----------
    name
        Its name.
    stage
        The stage of its tasks.
    tasks
        Their names.
    resources
        What it asks for.
    """

    name: str
    stage: str
    tasks: Sequence[str]
    resources: Resources

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Entry:
        """Undo `dataclasses.asdict`."""
        return cls(**{**content, "resources": Resources(**content["resources"])})


@dataclass
class Submission:
    """Jobs that were submitted together.

    Attributes
    ----------
    directory
        Where everything of it is.
    tag
        Unique name, by which the batch system is asked for it.
    system
        "local", "condor", "slurm" or "crab".
    config, workdir
        The analysis.
    what
        What was submitted: a stage, or pipeline.
    created
        When, in words.
    jobs
        In the order of their stages.
    options
        What the templates are filled with.
    state
        "written" (nothing is submitted yet), "submitted", or "ended" when no job of it is at work any more.
    handles
        What the batch system calls it.
    """

    directory: Path
    tag: str
    system: str
    config: str
    workdir: str
    what: str
    created: str
    jobs: list[Entry]
    options: dict[str, Any] = field(default_factory=dict)
    state: str = "written"
    handles: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For people."""
        return self.directory.name

    @property
    def number(self) -> int:
        """Which one it is of its work directory."""
        return int(self.name.rpartition("-")[2])

    @property
    def stages(self) -> dict[str, list[Entry]]:
        """The jobs by their stages, in order."""
        found: dict[str, list[Entry]] = {}
        for entry in self.jobs:
            found.setdefault(entry.stage, []).append(entry)
        return found

    def entry(self, name: str) -> Entry:
        """The job of this name.

        Raises
        ------
        NanoMLError
            There is none.
        """
        for entry in self.jobs:
            if entry.name == name:
                return entry
        raise NanoMLError(f"{self.directory}: has no job {name}. It has {self.jobs[0].name} and so on.")

    def job(self, name: str) -> Job:
        """The file of a job."""
        return Job.read(self.directory / JOBS / f"{name}.json")

    def result(self, name: str) -> Optional[Result]:
        """What a job left; None if it has not begun, or not where one sees it."""
        return Result.read(self.directory / "results" / f"{name}.json")

    @cached_property
    def results(self) -> dict[str, Result]:
        """What all jobs left, as it is now."""
        begun = {path.stem for path in (self.directory / "results").glob("*.json")}
        found = {entry.name: self.result(entry.name) for entry in self.jobs if entry.name in begun}
        return {name: result for name, result in found.items() if result is not None}

    def log(self, name: str) -> Path:
        """What a job printed."""
        return self.directory / "logs" / f"{name}.log"

    def save(self) -> None:
        """Write it down."""
        content = asdict(self)
        content.pop("directory")
        write_json(self.directory / _FILE, {"schema": _SCHEMA, **content})

    @classmethod
    def read(cls, directory: Path) -> Submission:
        """Read what `save` wrote.

        Raises
        ------
        NanoMLError
            There is none, or it is of another version.
        """
        path = directory / _FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("schema") != _SCHEMA:
                raise ValueError("it is of another version of NanoML")
            jobs = [Entry.from_dict(entry) for entry in content.pop("jobs")]
            return cls(directory, jobs=jobs, **content)
        except FileNotFoundError:
            raise NanoMLError(f"{directory}: is no directory of jobs: it has no {_FILE}.") from None
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise NanoMLError(f"{path}: cannot be used ({problem}).") from None

    def has_run_out(self, name: str) -> bool:
        """Whether a job was told that its time is nearly over."""
        return (self.directory / "results" / f"{name}.late").exists()

    def update(self) -> None:
        """See what other processes have written since it was read."""
        now = Submission.read(self.directory)
        self.state, self.handles = now.state, now.handles

    def disarm(self) -> None:
        """Let no job of it begin any more: what was sent, and is in no queue yet, finds nothing to run."""
        (self.directory / "job.sh").unlink(missing_ok=True)

    def register(self) -> None:
        """Let the work directory know of it."""
        write_text(_pointers(Path(self.workdir)) / self.tag, f"{self.directory}\n")

    def end(self) -> None:
        """Note that no job of it is at work any more."""
        self.state = "ended"
        self.save()
        (_pointers(Path(self.workdir)) / self.tag).unlink(missing_ok=True)

    @contextmanager
    def here(self) -> Iterator[None]:
        """Be in its directory: so no path of a user's gets into a language of a batch system."""
        before = os.getcwd()
        os.chdir(self.directory)
        try:
            yield
        finally:
            os.chdir(before)


def _pointers(workdir: Path) -> Path:
    return workdir / RECORDS / "submissions"


def submissions_of(workdir: Path) -> list[Submission]:
    """The submissions of which jobs may be at work on a work directory; those that were removed are forgotten."""
    found = []
    for pointer in sorted(_pointers(workdir).glob("*")) if _pointers(workdir).is_dir() else []:
        if pointer.name.startswith("."):
            continue
        directory = Path(pointer.read_text(encoding="utf-8").rstrip("\n"))
        if (directory / _FILE).is_file():
            found.append(Submission.read(directory))
        else:
            pointer.unlink(missing_ok=True)
    return found
