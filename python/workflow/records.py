"""The records of what is done in a work directory, and why a task is to be done again."""

from __future__ import annotations

import functools
import itertools
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Optional

from MLTools.NanoML import __version__
from MLTools.NanoML.atomic import known_hashes, write_text
from MLTools.NanoML.contracts.hdf5 import core_of
from MLTools.NanoML.dependencies import changed
from MLTools.NanoML.observing import FILE, FOLDER, PRESENCE, VARIABLE, state
from MLTools.NanoML.workflow.task import Acceptance, Record, Stamp, Task, known, text_hash, version_of

NOT_DONE, ASKED = "not done yet", "you asked for it"
"""Why a task is to be run that never was, or that is up to date."""


class Reason(str):
    """Why a task must be run, in words, and the first cause of it; `kind` are the words about a file.

    It may spare the core of the outputs, which stays as it is.
    """

    spares_core: bool
    kind: str
    cause: str

    def __new__(cls, text: str, file: str = "", cause: str = "", spares_core: bool = False) -> Reason:
        """Text about a file, which follows its name, or any other; it is the first cause itself, unless that is given."""
        text += f": {cause}" * bool(cause)
        found = super().__new__(cls, f"{file} {text}".lstrip())
        found.spares_core, found.kind, found.cause = spares_core, text if file else "", cause or str(found)
        return found


_Causes = Mapping[str, str]
_NO_CAUSES: _Causes = MappingProxyType({})
_WORK, _BASE = "WORKDIR/", "./"  # what paths in the work directory and beside the YAML file begin with in records
_SHARED = 1000  # the inputs that tasks share, such as files of corrections: how many may follow each other
_MOST_TEXT = 60  # characters of a setting in a message


def _renamed(key: str, rename: Callable[[str], str]) -> str:
    kind, _, name = key.partition(" ")
    return f"{kind} {rename(name)}"


