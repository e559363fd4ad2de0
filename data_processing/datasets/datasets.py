"""The files of each dataset of a configuration, what is known of them before they are read, and an overview for people."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

from data_processing.datasets.files import (
    DatasetQuery,
    FileInfo,
    check_name,
    file_patterns,
    find_same,
    instance_of,
    is_wildcard,
    list_remote,
    place_of,
    url_of,
)
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import RECORDS, locked
from MLTools.NanoML.rootio.remote.client import current_settings
from MLTools.NanoML.rootio.remote.server import is_remote
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.layout import Layout

if TYPE_CHECKING:  # the catalogue is imported where it is needed: a run of local files does without
    from data_processing.datasets.catalogue import Catalogue, Confirm, FileList, FoundLists
    from data_processing.datasets.sources import CatalogueEntry, DatasetReplica
    from MLTools.NanoML.config.data import Dataset


@dataclass(frozen=True)
class DatasetPart:
    """The files that one name or pattern of a dataset stands for."""

    text: str  # the name or pattern; empty for all files that are named one by one
    files: Sequence[FileInfo]
    query: Optional[DatasetQuery] = None  # None for files that are named or are on this machine
    found: Optional[FileList] = None  # the answer of the catalogue or a server
    earlier: bool = False  # whether that was answered earlier, not just now


@dataclass(frozen=True)
class DatasetFiles:
    """The files of a dataset."""

    files: Sequence[FileInfo]  # what a run reads
    parts: Sequence[DatasetPart]  # what there is, before max_files and max_events
    wildcards: Sequence[tuple[DatasetQuery, Sequence[str]]]  # with the names that they stand for


def find_files(patterns: Iterable[str], base: Path) -> list[str]:
    """Files that paths, globs, URLs, logical names and text files of these name, in order.

    Raises NanoMLError if a pattern matches nothing, or a file is named twice, possibly by two names.
    """
    found: list[str] = []
    for pattern in file_patterns(patterns, base, current_settings().redirectors):
        found += [file.name for file in (list_remote(pattern.text) if pattern.is_listing else pattern.files())]
    same = find_same(found)
    if same is not None:
        raise NanoMLError(f"{_named_twice(*(found[at] for at in same))}. Name it once.")
    return found


def resolve_datasets(config: Config) -> dict[str, list[str]]:
    """The files that a run reads of every dataset: paths and URLs. It raises as `describe_datasets` does."""
    return {name: [file.name for file in each.files] for name, each in describe_datasets(config).items()}


def describe_datasets(
    config: Config, refresh: bool = False, confirm: Optional[Confirm] = None
) -> dict[str, DatasetFiles]:
    """Find the files of each dataset.

    What the catalogue or a server answered is kept in the work directory, and stays the same until it is asked anew.

    Parameters
    ----------
    refresh
        Ask anew for what has been found earlier.
    confirm
        Decides whether a wildcard may stand for several datasets; without it, it may not.

    Raises
    ------
    ConfigError
        A dataset or a file does not exist or must not be used, or a file is named twice, in one dataset or in two,
        possibly by two names; with the place in the configuration.
    NanoMLError
        The catalogue or a server does not answer.
    """
    pieces = {name: list(_pieces(config, name, dataset)) for name, dataset in config.datasets.items()}
    queries = {name: [piece for piece in each if isinstance(piece, DatasetQuery)] for name, each in pieces.items()}
    directory = Layout.of(config).workdir / RECORDS / "datasets"
    lists: Mapping[str, FoundLists] = {}
    if any(queries.values()) or directory.is_dir():
        from data_processing.datasets.catalogue import look_up

        lists = look_up(config, queries, directory, refresh, confirm)
    found = {}
    for name, each in pieces.items():
        parts: list[DatasetPart] = []
        for piece in each:
            parts += _parts(config, piece, lists[name]) if isinstance(piece, DatasetQuery) else [DatasetPart("", piece)]
        wildcards = [(query, lists[name].names[query.key]) for query in queries[name] if query.has_wildcard]
        files = _limited(config, name, [file for part in parts for file in part.files])
        found[name] = DatasetFiles(files, parts, wildcards)
    _check_duplicates(config, found)
    return found


def _pieces(config: Config, name: str, dataset: Dataset) -> Iterator[Union[DatasetQuery, list[FileInfo]]]:
    """Questions to the catalogue and servers, and between them files that are named one by one or are on this machine."""
    for number, text in enumerate(dataset.das):
        keys = place_of(config, name, "das", number)
        yield DatasetQuery(keys, text, dataset.instance or instance_of(text), tuple(dataset.status))
    files: list[FileInfo] = []
    number = 0
    try:
        for pattern in file_patterns(dataset.files, config.base, config.read.redirectors):
            number = pattern.number
            if not pattern.is_listing:
                files += pattern.files()
                continue
            if files:
                yield files
                files = []
            yield DatasetQuery(place_of(config, name, "files", number), pattern.text)
    except NanoMLError as problem:
        raise config.error(*place_of(config, name, "files", number), message=str(problem)) from None
    if files:
        yield files


def _parts(config: Config, asked: DatasetQuery, lists: FoundLists) -> Iterator[DatasetPart]:
    for query in lists.queries(asked):
        found = lists.lists[query.key]
        files = found.files
        if query.instance:  # the catalogue has logical names
            sites = tuple(replica.name for replica in found.sites or () if replica.has_all)
            redirectors = config.read.redirectors
            try:
                files = [replace(file, name=url_of(file.name, redirectors), sites=sites) for file in files]
            except NanoMLError as problem:
                raise config.error(*query.keys, message=str(problem)) from None
        yield DatasetPart(query.text, files, query, found, query not in lists.new)


def _limited(config: Config, name: str, files: Sequence[FileInfo]) -> list[FileInfo]:
    """The first files, as many as the dataset's settings allow."""
    dataset = config.datasets[name]
    chosen = list(files[: dataset.max_files])
    if dataset.max_events is None:
        return chosen
    events = 0
    for number, file in enumerate(chosen, 1):
        if file.events is None:
            message = f"the number of events of {file.name} is not known before it is read. Use max_files"
            raise config.error("datasets", name, "max_events", message=message)
        events += file.events
        if events >= dataset.max_events:
            return chosen[:number]
    return chosen


