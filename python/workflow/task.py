"""A task: what it reads, what it makes, and its record and fingerprint, which show whether the result is up to date."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import platform
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML import __version__
from MLTools.NanoML.atomic import write_json, write_text
from MLTools.NanoML.dependencies import changed
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.roles import describe
from MLTools.NanoML.rootio.remote.server import is_remote

NOT_DONE = "not done yet"
"""Why a task is to be run that never was."""

_SHARED = 1000  # the inputs that tasks share, such as files of corrections: how many may follow each other
_MOST_TEXT = 60  # characters of a setting in a message


@dataclass(frozen=True)
class Task:
    """One piece of work of a stage: what it reads, what it makes, and how."""

    stage: str
    name: str  # unique in its stage; may have slashes
    inputs: tuple[str, ...]  # files and URLs that it reads
    outputs: tuple[Path, ...]  # files that it makes; the first one stands for the task
    settings: Mapping[str, Any]  # all settings that its result depends on, as JSON could hold them
    code: str  # `dependencies.code_of` what its result depends on; the tasks of a stage share it
    # does it, and returns its summary for the record: a mapping, or a dataclass. It must be picklable
    work: Callable[[], Any] = field(compare=False)
    # files from which interrupted work continues; they are removed before finished work is done again
    memory: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()  # directories that it reads and writes beside its inputs and outputs

    @classmethod
    def of(cls, stage: str, name: str, kernel: Callable[[Any], Any], job: Any, code: str, **others: Any) -> Task:
        """What a function does with a job, whose fields say what its files are, and what decides the result (see `roles`).

        `others` are further fields, and the outputs where the job has their directory.
        """
        found = describe(job)
        outputs = others.pop("outputs", None) or tuple(map(Path, found.writes))
        return cls(stage, name, found.reads, outputs, found.settings, code, functools.partial(kernel, job), **others)

    def do(self) -> dict[str, Any]:
        """Do the work; return its summary as JSON could hold it."""
        summary = self.work()
        if isinstance(summary, Mapping):
            return dict(summary)
        to_json = getattr(summary, "to_json", None)
        return to_json() if to_json else dataclasses.asdict(summary)


@dataclass(frozen=True)
class Stamp:
    """The version of a file: its size [bytes] and when it was changed [ns since 1970].

    Both are None for a remote file: a file on the grid never changes.
    """

    path: str
    size: Optional[int] = None
    modified: Optional[int] = None

    @classmethod
    def of(cls, path: str) -> Stamp:
        """The version of a file now; OSError if there is none."""
        if is_remote(path):
            return cls(path)
        status = os.stat(path)
        return cls(path, status.st_size, status.st_mtime_ns)

    def __str__(self) -> str:
        return self.path if self.size is None else f"{self.path} {self.size} {self.modified}"


@dataclass(frozen=True)
class Acceptance:
    """A change of code after which a result was kept: the code that made it, what was changed, and when this was accepted."""

    code: str
    because: str
    at: str


@dataclass(frozen=True)
class Record:
    """What is known of a task that is done: the content of WORKDIR/.nanoml/STAGE/NAME.json."""

    task: str  # STAGE/NAME
    inputs: Sequence[Stamp]  # their versions when the task began
    outputs: Sequence[Stamp]  # their versions when it ended
    settings: Mapping[str, Any]
    code: str
    version: str  # of NanoML that did it
    summary: Mapping[str, Any] = field(default_factory=dict)  # what its work returned
    seconds: float = 0.0  # how long it took
    finished: str = ""
    host: str = ""
    accepted: Sequence[Acceptance] = ()  # the changes of code after which the result was kept
    memory: Optional[int] = None  # most memory that the process had used until then [MB], if it was a job
    job: Optional[str] = None  # SUBMISSION/JOB, if it was a job
    format: int = 1  # the version of this form of the file; 1 also where it is not given

    @classmethod
    def read(cls, path: Path) -> Optional[Record]:
        """The record in a file; None if there is none that can be read, or a newer NanoML wrote it in another form."""
        known = {each.name for each in dataclasses.fields(cls)}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found = {key: value for key, value in content.items() if key in known}
            for key, kind in (("inputs", Stamp), ("outputs", Stamp), ("accepted", Acceptance)):
                if key in found:
                    found[key] = [kind(**each) for each in found[key]]
            record = cls(**found)
            return record if record.format <= cls.format else None
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def write(self, path: Path) -> None:
        """Write it to a file."""
        write_json(path, dataclasses.asdict(self, dict_factory=_without_nothing))


def _without_nothing(entries: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in entries if value not in (None, ())}


def record_path(task: Task, records: Path) -> str:
    """Where the record of a task is, in the directory of all records."""
    return f"{records}/{task.stage}/{task.name}.json"


def read_record(task: Task, records: Path) -> Optional[Record]:
    """The record of a task that was done, in the directory of all records; None if there is none that can be read."""
    return Record.read(Path(record_path(task, records)))


def write_record(
    task: Task, records: Path, inputs: Sequence[Stamp], summary: Mapping[str, Any], seconds: float, **others: Any
) -> Record:
    """Note that a task is done, in the directory of all records.

    Its inputs are the `stamps` from before it began: the next run notices what changed meanwhile. `others` are further
    fields of the record, such as the host if it is not this one.
    """
    here = {"finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "host": platform.node()}
    record = Record(
        task=f"{task.stage}/{task.name}",
        inputs=inputs,
        outputs=[Stamp.of(str(path)) for path in task.outputs],
        settings=dict(task.settings),
        code=task.code,
        version=__version__,
        summary=dict(summary),
        seconds=round(seconds, 3),
        **{**here, **others},
    )
    record.write(Path(record_path(task, records)))
    return record


def forget(task: Task, records: Path) -> None:
    """Forget that a task was done, and remove what it would continue from: it is to be done again."""
    record = Path(record_path(task, records))
    if record.exists():
        for path in task.memory:
            path.unlink(missing_ok=True)
        record.unlink()


def stamps(task: Task) -> list[Stamp]:
    """Versions of a task's inputs now; an error if one is missing."""
    found = []
    for path in task.inputs:
        try:
            found.append(Stamp.of(path))
        except OSError:
            raise NanoMLError(
                f"{path}: no such file; {task.stage} {task.name} needs it. Run the earlier stages first."
            ) from None
    return found