@dataclass(frozen=True)
class Records:
    """The records of a work directory.

    Paths in it, and in the directory of the YAML file, are kept relative to these: both may be moved or copied.
    """

    directory: Path  # WORKDIR/.nanoml
    base: Optional[Path] = None  # the directory of the YAML file, if there is one
    # relative, with their hash, by identity
    _settings: dict[int, tuple[object, Any, str]] = field(default_factory=dict)
    _states: dict[str, Optional[str]] = field(default_factory=dict)

    def path(self, task: Task) -> Path:
        """Where the record of a task is."""
        return Path(self.place(task))

    def place(self, task: Task) -> str:
        """The same as text: to make thousands of paths takes longer than to look at the files."""
        return f"{self._places[0][0]}{self.directory.name}/{task.stage}/{task.name}.json"

    @functools.cached_property
    def _places(self) -> tuple[tuple[str, str], ...]:
        """The directories to which paths in it are relative, and the words for these."""
        base = () if self.base is None else ((f"{self.base}/", _BASE),)
        return (f"{self.directory.parent}/", _WORK), *base

    def read(self, task: Task) -> Optional[Record]:
        """The record of a task that was done; None if there is none that can be read."""
        try:
            return Record.read(self.path(task))
        except (OSError, ValueError):
            return None

    def write(self, task: Task, done: Record) -> Record:
        """Note that a task is done, by what did it, here or elsewhere; return its record as it is kept.

        The inputs are as they were before it began, so that the next run notices what changed meanwhile. The outputs get their
        sizes and times anew, since those that another machine saw may differ.
        """
        known = {f"{FILE} {path}" for path in (*task.inputs, *map(str, task.outputs))}
        record = replace(
            done,
            task=f"{task.stage}/{task.name}",
            code=task.code,
            inputs=tuple(replace(each, path=self.relative(each.path)) for each in done.inputs),
            outputs=self._outputs(task, [each.content for each in done.outputs]),
            settings=self.settings(task)[0],
            observed={_renamed(key, self.relative): it for key, it in done.observed.items() if key not in known},
        )
        record.write(self.path(task))
        return record

    def write_outputs(self, task: Task) -> None:
        """Note the outputs of a task as they are now, after a page was written again; all else stays as it was when the task was done."""
        before = self.read(task)
        if before is not None:
            replace(before, outputs=self._outputs(task)).write(self.path(task))

    def _outputs(self, task: Task, contents: Sequence[Optional[str]] = ()) -> tuple[Stamp, ...]:
        stamps = (Stamp.of(str(path)) for path in task.outputs)
        found = (
            replace(now, content=content) if content else now.with_content()
            for now, content in itertools.zip_longest(stamps, contents)
        )
        return tuple(replace(each, path=self.relative(each.path)) for each in found)

    def forget(self, task: Task, anew: bool = False, spares_core: bool = False) -> None:
        """Forget that a task was done, but not its core if that is spared; remove what it would continue from.

        If it is to be done `anew`, that is also what spares work.
        """
        record, before = self.path(task), self.read(task) if spares_core or task.cache else None
        known(replace(each, path=self.absolute(each.path)) for each in (before.inputs if before else ()))
        if before is not None and spares_core and task.beside:
            left = {key: value for key, value in before.settings.items() if key not in task.beside}
            replace(before, settings=left).write(record)
            return
        for path in task.cache if anew else ():
            path.unlink(missing_ok=True)
        if record.exists():
            for path in task.memory:
                path.unlink(missing_ok=True)
            record.unlink()

    def relative(self, path: str) -> str:
        """A path as records have it; any other text as it is."""
        for place, begin in self._places:
            if f"{path}/".startswith(place):
                return begin + path[len(place) :]
        return path

    def absolute(self, path: str) -> str:
        """Undo `relative`."""
        for place, begin in self._places:
            if path.startswith(begin):
                return place + path[len(begin) :]
        return path

    def shown(self, path: str) -> str:
        """A path as messages have it: relative to the YAML file, if it is beside it or below."""
        return path.removeprefix(f"{self.base}/")

    def absolute_key(self, key: str) -> str:
        """Something that was observed, as records have it, with its absolute path."""
        return _renamed(key, self.absolute)

    def state(self, key: str) -> Optional[str]:
        """The present state of something that a record has as observed; it is found out once."""
        if key not in self._states:
            self._states[key] = state(self.absolute_key(key))
        return self._states[key]

    def settings(self, task: Task) -> tuple[Any, str]:
        """The settings of a task as records have them, and the hash of these; tasks share them."""
        if id(task.settings) not in self._settings:
            found = self._relative(json.loads(json.dumps(dict(task.settings))))
            self._settings[id(task.settings)] = task.settings, found, text_hash(json.dumps(found, sort_keys=True))
        return self._settings[id(task.settings)][1:]

    def _relative(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._relative(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._relative(item) for item in value]
        return self.relative(value) if isinstance(value, str) else value

    def reason(self, task: Task, renewed: _Causes = _NO_CAUSES, touched: _Causes = _NO_CAUSES) -> Optional[Reason]:
        """Why a task must be run; None if its outputs are up to date, and no input is to be `renewed` before it.

        Of inputs that are `touched`, the core stays as it is. Both have the first cause by the path.
        """
        missing = [path for path in task.outputs if not path.exists()]
        try:
            record = Record.read(self.path(task))
        except FileNotFoundError:
            return Reason(NOT_DONE if missing else "there is no record that it was finished")
        except (OSError, ValueError) as problem:
            return Reason(f"its record cannot be used: {problem}")
        if missing:
            return Reason("is missing", file=self.shown(str(missing[0])))
        found: Optional[Reason] = None
        for each in self._changes(task, record, renewed, touched):
            if found is None or not each.spares_core:
                found = each
            if not found.spares_core:
                break
        return found

    def _changes(self, task: Task, record: Record, renewed: _Causes, touched: _Causes) -> Iterator[Reason]:
        for path in task.inputs:
            if path in renewed:
                yield Reason("will be rebuilt", self.shown(path), renewed[path], path in task.beside)
            elif path in touched and path not in task.core:
                yield Reason("will be rebuilt", self.shown(path), touched[path], spares_core=True)
        yield from self._changed_files(task, record)
        before, (now, _) = record.settings, self.settings(task)
        for key in {**now, **before}:
            if now.get(key) != before.get(key):
                yield Reason(_difference(key, before.get(key), now.get(key)), spares_core=key in task.beside)
        code = _changed_code(task, record)
        if code:
            yield Reason(code)
        yield from self._changed_observed(record)

    def _changed_files(self, task: Task, record: Record) -> Iterator[Reason]:
        now = {self.relative(path): path for path in task.inputs}
        before = {stamp.path: stamp for stamp in record.inputs}
        added = [path for place, path in now.items() if place not in before]
        removed = [self.absolute(place) for place in before if place not in now]
        if added:
            yield Reason(f"is a new input{_more(added)}", self.shown(added[0]), spares_core={*added} <= {*task.beside})
        if removed:
            yield Reason("is no longer an input", file=self.shown(removed[0]))
        for stamp in record.inputs:
            path = self.absolute(stamp.path)
            try:
                if not stamp.is_at(path):
                    yield Reason("was changed", self.shown(path), spares_core=path in task.beside)
            except OSError:
                yield Reason("is missing", self.shown(path), spares_core=path in task.beside)
        core = record.summary.get("core")  # of a file that was made again, but not yet recorded, it is as before
        for stamp in record.outputs:
            path = self.absolute(stamp.path)
            if not stamp.is_at(path):
                yield Reason("was changed", self.shown(path), spares_core=bool(core) and core == core_of(path))

    def _changed_observed(self, record: Record) -> Iterator[Reason]:
        for key, before in record.observed.items():
            if self.state(key) != before:
                kind, _, name = self.absolute_key(key).partition(" ")
                if kind == PRESENCE:
                    yield Reason("is no longer there" if before else "is there now", file=self.shown(name))
                    continue
                words = {VARIABLE: "the environment variable ", FOLDER: "the list of files in ", FILE: ""}
                yield Reason("was changed", file=words.get(kind, "the list of files ") + self.shown(name))

    def accept(self, task: Task, dry_run: bool = False) -> Optional[str]:
        """Accept the outputs of a task as up to date if only its code was changed; from then on the record says so.

        It returns how the code was changed; None if that is not the reason to do the task again.
        """
        record, reason = self.read(task), self.reason(task)
        if record is None or reason is None or reason != _changed_code(task, record):
            return None
        if not dry_run:
            change = Acceptance(record.code, reason, time.strftime("%Y-%m-%dT%H:%M:%S%z"))
            accepted = (*record.accepted, change)
            replace(record, code=task.code, version=__version__, accepted=accepted).write(self.path(task))
        return reason


def _difference(place: str, before: Any, now: Any) -> str:
    """The difference in a setting, in words: of a long one, the first part that does."""
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
        keep = f"`nanoml accept {task.stage} CONFIG` keeps what it made"
        return f"NanoML {__version__} does it differently from {record.version}, which did it before ({keep})"
    modules = changed(record.code, task.code)
    if not modules:
        return "the code that does it was changed"
    return f"{modules[0]} was changed{_more(modules)}"


def _more(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


class Fingerprints:
    """Digests of the tasks of a stage that are up to date, so that a run with nothing to do looks at files, and reads no record."""

    def __init__(self, records: Records, stage: str) -> None:
        self._records, self._path = records, records.directory / f"{stage}.txt"
        self._observed: dict[str, set[Optional[str]]] = {}  # of tasks that were done
        self._input = functools.lru_cache(_SHARED)(self._stamp)

    def read(self) -> frozenset[str]:
        """The names of tasks that were up to date; none if this is not known, or something has changed that user code touched."""
        observed, found = self._content()
        return frozenset(found if all(self._records.state(key) == it for key, it in observed.items()) else ())

    def _content(self) -> tuple[dict[str, Optional[str]], list[str]]:
        try:
            observed, versions, *found = self._path.read_text(encoding="utf-8").splitlines()
            for place, (version, content) in dict(json.loads(versions)).items():
                known_hashes.setdefault(self._records.absolute(place), (tuple(version), content))
            return dict(json.loads(observed)), found
        except (OSError, ValueError, TypeError):
            return {}, []

    def write(self, found: Collection[str]) -> None:
        """Note those of tasks that are up to date, and all that user code touches in them."""
        observed = {
            key: state(self._records.absolute_key(key)) for key in sorted({*self._content()[0], *self._observed})
        }
        # of what was changed meanwhile, records know what each task has seen
        observed.update((key, "") for key, seen in self._observed.items() if seen != {observed[key]})
        files = (key.partition(" ")[2] for key in observed if key.startswith(f"{FILE} "))
        versions = {it: known_hashes[path] for it in files if (path := self._records.absolute(it)) in known_hashes}
        lines = (json.dumps(observed), json.dumps(versions), *sorted(found))
        write_text(self._path, "".join(f"{each}\n" for each in lines))

    def now(self, task: Task) -> Optional[str]:
        """The fingerprint of a task with its files as they are; None if one is missing."""
        try:
            return self._digest(task, map(self._input, task.inputs), (self._stamp(str(path)) for path in task.outputs))
        except OSError:
            return None

    def of(self, task: Task, record: Record) -> str:
        """The fingerprint of a task that was just done, as its record says."""
        for key, seen in record.observed.items():
            self._observed.setdefault(key, set()).add(seen)
        return self._digest(task, record.inputs, record.outputs)

    def _stamp(self, path: str) -> str:
        return version_of(path, self._records.relative(path))

    def _digest(self, task: Task, inputs: Iterable[object], outputs: Iterable[object]) -> str:
        settings, record = self._records.settings(task)[1], self._stamp(self._records.place(task))
        return text_hash("\0".join([task.code, settings, record, *map(str, inputs), "", *map(str, outputs)]))