def _check_duplicates(config: Config, found: Mapping[str, DatasetFiles]) -> None:
    """Refuse a file that is named twice, in one dataset or in two."""
    owners = [(name, file.name) for name, each in found.items() for file in each.files]
    same = find_same([file for _, file in owners])
    if same is None:
        return
    (other, first), (name, second) = (owners[at] for at in same)
    message = _named_twice(first, second)
    if name != other:
        also = f", as {first}" if first != second else ""
        message = f"{second} is also in dataset {other}{also}: an event would count twice"
    key = "files" if config.datasets[name].files else "das"
    raise config.error("datasets", name, key, message=message)


def _named_twice(first: str, second: str) -> str:
    same = "is named twice" if first == second else f"has the same events as {first}"
    return f"{second}: {same}, so that they would count twice"


def output_names(files: list[str], suffix: str = ".root") -> dict[str, str]:
    """A file name for the output of each input: its own, with a hash of its path if two have the same."""
    stems = {file: posixpath.splitext(posixpath.basename(file.partition("?")[0]))[0] for file in files}
    shared = {stem for stem, times in Counter(stems.values()).items() if times > 1}
    return {
        file: f"{stem}-{hashlib.sha256(file.encode()).hexdigest()[:8]}{suffix}" if stem in shared else stem + suffix
        for file, stem in stems.items()
    }


def root_files(analysis: Analysis) -> dict[str, list[str]]:
    """The files of each dataset, by name, that stages after the skim read: the skims, or its own files if there is no skim."""
    skims = Layout.of(analysis.config).skims
    return {
        name: [
            str(skims(name) / output) if analysis.config.skim else path
            for path, output in output_names(list(paths)).items()
            if path not in analysis.left_out(name)
        ]
        for name, paths in sorted(analysis.files.items())
    }


@dataclass(frozen=True)
class Totals:
    """Numbers of files, and of their events and bytes; None if these are not known for all files."""

    files: int
    events: Optional[int]
    size: Optional[int]


@dataclass(frozen=True)
class PartOverview(Totals):
    """A name or pattern of a dataset: who answered for it and when, and where its files are."""

    name: Optional[str]
    from_: str
    invalid: int
    date: Optional[str]
    sites: Optional[Sequence[DatasetReplica]]


@dataclass(frozen=True)
class PartDetails(PartOverview):
    """A dataset of the catalogue with the names of its files."""

    names: Sequence[str]


@dataclass(frozen=True)
class DatasetOverview:
    """A dataset of a configuration: what a run reads of it, what there is, and what has changed in the catalogue."""

    name: str
    class_: Optional[str]
    cross_section: Optional[float]
    data: bool
    read: Totals
    available: Totals
    parts: Sequence[PartOverview]
    news: Sequence[str]


