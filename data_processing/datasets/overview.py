"""The datasets of a configuration or of the catalogue, for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional

from data_processing.catalogue.answers import FileList, Replica
from data_processing.catalogue.catalogue import Catalogue, UnavailableError
from data_processing.catalogue.queries import Confirm, ask
from data_processing.datasets.datasets import DatasetFiles, DatasetPart, describe_datasets
from data_processing.datasets.files import FileInfo, check_name, instance_of, is_wildcard
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.datasets import Dataset
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import locked
from MLTools.NanoML.rootio.remote.url import is_remote
from MLTools.NanoML.workflow.stages import Layout

__all__ = ["overview", "query"]


def overview(
    config: Config, refresh: bool = False, confirm: Optional[Confirm] = None
) -> list[dict[str, Any]]:
    """What each dataset consists of, as JSON could hold it, with what has changed in the catalogue.

    Parameters
    ----------
    config
        The analysis.
    refresh
        Take what the catalogue and servers have now, in the place of what they had before.
    confirm
        As in `describe`.

    Raises
    ------
    NanoMLError
        As `datasets.describe_datasets`; or the lists are to be taken anew while a run reads them.
    """
    if refresh:
        with locked(Layout.of(config).workdir):
            found = describe_datasets(config, True, confirm)
    else:
        found = describe_datasets(config, False, confirm)
    catalogue = Catalogue()
    return [_dataset(name, config.datasets[name], each, catalogue) for name, each in found.items()]


def _dataset(name: str, dataset: Dataset, found: DatasetFiles, catalogue: Catalogue) -> dict[str, Any]:
    return {
        "name": name,
        "class": dataset.class_,
        "cross_section": dataset.cross_section,
        "data": dataset.is_data,
        "read": _sums(found.files),
        "available": _sums([file for part in found.parts for file in part.files]),
        "parts": [_part(part) for part in found.parts],
        "news": list(_news(found, catalogue)),
    }


def _sums(files: Sequence[FileInfo]) -> dict[str, Optional[int]]:
    """How many files, and their events and bytes; None if that is not known of all."""
    return {
        "files": len(files),
        "events": _sum(file.events for file in files),
        "size": _sum(file.size for file in files),
    }


def _sum(values: Iterable[Optional[int]]) -> Optional[int]:
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _part(part: DatasetPart) -> dict[str, Any]:
    found = part.found
    return {
        "name": part.text or None,
        "from": found.source if found else _whence(part.files),
        **_sums(part.files),
        "invalid": found.invalid if found else 0,
        "date": found.date.isoformat() if found else None,
        "sites": _sites(found.sites if found else None),
    }


def _whence(files: Sequence[FileInfo]) -> str:
    remote = sum(is_remote(file.name) for file in files)
    return "this machine" if not remote else "servers" if remote == len(files) else "this machine and servers"


def _sites(sites: Optional[Sequence[Replica]]) -> Optional[list[dict[str, Any]]]:
    if sites is None:
        return None
    ordered = sorted(sites, key=lambda site: (not site.has_all, site.kind != "DISK", -site.share, site.site))
    return [{"name": site.site, "kind": site.kind, "share": site.share} for site in ordered]


def _news(found: DatasetFiles, catalogue: Catalogue) -> Iterable[str]:
    """What has changed since the lists were taken."""
    for part in found.parts:
        if part.query is None or part.found is None or not part.earlier:
            continue
        since = f"{part.text}, as it was on {part.found.date:%Y-%m-%d}:"
        try:
            change = _change(part.found, ask(part.query, catalogue))
        except UnavailableError as problem:
            yield f"{since} it may have changed. {_without(part.text, problem)}"
        except NanoMLError as problem:
            yield f"{since} now it {_without(part.text, problem)}"
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


def _without(name: str, problem: NanoMLError) -> str:
    text = str(problem).removeprefix(f"{name}: ")
    return text[:1].upper() + text[1:] if isinstance(problem, UnavailableError) else text


def query(name: str, instance: Optional[str] = None, refresh: bool = False) -> dict[str, Any]:
    """What the catalogue has of a name or pattern, as JSON could hold it.

    Parameters
    ----------
    name
        /PRIMARY/PROCESSED/TIER, with wildcards.
    instance
        Of the catalogue; None for that which usually has such a dataset.
    refresh
        Ask anew, whatever it said today.

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
        details = {**_part(part), "names": [file.name for file in one.files]}
    return {
        "query": name,
        "instance": where,
        "wildcard": is_wildcard(name),
        "datasets": [{"name": entry.name, "status": entry.status} for entry in found],
        "details": details,
    }
