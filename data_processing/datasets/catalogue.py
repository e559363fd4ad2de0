"""CMS's catalogue of datasets, whoever answers for it: asked again after failures, and remembered for a day."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from operator import attrgetter
from pathlib import Path
from typing import Any, Optional

from data_processing.datasets.files import FileInfo, check_name, is_wildcard
from data_processing.datasets.sources import (
    VARIABLE,
    CatalogueEntry,
    DatasetReplica,
    NoAnswerError,
    RefusedError,
    source,
)
from MLTools.NanoML.atomic import cache_directory, write_text
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.terminal.progress import say

WAITS: tuple[float, ...] = (2.0, 10.0)
"""Seconds between tries."""

_DAY = timedelta(days=1)
_SCHEMA = 1  # of the files with answers
_COLUMNS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
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
            content = json.loads(cls.path(question).read_text(encoding="utf-8"))
            if content["schema"] == _SCHEMA and content["question"] == question:
                return cls(question, datetime.fromisoformat(content["date"]), content["source"], content["rows"])
        except (OSError, ValueError, LookupError, TypeError):
            pass
        return None

    def write(self) -> None:
        content = {"schema": _SCHEMA, **vars(self), "date": self.date.isoformat()}
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
        """A hint for a name that is not there."""
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

    def _insist(self, what: str, name: str, instance: str) -> Any:
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

    def _once(self, what: str, name: str, instance: str) -> Any:
        ask: Callable[[str, str], Optional[Sequence[Any]]] = getattr(self._source, f"{what}s")
        found = ask(name, instance)
        return None if found is None else [_COLUMNS[what](each) for each in found]
