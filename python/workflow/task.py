"""A task: what it reads, what it makes and how, the versions of its files, and the record that it is done."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Optional

from MLTools.NanoML import __version__
from MLTools.NanoML.atomic import file_hash, write_json
from MLTools.NanoML.contracts.hdf5 import core_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.observing import observed
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.rootio.remote.server import is_remote
from MLTools.NanoML.rootio.remote.storage import FileStatus, stat_all
from MLTools.NanoML.schema.plain import build
from MLTools.NanoML.schema.roles import describe

_LARGE = 1 << 26  # bytes
_FORMAT = 2  # of records


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
    work: Callable[..., Any] = field(compare=False)
    # files from which interrupted work continues; they are removed before finished work is done again
    memory: tuple[Path, ...] = ()
    # files that spare work as far as they still hold, which they say themselves; `--force` removes them
    cache: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()  # directories that it reads and writes beside its inputs and outputs
    # settings and inputs that decide what is beside the core of its result, and inputs of which it reads the core alone (see `roles`)
    beside: tuple[str, ...] = ()
    core: tuple[str, ...] = ()

    @classmethod
    def of(cls, stage: str, name: str, kernel: Callable[[Any], Any], job: Any, code: str, **others: Any) -> Task:
        """The work of a function on a job, whose fields say what its files are, and what decides the result (see `roles`).

        `others` are further fields, and the outputs where the job has their directory.
        """
        found = describe(job)
        others = {"beside": found.beside, "core": found.core, **others}
        outputs = others.pop("outputs", None) or found.writes
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
    """The version of a file: what the file system says of it, which spares reading it, and the hash of its content.

    Of a remote file, size and time are those that its server has given to `look_up`. Without a hash they decide, as far as they are known.
    """

    path: str
    size: Optional[int] = None  # [bytes]
    # when its content was changed, and anything of it [ns since 1970]
    modified: Optional[int] = None
    changed: Optional[int] = None
    inode: Optional[int] = None
    content: Optional[str] = None
    core: Optional[str] = None  # the hash of its core, in place of all content, if that alone is read

    @classmethod
    def of(cls, path: str) -> Stamp:
        """The version of a file now, without its content; OSError if there is none."""
        if is_remote(path):
            known = _remote.get(path)
            return cls(path, known.size, known.modified * 10**9) if known else cls(path)
        status = os.stat(path)
        return cls(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def with_content(self) -> Stamp:
        """The same with the hash of its content, which is not read if the file is as a stamp says that is `known`."""
        before = _known.get(self.path)
        if before is not None and before.content and replace(before, content=None, core=None) == self:
            return before
        return self if is_remote(self.path) else replace(self, content=file_hash(self.path))

    def as_recorded(self) -> Stamp:
        """The same with its content, but for large files that no task has made, as NanoAOD: a skim takes hardly longer than their hash."""
        is_raw = (self.size or 0) > _LARGE and not _is_made(Path(self.path).parent)
        return self if is_raw else self.with_content()

    def with_core(self) -> Stamp:
        """The same with the hash of its core; with that of all content, if the file says nothing of a core."""
        core = core_of(self.path)
        return replace(self, core=core) if core else self.with_content()

    def is_at(self, path: str) -> bool:
        """Whether a file is this version, wherever it is; OSError if there is none."""
        now = Stamp.of(path)
        if replace(now, path="") == replace(self, path="", content=None, core=None):
            return True
        if self.core is not None:
            return core_of(path) == self.core
        if self.content is None:
            return None in (now.size, self.size) or (now.size, now.modified) == (self.size, self.modified)
        return now.size == self.size and file_hash(path) == self.content

    def __str__(self) -> str:
        return _in_words(self.path, self.size, self.modified, self.changed, self.inode)


def _in_words(*version: object) -> str:
    return " ".join(map(str, version))


def version_of(path: str, shown: str) -> str:
    """The version of a file now as the text of its stamp, with its path as it is to be shown; OSError if there is none.

    Of a hundred thousand files, making stamps takes longer than looking at them.
    """
    if is_remote(path):
        return str(replace(Stamp.of(path), path=shown))
    status = os.stat(path)
    return _in_words(shown, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


_remote: dict[str, FileStatus] = {}
_known: dict[str, Stamp] = {}


def known(stamps: Iterable[Stamp]) -> None:
    """Stamps of files that a record has, so that they need not be read again."""
    _known.update((each.path, each) for each in stamps)


def look_up(paths: Iterable[str]) -> None:
    """Find out the versions of those files that are remote."""
    _remote.update(stat_all(paths))


def stamps(task: Task) -> list[Stamp]:
    """Versions of a task's inputs now, as they are recorded, or with the hash of their core; an error if one is missing."""
    look_up(task.inputs)
    found = (stamp_of(path, task) for path in task.inputs)
    return [it.with_core() if it.path in task.core else it.as_recorded() for it in found]


