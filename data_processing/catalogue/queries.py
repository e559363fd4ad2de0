"""Lists of files that somebody must be asked for: CMS's catalogue, or servers."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Optional

from data_processing.catalogue.cache import now
from data_processing.catalogue.catalogue import Catalogue, FileList, UnavailableError
from data_processing.catalogue.listing import list_remote
from data_processing.catalogue.names import instance_of, is_wildcard
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.datasets import Dataset
from MLTools.NanoML.config.document import Key
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.terminal.progress import progress

__all__ = ["Confirm", "Wildcards", "Wish", "look_up", "place_of"]

Confirm = Callable[[str, str, Sequence[str]], bool]
"""Asks whether a dataset's wildcard may stand for these names."""

_AT_ONCE = 4  # questions to the catalogue
_SHOWN = 20  # names in a message


@dataclass(frozen=True)
class Wish:
    """A list of files that somebody must be asked for.

    Attributes
    ----------
    keys
        The place in the configuration.
    text
        Name of the catalogue, or pattern on a server.
    instance
        Of the catalogue; empty for a server.
    status
        Accepted states of the dataset.
    """

    keys: tuple[Key, ...]
    text: str
    instance: str = ""
    status: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its name among the pins."""
        return f"{self.text} {self.instance}".rstrip()

    def fulfil(self, catalogue: Catalogue) -> FileList:
        """Ask."""
        if self.instance:
            return catalogue.files(self.text, self.instance, self.status)
        return FileList(list_remote(self.text), 0, None, now(), "server")


class Wildcards:
    """What the names of a dataset of the configuration stand for in the catalogue.

    Parameters
    ----------
    config
        The analysis.
    name
        The dataset.
    known
        What wildcards have been taken for earlier.
    catalogue
        Is asked for the others.
    confirm
        Decides whether a wildcard may stand for several datasets; without it, it may not.

    Attributes
    ----------
    used
        Those of `wishes`, and what they were taken for.
    """

    def __init__(
        self,
        config: Config,
        name: str,
        known: Mapping[str, list[str]],
        catalogue: Catalogue,
        confirm: Optional[Confirm],
    ) -> None:
        self._config, self._name, self._known = config, name, known
        self._catalogue, self._confirm = catalogue, confirm
        self.used: list[tuple[Wish, list[str]]] = []

    def wishes(self, dataset: Dataset) -> Iterator[Wish]:
        """The datasets of the catalogue.

        Raises
        ------
        ConfigError
            A wildcard matches none, or several and that is not confirmed.
        UnavailableError
            The catalogue does not answer.
        """
        for number, text in enumerate(dataset.das):
            keys = place_of(self._config, self._name, "das", number)
            instance = dataset.instance or instance_of(text)
            wish = Wish(keys, text, instance, tuple(dataset.status))
            if not is_wildcard(text):
                yield wish
                continue
            names = self._known.get(wish.key) or self._matches(wish)
            self.used.append((wish, names))
            for one in names:
                yield replace(wish, text=one)

    def _matches(self, wish: Wish) -> list[str]:
        try:
            found = self._catalogue.datasets(wish.text, wish.instance)
        except UnavailableError as problem:
            raise _unavailable(self._config, [(wish.keys, str(problem))]) from None
        except NanoMLError as problem:
            raise self._config.error(*wish.keys, message=str(problem)) from None
        names = [entry.name for entry in found if entry.status in wish.status]
        if not names:
            has = ", ".join(sorted({entry.status for entry in found}))
            many = "1 dataset" if len(found) == 1 else f"{len(found)} datasets"
            message = f"{wish.text}: matches {many} of status {has}, none of {', '.join(wish.status)}"
            raise self._config.error(*wish.keys, message=message)
        if len(names) > 1 and not (self._confirm and self._confirm(self._name, wish.text, names)):
            raise self._config.error(*wish.keys, message=self._too_many(wish, names))
        return names

    def _too_many(self, wish: Wish, names: Sequence[str]) -> str:
        matches = f"{wish.text}: matches {len(names)} datasets"
        command = f"nanoml datasets {shlex.quote(self._config.document.name)}"
        if self._confirm:
            return f"{matches}. Name those that you want, or take all by `{command} --yes`"
        shown = "".join(f"\n  {name}" for name in names[:_SHOWN])
        more = f"\n  and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return f"{matches}:{shown}{more}\nName those that you want, or take all: `{command}` helps with both"


def place_of(config: Config, name: str, key: str, number: int) -> tuple[Key, ...]:
    """Where an item is written; it may be without the brackets of a list."""
    keys = ("datasets", name, key, number)
    return keys if keys in config.document.lines else keys[:-1]


def look_up(config: Config, wishes: Sequence[Wish], catalogue: Catalogue) -> dict[str, FileList]:
    """Ask for lists of files, several at the same time.

    Raises
    ------
    ConfigError, NanoMLError
        As `describe`.
    """
    if not wishes:
        return {}
    found: dict[str, FileList] = {}
    wrong: list[tuple[tuple[Key, ...], str]] = []
    silent: list[tuple[tuple[Key, ...], str]] = []
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        with progress("datasets", len(wishes), "looked up") as bar:
            asked: dict[Future[FileList], Wish] = {
                pool.submit(wish.fulfil, catalogue): wish for wish in dict.fromkeys(wishes)
            }
            for future in as_completed(asked):
                wish = asked[future]
                try:
                    found[wish.key] = future.result()
                except UnavailableError as problem:
                    silent.append((wish.keys, str(problem)))
                except NanoMLError as problem:
                    wrong.append((wish.keys, str(problem)))
                bar.advance()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if wrong:
        raise config.document.error([*wrong, *silent])
    if silent:
        raise _unavailable(config, silent)
    return found


def _unavailable(config: Config, problems: Sequence[tuple[tuple[Key, ...], str]]) -> UnavailableError:
    """An error with places, which is not the configuration's fault."""
    return UnavailableError(str(config.document.error(problems)))
