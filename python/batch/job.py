"""A job: tasks that one process on one machine does, one after the other, as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.batch.codec import decode, encode
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.workflow.task import Task

__all__ = ["Job", "TaskNames"]

_SCHEMA = 1


@dataclass(frozen=True)
class TaskNames:
    """What one must know of a task without making it: its name and its files."""

    stage: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes
    ----------
    name
        Unique in its submission, made of letters, digits and "-": "skim-0003".
    stage
        Of its tasks.
    workdir
        The work directory of the analysis, where it was submitted.
    base
        The directory of its YAML file, likewise.
    tasks
        What it does, as `codec.encode` has it.
    command
        Instead of tasks: the arguments of `nanoml`.
    storage
        Where workers do not see the files of the submitting machine: patterns of paths, and the URLs by which
        workers reach them. Else None.
    proxy
        Whether it needs a grid proxy.
    environment
        Variables that it sets.
    """

    name: str
    stage: str
    workdir: str
    base: str
    tasks: Sequence[Any] = ()
    command: Sequence[str] = ()
    storage: Optional[Mapping[str, str]] = None
    proxy: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, tasks: Sequence[Task], **others: Any) -> Job:
        """The job of tasks."""
        return cls(name, tasks[0].stage, tasks=[encode(task) for task in tasks], **others)

    def decoded(self, rename: Callable[[str], str] = lambda text: text) -> list[Task]:
        """Its tasks, with paths as `rename` says."""
        return [decode(task, rename) for task in self.tasks]

    def names(self) -> list[TaskNames]:
        """The names and files of its tasks, without importing what does them; of a command its own name."""
        if self.command:
            return [TaskNames(self.stage, self.name, (), ())]
        found = []
        for task in self.tasks:
            about = task["fields"]
            outputs = tuple(item["path"] for item in about["outputs"]["tuple"])
            found.append(TaskNames(about["stage"], about["name"], tuple(about["inputs"]["tuple"]), outputs))
        return found

    def write(self, path: Path) -> None:
        """Write it as JSON, each task in a line, into a directory that is not in use yet."""
        head = {it.name: getattr(self, it.name) for it in fields(self) if it.name != "tasks"}
        lines = [json.dumps({"schema": _SCHEMA, **head}, allow_nan=False)[:-1] + ', "tasks": [']
        lines.append(",\n".join(json.dumps(task, allow_nan=False) for task in self.tasks))
        path.write_text("\n".join([*lines, "]}\n"]), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read what `write` wrote.

        Raises
        ------
        NanoMLError
            It cannot be read, or is of another version.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("schema") != _SCHEMA:
                raise ValueError("it is of another version of NanoML")
            return cls(**content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise NanoMLError(f"{path}: is no job of this version of NanoML ({problem}).") from None
