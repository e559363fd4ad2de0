"""Lists of files that somebody must be asked for, CMS's catalogue or servers, and that stay the same for an analysis."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import astuple, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from data_processing.datasets.catalogue import Catalogue, FileList, UnavailableError, now
from data_processing.datasets.files import DatasetQuery, FileInfo, list_remote
from data_processing.datasets.sources import DatasetReplica
from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.document import Key
from MLTools.NanoML.terminal.progress import progress, say

Confirm = Callable[[str, str, Sequence[str]], bool]
"""Asks whether a dataset's wildcard may stand for these names."""

_Problem = tuple[tuple[Key, ...], str]  # where, and what is wrong

_AT_ONCE = 4  # questions to the catalogue
_SHOWN = 20  # names in a message
_SCHEMA = 1  # of the files with lists


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
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["schema"] != _SCHEMA:
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
        write_text(self.path, json.dumps({"schema": _SCHEMA, "names": self.names, "lists": lists}) + "\n")


def _list_content(found: FileList) -> dict[str, Any]:
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
