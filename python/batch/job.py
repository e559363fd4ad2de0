"""A job as files: what it does, `jobs/NAME.json`, and what it leaves, `results/NAME.json`, with the reasons if it failed.

A job is tasks that one process on one machine does one after the other. They are JSON that a person can read, and from
which a worker on another machine makes them again.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Optional, Union

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.dependencies import is_ours
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.plain import DAMAGE, build, read, read_or_none
from MLTools.NanoML.workflow.task import Record, Stamp, Task, stamp_of

FAILED = 1
"""Exit code of a job that may succeed when it is tried again."""

PERMANENT = 2
"""Exit code of a job that would fail again."""

BASE = "base"
"""Where the files beside the YAML file are, in the directory of a job that does not see those of the submitting machine."""

CORRECTIONS = "corrections"
"""Where the files of the user's directory of corrections are there."""

SOFTWARE = re.compile(
    "(LD_LIBRARY_|PYTHON|PYTHON3|ROOT_INCLUDE_)?PATH|PYTHONHOME|ROOTSYS|SCRAM_ARCH|SCRAMRT_SET|"
    "CMSSW_(BASE|RELEASE_BASE|FULL_RELEASE_BASE|VERSION|SEARCH_PATH|FWLITE_INCLUDE_PATH)"
)
"""The variables of a shell, as after cmsenv, that lead to its packages: on another machine they may be others."""

_VERSION = 1
_TAGS = {"path", "tuple", "number", "mapping", "type", "call"}


@dataclass(frozen=True)
class ProblemKind:
    """A kind of problem."""

    words: str  # what it is, for people
    advice: str  # what to do about it


_AGAIN = "nanoml resubmit tries again"

KINDS = {
    "configuration": ProblemKind("mistake in the configuration", "correct it, then: nanoml resubmit"),
    "unreadable": ProblemKind(
        "file unreadable", f"{_AGAIN}, or allows missing files: nanoml resubmit --max-missing-files 1%"
    ),
    "proxy": ProblemKind(
        "grid proxy or token cannot be used", "nanoml proxy init, or a new token, then: nanoml resubmit"
    ),
    "package": ProblemKind(
        "package or program missing", "add it to the environment of the jobs (batch.environment), then: nanoml resubmit"
    ),
    "disk": ProblemKind("disk full", "free some space; nanoml resubmit asks for more"),
    "storage": ProblemKind(
        "output not on the storage", "check that you may write there and have room left, then: nanoml resubmit"
    ),
    "memory": ProblemKind("out of memory", "nanoml resubmit asks for more"),
    "time": ProblemKind("wall time exceeded", "nanoml resubmit asks for more"),
    "killed": ProblemKind("killed", f"{_AGAIN}; if it happens again, it may be for lack of memory"),
    "stopped": ProblemKind("told to stop", _AGAIN),
    "lost": ProblemKind("lost", _AGAIN),
    "held": ProblemKind("held", "nanoml resubmit releases it"),
    "refused": ProblemKind(
        "asks for too much", "nanoml kill, change batch.time, batch.memory or batch.partition, then: nanoml resubmit"
    ),
    "rejected": ProblemKind("rejected by the batch system", "change what it says, then: nanoml resubmit"),
    "removed": ProblemKind("removed", _AGAIN),
    "error": ProblemKind("error", "correct it, then: nanoml resubmit"),
    "variable": ProblemKind("environment variable is another one", f"{_AGAIN} with the submitter's"),
    "defect": ProblemKind(
        "unexpected error", "this is a bug of NanoML or of your own code: nanoml logs JOB shows where"
    ),
}
"""All kinds of problems."""


@dataclass(frozen=True)
class JobProblem:
    """Why a job or one of its tasks failed or is held."""

    kind: str  # one of `KINDS`
    message: str  # in words
    file: str = ""  # the file that could not be read, if that is the reason
    host: str = ""  # where it happened, of an earlier attempt
    # what user code had touched when it failed, with the paths that files have on the submitting machine
    observed: Mapping[str, Optional[str]] = field(default_factory=dict, metadata={"sparse": True})


