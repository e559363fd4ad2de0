"""CMS's catalogue of datasets, whichever source answers: it is asked again after failures, and answers are remembered for a day.

Lists of files that somebody was asked for, this catalogue or servers, stay the same for an analysis.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import astuple, dataclass, field, replace
from datetime import datetime, timedelta, timezone
from operator import attrgetter
from pathlib import Path
from typing import Any, Optional

from data_processing.datasets.files import DatasetQuery, FileInfo, check_name, is_wildcard, list_remote
from data_processing.datasets.sources import (
    VARIABLE,
    CatalogueEntry,
    DatasetReplica,
    NoAnswerError,
    RefusedError,
    source,
)
from MLTools.NanoML.atomic import cache_directory, write_text
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.document import Key
from MLTools.NanoML.schema.plain import content_of
from MLTools.NanoML.terminal.progress import progress, say

Confirm = Callable[[str, str, Sequence[str]], bool]
"""Asks whether a dataset's wildcard may stand for these names."""

_Problem = tuple[tuple[Key, ...], str]  # where, and what is wrong

_AT_ONCE = 4  # questions to the catalogue
_SHOWN = 20  # names in a message
_SCHEMA_OF_LISTS = 1

WAITS: tuple[float, ...] = (2.0, 10.0)
"""Seconds between tries."""

_DAY = timedelta(days=1)
_SCHEMA_OF_ANSWERS = 1
_COLUMNS: dict[str, Callable[[object], tuple[object, ...]]] = {
    "dataset": attrgetter("name", "status"),
    "file": attrgetter("name", "events", "size", "adler32", "valid", "block"),
    "site": attrgetter("name", "kind", "share"),
}
"""The columns that are remembered of each kind of answer."""


class UnavailableError(NanoMLError):
    """The catalogue does not answer, and never did to this question."""


def now() -> datetime:
    """The time, to seconds."""
    return datetime.now(timezone.utc).replace(microsecond=0)


@dataclass(frozen=True)
class FileList:
    """The valid files of a dataset, in the order of their names."""

    files: Sequence[FileInfo]  # under their logical names
    invalid: int  # number of other files, which must not be used
    sites: Optional[Sequence[DatasetReplica]]  # where the dataset is; None if that is not known
    date: datetime  # of the answer
    source: str  # who was asked


@dataclass(frozen=True)
class _Answer:
    """A remembered answer: the rows, when they were given, and by whom."""

    question: str
    date: datetime
    source: str
    rows: Any

    @staticmethod
    def path(question: str) -> Path:
        return cache_directory() / "das" / f"{hashlib.sha256(question.encode()).hexdigest()[:24]}.json"

    @classmethod
    def read(cls, question: str) -> Optional[_Answer]:
        """The answer to a question; None if there is none that can be read."""
        try:
            content = content_of(cls.path(question))
            if content["schema"] == _SCHEMA_OF_ANSWERS and content["question"] == question:
                return cls(question, datetime.fromisoformat(content["date"]), content["source"], content["rows"])
        except (OSError, ValueError, LookupError, TypeError):
            pass
        return None

    def write(self) -> None:
        content = {"schema": _SCHEMA_OF_ANSWERS, **vars(self), "date": self.date.isoformat()}
        with contextlib.suppress(NanoMLError):  # then it is asked for again next time
            write_text(self.path(self.question), json.dumps(content))


