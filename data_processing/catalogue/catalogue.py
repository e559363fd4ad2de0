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
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional, Protocol

from data_processing.catalogue.answers import CatalogueEntry, DatasetReplica, FileList, NoAnswerError, RefusedError
from data_processing.catalogue.dasgoclient import DasGoClient
from data_processing.catalogue.dbs import SERVER, VARIABLE, Dbs
from data_processing.datasets.files import FileInfo, check_name, is_wildcard
from MLTools.NanoML.atomic import cache_directory, write_text
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.terminal.progress import say

DAY = timedelta(days=1)
_SCHEMA = 1  # of the files with answers
WAITS: tuple[float, ...] = (2.0, 10.0)
"""Seconds between tries."""


class UnavailableError(NanoMLError):
    """The catalogue does not answer, and never did to this question."""


def now() -> datetime:
    """The time, to seconds."""
    return datetime.now(timezone.utc).replace(microsecond=0)


@dataclass(frozen=True)
class _CachedAnswer:
    """An answer, as JSON holds it, when it was given, and by whom."""

    rows: Any
    date: datetime
    source: str

    @property
    def is_fresh(self) -> bool:
        """Whether it is less than a day old; one from the future, after a clock was set, is not."""
        return timedelta(0) <= now() - self.date < DAY


class _Cache:
    """The directory of answers, one file for each question. What cannot be read there counts as missing."""

    def __init__(self) -> None:
        self._directory = cache_directory() / "das"

    def get(self, question: str) -> Optional[_CachedAnswer]:
        """The answer to a question; None if there is none."""
        try:
            content = json.loads(self._path(question).read_text(encoding="utf-8"))
            if content["schema"] == _SCHEMA and content["question"] == question:
                return _CachedAnswer(content["rows"], datetime.fromisoformat(content["date"]), content["source"])
        except (OSError, ValueError, LookupError, TypeError):
            pass
        return None

    def put(self, question: str, kept: _CachedAnswer) -> None:
        """Keep an answer; if that fails, it is asked for again next time."""
        content = {
            "schema": _SCHEMA,
            "question": question,
            "date": kept.date.isoformat(),
            "source": kept.source,
            "rows": kept.rows,
        }
        with contextlib.suppress(NanoMLError):
            write_text(self._path(question), json.dumps(content))

    def _path(self, question: str) -> Path:
        return self._directory / f"{hashlib.sha256(question.encode()).hexdigest()[:24]}.json"


class CatalogueSource(Protocol):
    """Who answers. Each method raises RefusedError or NoAnswerError."""

    name: str

    def datasets(self, name: str, instance: str) -> list[CatalogueEntry]:
        """The datasets of a name or pattern, whatever their status."""

    def files(self, name: str, instance: str) -> list[FileInfo]:
        """All files of a dataset, also those that are not valid."""

    def sites(self, name: str, instance: str) -> Optional[list[DatasetReplica]]:
        """Where a dataset is; None if that is not known."""


def _source() -> CatalogueSource:
    """The server that NANOML_DBS names, or dasgoclient if it is installed, or DBS."""
    named = os.environ.get(VARIABLE)
    return Dbs(named) if named else DasGoClient.here() or Dbs(SERVER)


class Catalogue:
    """The catalogue; with `refresh` it is asked anew, whatever is remembered."""

    def __init__(self, refresh: bool = False) -> None:
        self._refresh = refresh
        self._source = _source()
        self._cache = _Cache()
        self._server = os.environ.get(VARIABLE, "")
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
        def ask() -> Any:
            return [astuple(entry) for entry in self._source.datasets(name, instance)]

        return [CatalogueEntry(*row) for row in self._ask("dataset", name, instance, ask).rows]

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
            raise NanoMLError(f"{name}: is DELETED, says the catalogue: there are no files any more.")
        if entry.status not in status:
            raise NanoMLError(
                f"{name}: is {entry.status}, says the catalogue: do not use it, or accept that by "
                f'"status: [{", ".join([*status, entry.status])}]".'
            )
        kept = self._ask("file", name, instance, lambda: _rows(self._source.files(name, instance)))
        files = sorted((_file(row) for row in kept.rows), key=lambda file: file.name)
        valid = [file for file in files if file.valid]
        if not valid:
            why = f"all {len(files)} are invalid" if files else "it is empty"
            raise NanoMLError(f"{name}: the catalogue has no files of it that can be used ({why}).")
        return FileList(valid, len(files) - len(valid), self._sites(name, instance), kept.date, kept.source)

    def _sites(self, name: str, instance: str) -> Optional[list[DatasetReplica]]:
        """Where a dataset is. Nothing depends on it, so that failures do not matter."""

        def ask() -> Any:
            found = self._source.sites(name, instance)
            return None if found is None else [astuple(each) for each in found]

        try:
            rows = self._ask("site", name, instance, ask, insist=False).rows
        except NanoMLError:
            return None
        return None if rows is None else [DatasetReplica(*row) for row in rows]

    def _ask(self, what: str, name: str, instance: str, ask: Callable[[], Any], insist: bool = True) -> _CachedAnswer:
        question = f"{what} {check_name(name)} {instance} {self._server}".rstrip()
        kept = self._cache.get(question)
        if kept is not None and kept.is_fresh and not self._refresh:
            return kept
        try:
            answer = _CachedAnswer(self._insist(ask) if insist else ask(), now(), self._source.name)
        except RefusedError as problem:
            raise NanoMLError(f"{name}: the catalogue refuses the question: {problem}.") from None
        except NoAnswerError as problem:
            reason = str(problem).rstrip(".")
            if kept is None or self._refresh:
                raise UnavailableError(f"{name}: the catalogue does not answer: {reason}.") from None
            self._warn(f"{name}: taking what the catalogue said on {kept.date:%Y-%m-%d}: now {reason}.")
            return kept
        if answer.rows:  # what is missing now may be there in a moment
            self._cache.put(question, answer)
        return answer

    def _insist(self, ask: Callable[[], Any]) -> Any:
        """Ask, and again after failures; not if that was in vain for another question."""
        if self._down:
            raise NoAnswerError(self._down, may_pass=False)
        for wait in (*WAITS, None):
            try:
                return ask()
            except NoAnswerError as problem:
                if wait is None or not problem.may_pass:
                    self._down = str(problem)
                    raise
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            say(text)


def _rows(files: Sequence[FileInfo]) -> list[list[Any]]:
    return [[file.name, file.events, file.size, file.adler32, file.valid, file.block] for file in files]


def _file(row: Sequence[Any]) -> FileInfo:
    name, events, size, adler32, valid, block = row
    return FileInfo(name, events, size, adler32, valid, (), block)
