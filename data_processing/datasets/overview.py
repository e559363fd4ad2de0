"""The datasets of a configuration or of the catalogue, for people."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Optional

from data_processing.catalogue.catalogue import Catalogue, FileList, UnavailableError
from data_processing.catalogue.queries import Confirm, ask
from data_processing.catalogue.sources import CatalogueEntry, DatasetReplica
from data_processing.datasets.datasets import DatasetFiles, DatasetPart, describe_datasets
from data_processing.datasets.files import FileInfo, check_name, instance_of, is_wildcard
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import locked
from MLTools.NanoML.rootio.remote.server import is_remote
from MLTools.NanoML.workflow.layout import Layout


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
    """What the catalogue has for a name or pattern; the details if it is one dataset."""

    query: str
    instance: str
    wildcard: bool
    datasets: Sequence[CatalogueEntry]
    details: Optional[PartDetails]


def overview(config: Config, refresh: bool = False, confirm: Optional[Confirm] = None) -> list[DatasetOverview]:
    """What each dataset consists of, and what has changed in the catalogue; arguments as of `describe_datasets`.

    Raises
    ------
    NanoMLError
        As `describe_datasets`; or the lists are to be taken anew while a run reads them.
    """
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
    """What has changed since the lists were taken."""
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
                yield f"{since} now {change}; --refresh takes what there is now."
    for query, names in found.wildcards:
        try:
            entries = catalogue.datasets(query.text, query.instance)
        except NanoMLError:  # reported above, for its datasets
            continue
        new = [entry.name for entry in entries if entry.status in query.status and entry.name not in names]
        if new:
            yield f"{query.text}: now also matches {', '.join(new)}; --refresh takes what there is now."


def _change(before: FileList, after: FileList) -> str:
    old, new = ({file.name for file in found.files} for found in (before, after))
    parts = [
        f"{len(names)} {'file' if len(names) == 1 else 'files'} {what}"
        for names, what in ((new - old, "more"), (old - new, "less, which must not be used any more"))
        if names
    ]
    return " and ".join(parts)


def query(name: str, instance: Optional[str] = None, refresh: bool = False) -> QueryOverview:
    """What the catalogue has for a name or pattern, in the instance that usually has such datasets or another one.

    Raises
    ------
    NanoMLError
        It has none, or does not answer.
    """
    where = instance or instance_of(check_name(name))
    catalogue = Catalogue(refresh)
    found = catalogue.datasets(name, where)
    details = None
    if len(found) == 1:
        one = catalogue.files(found[0].name, where, (found[0].status,))
        part = DatasetPart(found[0].name, one.files, None, one)
        details = PartDetails(**vars(_part(part)), names=[file.name for file in one.files])
    return QueryOverview(name, where, is_wildcard(name), found, details)