@dataclass(frozen=True)
class Job:
    """The work of one job."""

    name: str  # unique in its submission, made of letters, digits and "-": "skim-0003"
    stage: str  # the stage of its tasks
    workdir: str  # the work directory of the analysis, on the submitting machine
    base: str  # the directory of its YAML file, likewise
    tasks: Sequence[Any] = ()  # what it does, as `encode` writes it
    command: Sequence[str] = ()  # arguments of `nanoml`, instead of tasks
    # if workers do not see the files of the submitting machine: patterns of paths, and the URLs by which
    # workers reach them. Otherwise None
    storage: Optional[Mapping[str, str]] = None
    proxy: bool = False  # whether it needs a grid proxy or a bearer token
    environment: Mapping[str, str] = field(default_factory=dict)  # variables that it sets
    # what `digest_of` makes of the submitter's variables: those that user code reads must be the same. None: nobody knows
    variables: Optional[Mapping[str, str]] = None
    # users' code when it was planned, as `observing.sources` has it; none of what travels, which is what was planned
    planned: Mapping[str, Optional[str]] = field(default_factory=dict)
    # the versions of the files that travel with it, as `encode` writes them; none if workers see the same files
    sent: Sequence[Any] = ()

    @classmethod
    def of(cls, name: str, tasks: Sequence[Task], **others: Any) -> Job:
        """The job that does these tasks."""
        return cls(name, tasks[0].stage, tasks=[encode(task) for task in tasks], **others)

    def decoded(self, rename: Callable[[str], str] = lambda text: text) -> list[Task]:
        """Its tasks, with paths changed by `rename`."""
        return self._tasks(lambda task: decode(task, rename))

    def recorded(self) -> list[Task]:
        """Its tasks as they were submitted, but without their work, whose code need not be imported."""
        names = ("stage", "name", "inputs", "outputs", "settings", "code")
        return self._tasks(lambda task: Task(**{name: decode(task["fields"][name]) for name in names}, work=dict))

    def _tasks(self, of: Callable[[Any], Task]) -> list[Task]:
        try:
            return [of(task) for task in self.tasks]
        except DAMAGE as problem:
            what = f"{type(problem).__name__}: {problem}"
            raise NanoMLError(f"the job {self.name} is damaged ({what}). Submit it again.") from None

    def versions(self, task: Task, read: Sequence[Stamp]) -> list[Stamp]:
        """Versions of the inputs of one of its tasks: of files that travelled when they were sent, of the others now.

        What the job has `read` has the same content, if it has the same size. An error if one is missing.
        """
        sent: dict[str, Stamp] = {os.path.realpath(stamp.path): stamp for stamp in map(decode, self.sent)}
        found = []
        for path, there in itertools.zip_longest(task.inputs, read):
            now = sent.get(os.path.realpath(path)) or stamp_of(path, task)
            same_as = there if there is not None and there.size == now.size else now
            found.append(replace(now, path=path, content=same_as.content, core=same_as.core))
        return found

    def write(self, path: Path) -> None:
        """Write it as JSON, one task per line, into a directory that is not in use yet."""
        head = {it.name: getattr(self, it.name) for it in fields(self) if it.name != "tasks"}
        lines = [json.dumps({"schema": _VERSION, **head}, allow_nan=False)[:-1] + ', "tasks": [']
        lines.append(",\n".join(json.dumps(task, allow_nan=False) for task in self.tasks))
        path.touch(mode=0o600)  # variables may be nobody else's business
        path.write_text("\n".join([*lines, "]}\n"]), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read what `write` wrote; an error if it cannot be read, or was written by another version."""
        return read(cls, path, "It is not a job of this version of NanoML: submit it again.", _VERSION)


def digest_of(name: str, state: Optional[str]) -> Optional[str]:
    """A digest of the state of a variable, as `observing.state` has it, which fits no other variable; None if it is not set."""
    return hashlib.blake2b(f"{name} {state}".encode(), digest_size=8).hexdigest() if state is not None else None


def url_of(path: str, storage: Mapping[str, str]) -> Optional[str]:
    """The URL by which a worker reaches a file of the submitting machine; None if it cannot.

    `storage` has regular expressions for the beginnings of paths, and what replaces them in the URL: "/eos/user/" and
    "root://eosuser.cern.ch//eos/user/".
    """
    for pattern, url in storage.items():
        found = re.match(pattern, path)
        if found:
            return found.expand(url) + path[found.end() :]
    return None


def _outcomes(content: Mapping[str, Any]) -> dict[str, Union[Record, JobProblem]]:
    """What became of tasks. Until 0.2.0 it had a state, and what records have, but for the first three, or the problem."""
    found: dict[str, Union[Record, JobProblem]] = {}
    for name, it in content.items():
        if it.get("problem"):
            found[name] = build(JobProblem, {**it["problem"], "observed": it.get("observed", {})})
        elif "kind" in it:
            found[name] = build(JobProblem, it)
        else:
            found[name] = build(Record, {"task": "", "code": "", "version": "", **it})
    return found


@dataclass
class JobResult:
    """The result of one job."""

    job: str  # its name
    # "running", "done", "failed", or "stopped" if it was told to stop before it was done
    state: str = "running"
    # what became of its tasks by name: the record, with the paths that files have on the submitting machine, or why it
    # failed; tasks that it did not get to are absent
    tasks: dict[str, Union[Record, JobProblem]] = field(default_factory=dict, metadata={"build": _outcomes})
    # host, process, batch: where it ran, and its identifier in the batch system
    host: str = ""
    process: int = 0
    batch: str = ""
    # started, finished: seconds since 1970; finished is 0 until it ends
    started: float = 0.0
    finished: float = 0.0
    exit_code: Optional[int] = None  # None until it ends
    problem: Optional[JobProblem] = None  # what is wrong with the job as a whole
    earlier: list[JobProblem] = field(default_factory=list)  # why attempts before this one ended

    @property
    def has_ended(self) -> bool:
        """Whether the job itself wrote that it has ended."""
        return self.state != "running"

    @property
    def records(self) -> dict[str, Record]:
        """The records of its tasks that are done."""
        return {name: it for name, it in self.tasks.items() if isinstance(it, Record)}

    @property
    def problems(self) -> list[JobProblem]:
        """All reasons for failure: first that of the job as a whole, then those of its tasks."""
        return [it for it in (self.problem, *self.tasks.values()) if isinstance(it, JobProblem)]

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_json(path, {"schema": _VERSION, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> Optional[JobResult]:
        """Read what `write` wrote; None if there is no such file, or it cannot be read."""
        return read_or_none(cls, path, _VERSION)  # the first release wrote no version


def encode(value: object) -> Any:
    """Make JSON of plain data, paths, dataclasses and partials of named functions; anything else is a TypeError."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"number": repr(value)}
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value) and not _TAGS & set(value):
            return {key: encode(item) for key, item in value.items()}
        return {"mapping": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, functools.partial):
        keywords = {name: encode(item) for name, item in value.keywords.items()}
        arguments = [encode(item) for item in value.args]
        return {"call": _name_of(value.func), "arguments": arguments, "keywords": keywords}
    if is_dataclass(value) and not isinstance(value, type):
        content = {it.name: encode(getattr(value, it.name)) for it in fields(value) if it.init}
        return {"type": _name_of(type(value)), "fields": content}
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")