class Catalogue:
    """The catalogue; with `refresh` it is asked anew, whatever is remembered."""

    def __init__(self, refresh: bool = False) -> None:
        self._refresh = refresh
        self._source = source()
        self._down = ""
        self._warned: set[str] = set()

    def datasets(self, name: str, instance: str) -> list[CatalogueEntry]:
        """The datasets of a name or pattern, whatever their status.

        Raises
        ------
        NanoMLError
            There are none.
        UnavailableError
            The catalogue does not answer.
        """
        found = self._entries(name, instance)
        if not found:
            raise NanoMLError(f"{name}: is not in the catalogue ({instance}).{self._hint(name, instance)}")
        return found

    def _entries(self, name: str, instance: str) -> list[CatalogueEntry]:
        return [CatalogueEntry(*row) for row in self._ask("dataset", name, instance).rows]

    def _hint(self, name: str, instance: str) -> str:
        _, primary, _, tier = name.split("/")
        start = re.split("[_*]", primary)[0]
        wider = [f"/{primary}/*/{tier}", f"/{start}*/*/{tier}"] if start and not is_wildcard(name) else []
        for pattern in wider:
            try:
                others = [entry.name for entry in self._entries(pattern, instance)]
            except NanoMLError:
                break
            close = difflib.get_close_matches(name, others, n=3, cutoff=0.8)
            if close:
                return f" Did you mean {' or '.join(close)}?"
        return f" Look for it with wildcards: nanoml datasets '/{start[:4]}*/*/{tier}'"

    def files(self, name: str, instance: str, status: Sequence[str] = ("VALID",)) -> FileList:
        """The files of a dataset, by its name without wildcards, if its status is one of those accepted.

        Raises
        ------
        NanoMLError
            There is no such dataset, its status is another one, or it has no valid file.
        UnavailableError
            The catalogue does not answer.
        """
        entry = self.datasets(name, instance)[0]
        if entry.status == "DELETED":
            raise NanoMLError(f"{name}: is DELETED in the catalogue: it has no files any more.")
        if entry.status not in status:
            raise NanoMLError(
                f"{name}: is {entry.status} in the catalogue: do not use it, or accept it with "
                f'"status: [{", ".join([*status, entry.status])}]".'
            )
        answer = self._ask("file", name, instance)
        files = sorted((FileInfo(*row) for row in answer.rows), key=lambda file: file.name)
        valid = [file for file in files if file.valid]
        if not valid:
            why = f"all {len(files)} are invalid" if files else "it is empty"
            raise NanoMLError(f"{name}: the catalogue has no files of it that can be used ({why}).")
        sites = None
        with contextlib.suppress(NanoMLError):  # nothing depends on it
            rows = self._ask("site", name, instance, insist=False).rows
            sites = None if rows is None else [DatasetReplica(*row) for row in rows]
        return FileList(valid, len(files) - len(valid), sites, answer.date, answer.source)

    def _ask(self, what: str, name: str, instance: str, insist: bool = True) -> _Answer:
        question = f"{what} {check_name(name)} {instance} {os.environ.get(VARIABLE, '')}".rstrip()
        earlier = _Answer.read(question)
        # an answer from the future, after a clock was set, is not fresh
        if earlier is not None and timedelta(0) <= now() - earlier.date < _DAY and not self._refresh:
            return earlier
        try:
            found = self._insist(what, name, instance) if insist else self._once(what, name, instance)
        except RefusedError as problem:
            raise NanoMLError(f"{name}: the catalogue refuses the query: {problem}.") from None
        except NoAnswerError as problem:
            reason = str(problem).rstrip(".")
            if earlier is None or self._refresh:
                raise UnavailableError(f"{name}: the catalogue does not answer: {reason}.") from None
            warning = f"{name}: taking what the catalogue said on {earlier.date:%Y-%m-%d}: now {reason}."
            if warning not in self._warned:
                self._warned.add(warning)
                say(warning)
            return earlier
        answer = _Answer(question, now(), self._source.name, found)
        if found:  # what is missing now may be there in a moment
            answer.write()
        return answer

    def _insist(self, what: str, name: str, instance: str) -> object:
        """Ask, and again after failures; not if that was in vain for another question."""
        if self._down:
            raise NoAnswerError(self._down, may_pass=False)
        for wait in (*WAITS, None):
            try:
                return self._once(what, name, instance)
            except NoAnswerError as problem:
                if wait is None or not problem.may_pass:
                    self._down = str(problem)
                    raise
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _once(self, what: str, name: str, instance: str) -> object:
        ask: Callable[[str, str], Optional[Sequence[object]]] = getattr(self._source, f"{what}s")
        found = ask(name, instance)
        return None if found is None else [_COLUMNS[what](each) for each in found]


@dataclass
class FoundLists:
    """The answers to the queries of one dataset of the configuration, which are kept: nobody is asked again."""

    path: Path  # WORKDIR/.nanoml/datasets/NAME.json
    # for queries with a wildcard, by their `key`: the names that they stand for
    names: dict[str, list[str]] = field(default_factory=dict)
    # for names of the catalogue and patterns on servers, by their `key`: the files
    lists: dict[str, FileList] = field(default_factory=dict)
    new: list[DatasetQuery] = field(default_factory=list, compare=False)  # what was asked for just now

    def queries(self, query: DatasetQuery) -> list[DatasetQuery]:
        """One query for each dataset that a wildcard matches, or the query itself."""
        return [replace(query, text=name) for name in self.names[query.key]] if query.has_wildcard else [query]

    @classmethod
    def read(cls, directory: Path, dataset: str) -> FoundLists:
        """Read the earlier answers, if there are any; NanoMLError if the file is damaged."""
        path = directory / f"{dataset}.json"
        try:
            content = content_of(path)
            if content["schema"] != _SCHEMA_OF_LISTS:
                raise ValueError
            names = {key: [str(name) for name in names] for key, names in content["names"].items()}
            return cls(path, names, {key: _list_from(value) for key, value in content["lists"].items()})
        except FileNotFoundError:
            return cls(path)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            raise NanoMLError(
                f"{path}: cannot be read. It has the list of files of {dataset}: restore it from a copy, or "
                "remove it to query the catalogue again."
            ) from None

    def write(self) -> None:
        """Keep it."""
        lists = {key: _list_content(value) for key, value in self.lists.items()}
        write_text(self.path, json.dumps({"schema": _SCHEMA_OF_LISTS, "names": self.names, "lists": lists}) + "\n")


def _list_content(found: FileList) -> dict[str, object]:
    return {
        "date": found.date.isoformat(),
        "source": found.source,
        "invalid": found.invalid,
        "sites": None if found.sites is None else [astuple(replica) for replica in found.sites],
        "files": [[file.name, file.events, file.size, file.adler32, file.block] for file in found.files],
    }