def reason_to_run(task: Task, records: Path, renewed: Collection[str]) -> Optional[str]:
    """Why a task must be run, in words; None if its outputs are up to date, and no input is to be `renewed` before it."""
    record = read_record(task, records)
    missing = [path for path in task.outputs if not path.exists()]
    if record is None:
        return NOT_DONE if missing else "there is no record that it was finished"
    if missing:
        return f"{missing[0]} is missing"
    again = [path for path in task.inputs if path in renewed]
    if again:
        return f"{again[0]} is made anew"
    return _changed_files(task, record) or _changed_settings(task, record) or _changed_code(task, record)


def _changed_files(task: Task, record: Record) -> Optional[str]:
    before = dict.fromkeys(stamp.path for stamp in record.inputs)
    added = [path for path in task.inputs if path not in before]
    removed = [path for path in before if path not in task.inputs]
    if added:
        return f"{added[0]} is a new input{_more(added)}"
    if removed:
        return f"{removed[0]} is no longer an input"
    for stamp in [*record.inputs, *record.outputs]:
        try:
            now = Stamp.of(stamp.path)
        except OSError:
            return f"{stamp.path} is missing"
        if now != stamp:
            return f"{stamp.path} was changed"
    return None


def _changed_settings(task: Task, record: Record) -> Optional[str]:
    before, now = record.settings, json.loads(json.dumps(dict(task.settings)))
    for key in [*now, *before]:
        if now.get(key) != before.get(key):
            return _difference(key, before.get(key), now.get(key))
    return None