def _name_of(thing: Any) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"


def decode(content: object, rename: Callable[[str], str] = lambda text: text) -> Any:
    """Undo `encode`, with every text and every path as `rename` gives it, which is what it is on this machine.

    An error if it was written by another version of NanoML, or asks for something outside NanoML.
    """
    again = functools.partial(decode, rename=rename)
    if isinstance(content, str):
        return rename(content)
    if isinstance(content, list):
        return [again(item) for item in content]
    if not isinstance(content, dict):
        return content
    if "path" in content:
        return Path(rename(content["path"]))
    if "tuple" in content:
        return tuple(again(content["tuple"]))
    if "number" in content:
        return float(content["number"])
    if "mapping" in content:
        return {again(key): again(item) for key, item in content["mapping"]}
    if "type" in content:
        arguments = {name: again(item) for name, item in content["fields"].items()}
        try:
            return _thing(content["type"], is_dataclass)(**arguments)
        except TypeError as problem:
            raise NanoMLError(
                f"{content['type']}: {problem}. The job was written by another version of NanoML: submit it again."
            ) from None
    if "call" in content:
        keywords = {name: again(item) for name, item in content["keywords"].items()}
        return functools.partial(_thing(content["call"], callable), *again(content["arguments"]), **keywords)
    return {key: again(item) for key, item in content.items()}


def _thing(name: str, is_kind: Callable[[Any], bool]) -> Any:
    """A dataclass or function of NanoML; never anything else, since a job file could name it."""
    module, _, path = name.partition(":")
    refusal = NanoMLError(f"{name}: is not a part of NanoML, so no job may ask for it.")
    if not is_ours(module):
        raise refusal
    try:
        found = functools.reduce(getattr, path.split("."), importlib.import_module(module))
    except (AttributeError, ModuleNotFoundError) as problem:
        missing = problem.name if isinstance(problem, ModuleNotFoundError) else module
        if missing is None or not is_ours(missing):
            raise
        raise NanoMLError(
            f"{name}: does not exist in this version of NanoML; another version wrote the job: submit it again."
        ) from None
    # what NanoML has imported from elsewhere is not its own
    if not is_kind(found) or not callable(found) or not is_ours(str(getattr(found, "__module__", ""))):
        raise refusal
    return found