@dataclass(frozen=True)
class QueryOverview:
    """The datasets of the catalogue for a name or pattern; the details if it is one dataset."""

    query: str
    instance: str
    wildcard: bool
    datasets: Sequence[CatalogueEntry]
    details: Optional[PartDetails]


def overview(config: Config, refresh: bool = False, confirm: Optional[Confirm] = None) -> list[DatasetOverview]:
    """The files of each dataset, and what has changed in the catalogue; arguments as of `describe_datasets`.

    Raises NanoMLError as `describe_datasets` does, or if the lists are to be taken anew while a run reads them.
    """
    from data_processing.datasets.catalogue import Catalogue

    with locked(Layout.of(config).workdir) if refresh else nullcontext():
        found = describe_datasets(config, refresh, confirm)
    catalogue = Catalogue()
    return [
        DatasetOverview(
            name,
            config.datasets[name].class_,
            config.datasets[name].cross_section,
            config.datasets[name].is_data,
            Totals(*_totals(each.files)),
            Totals(*_totals([file for part in each.parts for file in part.files])),
            [_part(part) for part in each.parts],
            list(_news(each, catalogue)),
        )
        for name, each in found.items()
    ]


def _totals(files: Sequence[FileInfo]) -> tuple[int, Optional[int], Optional[int]]:
    known = [file.events for file in files], [_size(file) for file in files]
    events, size = (None if None in values else sum(filter(None, values)) for values in known)
    return len(files), events, size


def _size(file: FileInfo) -> Optional[int]:
    if is_remote(file.name):
        return file.size
    try:
        return os.path.getsize(file.name)
    except OSError:  # reported when the file is read
        return None


def _part(part: DatasetPart) -> PartOverview:
    found, sites = part.found, None
    if found is None:
        remote = sum(is_remote(file.name) for file in part.files)
        whence = (
            "this machine" if not remote else "servers" if remote == len(part.files) else "this machine and servers"
        )
        return PartOverview(*_totals(part.files), part.text or None, whence, 0, None, None)
    if found.sites is not None:  # the best first
        sites = sorted(found.sites, key=lambda it: (not it.has_all, it.kind != "DISK", -it.share, it.name))
    return PartOverview(
        *_totals(part.files), part.text or None, found.source, found.invalid, found.date.isoformat(), sites
    )


def _news(found: DatasetFiles, catalogue: Catalogue) -> Iterable[str]:
    """The changes since the lists were taken, in sentences."""
    from data_processing.datasets.catalogue import UnavailableError, ask

    for part in found.parts:
        if part.query is None or part.found is None or not part.earlier:
            continue
        since = f"{part.text}, as it was on {part.found.date:%Y-%m-%d}:"
        try:
            change = _change(part.found, ask(part.query, catalogue))
        except UnavailableError as problem:
            reason = str(problem).removeprefix(f"{part.text}: ")
            yield f"{since} it may have changed. {reason[:1].upper()}{reason[1:]}"
        except NanoMLError as problem:
            yield f"{since} now it {str(problem).removeprefix(f'{part.text}: ')}"
        else:
            if change:
                yield f"{since} now {change}; --refresh takes the files of today."
    for query, names in found.wildcards:
        try:
            entries = catalogue.datasets(query.text, query.instance)
        except NanoMLError:  # reported above, for its datasets
            continue
        new = [entry.name for entry in entries if entry.status in query.status and entry.name not in names]
        if new:
            yield f"{query.text}: now also matches {', '.join(new)}; --refresh takes the files of today."


def _change(before: FileList, after: FileList) -> str:
    old, new = ({file.name for file in found.files} for found in (before, after))
    parts = [
        f"{len(names)} {'file' if len(names) == 1 else 'files'} {what}"
        for names, what in ((new - old, "more"), (old - new, "less, which must not be used any more"))
        if names
    ]
    return " and ".join(parts)


def query(name: str, instance: Optional[str] = None, refresh: bool = False) -> QueryOverview:
    """Ask the catalogue for a name or pattern, in the instance that usually has such datasets or another one.

    Raises NanoMLError if it has none, or does not answer.
    """
    from data_processing.datasets.catalogue import Catalogue

    where = instance or instance_of(check_name(name))
    catalogue = Catalogue(refresh)
    found = catalogue.datasets(name, where)
    details = None
    if len(found) == 1:
        one = catalogue.files(found[0].name, where, (found[0].status,))
        part = DatasetPart(found[0].name, one.files, None, one)
        details = PartDetails(**vars(_part(part)), names=[file.name for file in one.files])
    return QueryOverview(name, where, is_wildcard(name), found, details)
