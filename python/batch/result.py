"""What a job leaves: one JSON file with a record of each of its tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.workflow.task import Stamp

__all__ = ["Done", "Problem", "Result"]


@dataclass(frozen=True)
class Problem:
    """Why something failed.

    Attributes
    ----------
    kind
        One of `causes.ADVICE`.
    message
        In words.
    file
        The file that could not be read, if that is the reason.
    """

    kind: str
    message: str
    file: str = ""


@dataclass(frozen=True)
class Done:
    """The record of one task.

    Attributes
    ----------
    state
        "done" or "failed".
    inputs
        Versions of the inputs, as `task.stamps` has them.
    outputs
        Path where it was submitted, size and Adler-32 checksum of each output.
    summary
        What its work returned: accounting, counts.
    seconds
        How long it took.
    memory
        Most memory that the process had until then [MB].
    host, finished
        Where and when.
    problem
        Why it failed.
    """

    state: str
    inputs: list[Stamp] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    summary: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    memory: int = 0
    host: str = ""
    finished: str = ""
    problem: Optional[Problem] = None

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Done:
        """Undo `dataclasses.asdict`."""
        problem, inputs = content.get("problem"), [Stamp(**each) for each in content.get("inputs", ())]
        return cls(**{**content, "inputs": inputs, "problem": Problem(**problem) if problem else None})


@dataclass
class Result:
    """The record of one job.

    Attributes
    ----------
    job
        Its name.
    state
        "running", "done", "failed", or "stopped" if it was told to end before it was done.
    tasks
        Records by the names of tasks; those that were not come to are absent.
    host, process, batch
        Where it ran, and what the batch system calls it.
    started, finished
        Seconds since 1970; finished is 0 until it ends.
    exit_code
        Of the job; None until it ends.
    problem
        What is wrong with the job as a whole.
    earlier
        What was wrong in attempts before.
    """

    job: str
    state: str = "running"
    tasks: dict[str, Done] = field(default_factory=dict)
    host: str = ""
    process: int = 0
    batch: str = ""
    started: float = 0.0
    finished: float = 0.0
    exit_code: Optional[int] = None
    problem: Optional[Problem] = None
    earlier: list[dict[str, Any]] = field(default_factory=list)

    @property
    def has_ended(self) -> bool:
        """Whether it says of itself that it is over."""
        return self.state != "running"

    @property
    def problems(self) -> list[Problem]:
        """All reasons of failure: that of the job as a whole first, then those of its tasks."""
        found = (self.problem, *(done.problem for done in self.tasks.values()))
        return [problem for problem in found if problem is not None]

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Optional[Result]:
        """Read what `write` wrote; None if there is none, or none that can be read."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            tasks = {name: Done.from_dict(record) for name, record in content["tasks"].items()}
            problem = Problem(**content["problem"]) if content["problem"] else None
            return cls(**{**content, "tasks": tasks, "problem": problem})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