def _difference(place: str, before: Any, now: Any) -> str:
    """What differs in a setting, in words: of a long one, the first part that does."""
    inside: Iterable[tuple[str, Any, Any]] = ()
    if isinstance(before, dict) and isinstance(now, dict):
        inside = ((f"{place}.{key}", before.get(key), now.get(key)) for key in {**now, **before})
    elif isinstance(before, list) and isinstance(now, list):
        inside = ((f"{place}[{number}]", *pair) for number, pair in enumerate(itertools.zip_longest(before, now)))
    if max(len(json.dumps(value)) for value in (before, now)) > _MOST_TEXT:
        for name, one, other in inside:
            if one != other:
                return _difference(name, one, other)
    return f"{place} was changed from {short(before)} to {short(now)}"


def short(value: Any) -> str:
    """A setting as JSON, with 60 characters at most, for messages."""
    text = json.dumps(value)
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 3] + "..."


def _changed_code(task: Task, record: Record) -> Optional[str]:
    if record.code == task.code:
        return None
    if record.version != __version__:
        return f"NanoML {__version__} does it differently from {record.version}, which did it before"
    modules = changed(record.code, task.code)
    if not modules:
        return "the code that does it was changed"
    return f"{modules[0]} was changed{_more(modules)}"


def _more(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def accept(task: Task, records: Path, dry_run: bool = False) -> Optional[str]:
    """Accept the outputs of a task as up to date if only its code was changed; from then on the record says so.

    It returns how the code was changed; None if that is not the reason to do the task again.
    """
    record = read_record(task, records)
    reason = reason_to_run(task, records, ())
    if record is None or reason is None or reason != _changed_code(task, record):
        return None
    if not dry_run:
        change = Acceptance(record.code, reason, time.strftime("%Y-%m-%dT%H:%M:%S%z"))
        accepted = [*record.accepted, change]
        renewed = dataclasses.replace(record, code=task.code, version=__version__, accepted=accepted)
        renewed.write(Path(record_path(task, records)))
    return reason


class Fingerprints:
    """Digests of the tasks of a stage that are up to date, so that a run with nothing to do looks at files, and reads no record."""

    def __init__(self, records: Path, stage: str) -> None:
        self._records, self._path = records, records / f"{stage}.txt"
        self._settings: dict[int, tuple[Mapping[str, Any], str]] = {}  # as text, by the identity of what tasks share
        self._input = functools.lru_cache(_SHARED)(Stamp.of)

    def read(self) -> frozenset[str]:
        """Those of tasks that were up to date; none if this is not known."""
        try:
            return frozenset(self._path.read_text(encoding="utf-8").split())
        except (OSError, ValueError):
            return frozenset()

    def write(self, found: Collection[str]) -> None:
        """Note those of tasks that are up to date."""
        write_text(self._path, "".join(f"{each}\n" for each in sorted(found)))

    def now(self, task: Task) -> Optional[str]:
        """That of a task with its files as they are; None if one is missing."""
        try:
            return self._digest(task, map(self._input, task.inputs), (Stamp.of(str(path)) for path in task.outputs))
        except OSError:
            return None

    def of(self, task: Task, record: Record) -> str:
        """That of a task which was just done, as its record says."""
        return self._digest(task, record.inputs, record.outputs)

    def _digest(self, task: Task, inputs: Iterable[Stamp], outputs: Iterable[Stamp]) -> str:
        if id(task.settings) not in self._settings:
            self._settings[id(task.settings)] = task.settings, json.dumps(dict(task.settings), sort_keys=True)
        settings, record = self._settings[id(task.settings)][1], Stamp.of(record_path(task, self._records))
        text = "\0".join([task.code, settings, *map(str, [record, *inputs, "", *outputs])])
        return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=12).hexdigest()