def _list_from(content: Any) -> FileList:
    sites = content["sites"]
    return FileList(
        [FileInfo(name, events, size, adler32, block=block) for name, events, size, adler32, block in content["files"]],
        content["invalid"],
        None if sites is None else [DatasetReplica(*site) for site in sites],
        datetime.fromisoformat(content["date"]),
        content["source"],
    )


def look_up(
    config: Config,
    queries: Mapping[str, Sequence[DatasetQuery]],
    directory: Path,
    refresh: bool,
    confirm: Optional[Confirm],
) -> dict[str, FoundLists]:
    """Find the files that the queries of each dataset stand for, and keep the lists in a directory.

    Lists from there are taken as they are, unless they are to be refreshed. A wildcard may stand for several datasets if
    `confirm` agrees.

    Raises
    ------
    ConfigError
        A dataset does not exist or may not be used, or a wildcard matches none, or several and that is not confirmed.
    UnavailableError
        The catalogue does not answer.
    NanoMLError
        A server does not answer, or a file with lists is damaged.
    """
    catalogue = Catalogue(refresh)
    earlier = {name: FoundLists.read(directory, name) for name in queries}
    found: dict[str, FoundLists] = {}
    wanted: dict[str, list[DatasetQuery]] = {}
    for name, asked in queries.items():
        each = found[name] = FoundLists(earlier[name].path)
        known = each if refresh else earlier[name]
        for query in asked:
            if query.has_wildcard:
                names = known.names.get(query.key) or _matches(config, name, query, catalogue, confirm)
                each.names[query.key] = names
        wanted[name] = [one for query in asked for one in each.queries(query)]
        each.new = [one for one in wanted[name] if one.key not in known.lists]
    lists = _ask_all(config, [one for each in found.values() for one in each.new], catalogue)
    for name, each in found.items():
        known_lists = {} if refresh else earlier[name].lists
        each.lists = {one.key: known_lists.get(one.key) or lists[one.key] for one in wanted[name]}
        if each != earlier[name]:
            for query in dict.fromkeys(each.new):
                if invalid := each.lists[query.key].invalid:
                    many = "1 file" if invalid == 1 else f"{invalid} files"
                    say(f"{name}: left out {many} of {query.text} that the catalogue calls invalid.")
            each.write()
    return found


def _matches(
    config: Config, name: str, query: DatasetQuery, catalogue: Catalogue, confirm: Optional[Confirm]
) -> list[str]:
    """The names that a wildcard stands for."""
    try:
        found = catalogue.datasets(query.text, query.instance)
    except UnavailableError as problem:
        raise _unavailable(config, [(query.keys, str(problem))]) from None
    except NanoMLError as problem:
        raise config.error(*query.keys, message=str(problem)) from None
    names = [entry.name for entry in found if entry.status in query.status]
    if len(names) == 1 or (names and confirm and confirm(name, query.text, names)):
        return names
    many = f"{len(names or found)} dataset{'' if len(names or found) == 1 else 's'}"
    command = f"nanoml datasets {shlex.quote(config.document.name)}"
    if not names:
        has = ", ".join(sorted({entry.status for entry in found}))
        advice = f" of status {has}, none of {', '.join(query.status)}"
    elif confirm:
        advice = f". Name those that you want, or take all by `{command} --yes`"
    else:
        shown = "".join(f"\n  {name}" for name in names[:_SHOWN])
        more = f"\n  and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        advice = f":{shown}{more}\nName those that you want, or take all: `{command}` helps with both"
    raise config.error(*query.keys, message=f"{query.text}: matches {many}{advice}")


def ask(query: DatasetQuery, catalogue: Catalogue) -> FileList:
    """Ask the catalogue or the server for the files of a query without wildcards of the catalogue."""
    if query.instance:
        return catalogue.files(query.text, query.instance, query.status)
    return FileList(list_remote(query.text), 0, None, now(), "server")


def _ask_all(config: Config, queries: Sequence[DatasetQuery], catalogue: Catalogue) -> dict[str, FileList]:
    """Ask for lists of files, several at the same time; all that is wrong is reported at once."""
    if not queries:
        return {}
    found: dict[str, FileList] = {}
    wrong: list[_Problem] = []
    silent: list[_Problem] = []
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        with progress("datasets", len(queries), "looked up") as bar:
            asked = {pool.submit(ask, query, catalogue): query for query in dict.fromkeys(queries)}
            for future in as_completed(asked):
                query = asked[future]
                try:
                    found[query.key] = future.result()
                except UnavailableError as problem:
                    silent.append((query.keys, str(problem)))
                except NanoMLError as problem:
                    wrong.append((query.keys, str(problem)))
                bar.advance()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if wrong:
        raise config.document.error([*wrong, *silent])
    if silent:
        raise _unavailable(config, silent)
    return found


def _unavailable(config: Config, problems: Sequence[_Problem]) -> UnavailableError:
    """An error with places, which is not the configuration's fault."""
    return UnavailableError(str(config.document.error(problems)))