@functools.lru_cache
def _is_made(directory: Path) -> bool:
    return any((each / RECORDS).is_dir() for each in (directory, *directory.parents))


def stamp_of(path: str, task: Task) -> Stamp:
    """The version of an input of a task now, without its content; an error if it is missing."""
    try:
        return Stamp.of(path)
    except OSError:
        raise NanoMLError(
            f"{path}: no such file; {task.stage} {task.name} needs it. Run the earlier stages first."
        ) from None


@dataclass(frozen=True)
class Acceptance:
    """A change of code after which a result was kept: the code that made it, what was changed, and when this was accepted."""

    code: str
    because: str
    at: str


@dataclass(frozen=True)
class Record:
    """The record of a task that is done: the content of WORKDIR/.nanoml/STAGE/NAME.json."""

    task: str  # STAGE/NAME
    code: str
    version: str  # of NanoML that did it
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[Stamp, ...] = ()  # their versions when the task began
    outputs: tuple[Stamp, ...] = ()  # their versions when it ended
    summary: dict[str, Any] = field(default_factory=dict)  # what its work returned
    # what user code touched, as `observing.observed` has it
    observed: dict[str, Optional[str]] = field(default_factory=dict)
    seconds: float = 0.0  # how long it took
    finished: str = ""
    host: str = ""
    accepted: tuple[Acceptance, ...] = ()  # the changes of code after which the result was kept
    memory: Optional[int] = None  # most memory that the process had used until then [MB], if it was a job
    job: Optional[str] = None  # SUBMISSION/JOB, if it was a job

    @classmethod
    def of(
        cls,
        task: Task,
        inputs: Sequence[Stamp],
        summary: Mapping[str, Any],
        seconds: float,
        observed: Mapping[str, Optional[str]] = MappingProxyType({}),
    ) -> Record:
        """That of a task that was just done here, as the files are here; `inputs` are the `stamps` from before it began."""
        return cls(
            task=f"{task.stage}/{task.name}",
            code=task.code,
            version=__version__,
            inputs=tuple(inputs),
            outputs=tuple(Stamp.of(str(path)).with_content() for path in task.outputs),
            summary=dict(summary),
            observed=dict(observed),
            seconds=round(seconds, 3),
            finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            host=platform.node(),
        )

    @classmethod
    def read(cls, path: Path) -> Record:
        """The record in a file; OSError if there is none, ValueError if it is damaged or NanoML wrote it in another form."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            form, check = content.pop("format", 1), content.pop("check", None)
            if form != _FORMAT:
                raise ValueError(f"{'a newer' if form > _FORMAT else 'an older'} NanoML wrote it")
            if check != text_hash(json.dumps(content, sort_keys=True)):
                raise ValueError("it is damaged")
            return build(cls, content)
        except (AttributeError, KeyError, TypeError, RecursionError, json.JSONDecodeError):
            raise ValueError("it is damaged") from None

    def write(self, path: Path) -> None:
        """Write it to a file."""
        content = json.loads(json.dumps(dataclasses.asdict(self, dict_factory=_without_nothing)))
        write_json(path, {**content, "format": _FORMAT, "check": text_hash(json.dumps(content, sort_keys=True))})


def _without_nothing(entries: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in entries if value not in (None, (), {})}


def text_hash(text: str) -> str:
    """A short hash of a text, for records."""
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=12).hexdigest()


def do(task: Task, planned: Optional[Mapping[str, Optional[str]]] = None) -> Record:
    """Do a task; return its record. In a process that has not planned it, `planned` are the `sources` of the one that has."""
    begin, inputs = time.monotonic(), stamps(task)
    with observed(planned) as seen:
        summary = task.do()
    return Record.of(task, inputs, summary, time.monotonic() - begin, seen)
