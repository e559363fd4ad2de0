"""What the datasets of a configuration consist of: which files, and what is known of them before they are read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional, Union

from data_processing.catalogue.answers import FileInfo
from data_processing.catalogue.catalogue import Catalogue, FileList
from data_processing.catalogue.pins import Pins
from data_processing.catalogue.queries import Confirm, Wildcards, Wish, look_up, place_of
from data_processing.datasets.entries import entries_of, url_of
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.datasets import Dataset
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.terminal.progress import say
from MLTools.NanoML.workflow.stages import Layout

__all__ = ["Description", "Part", "describe"]


@dataclass(frozen=True)
class Part:
    """What one name or pattern stands for.

    Attributes
    ----------
    text
        The name or pattern; empty for all files that are named one by one.
    files
        The files.
    wish
        What was asked for; None for files that are named or are on this machine.
    found
        What the catalogue or a server said to it.
    earlier
        Whether it said so earlier, not just now.
    """

    text: str
    files: Sequence[FileInfo]
    wish: Optional[Wish] = None
    found: Optional[FileList] = None
    earlier: bool = False


@dataclass(frozen=True)
class Description:
    """What a dataset consists of.

    Attributes
    ----------
    files
        What a run reads.
    parts
        What there is, before max_files and max_events.
    wildcards
        What was taken for names with wildcards.
    """

    files: Sequence[FileInfo]
    parts: Sequence[Part]
    wildcards: Sequence[tuple[Wish, Sequence[str]]]

    @property
    def available(self) -> int:
        """How many files there are, before max_files and max_events."""
        return sum(len(part.files) for part in self.parts)


_Piece = Union[Wish, list[FileInfo]]


def describe(
    config: Config, refresh: bool = False, confirm: Optional[Confirm] = None
) -> dict[str, Description]:
    """What each dataset consists of. What has been found once stays the same for this analysis.

    Parameters
    ----------
    config
        The analysis.
    refresh
        Ask anew for what has been found earlier.
    confirm
        Decides whether a wildcard may stand for several datasets; without it, it may not.

    Raises
    ------
    ConfigError
        A file or a dataset does not exist, or may not be used; all of these are in the message, a line each.
    NanoMLError
        The catalogue or a server does not answer.
    """
    catalogue = Catalogue(refresh)
    workdir = Layout.of(config).workdir
    kept, pieces, wildcards = {}, {}, {}
    for name, dataset in config.datasets.items():
        kept[name] = Pins.of(workdir, name)
        known = {} if refresh else kept[name].names
        wildcards[name] = Wildcards(config, name, known, catalogue, confirm)
        pieces[name] = [*wildcards[name].wishes(dataset), *_named(config, name, dataset)]
    lists = {name: {} if refresh else pins.lists for name, pins in kept.items()}
    wishes = {name: [piece for piece in each if isinstance(piece, Wish)] for name, each in pieces.items()}
    wanted = [wish for name, each in wishes.items() for wish in each if wish.key not in lists[name]]
    found = look_up(config, wanted, catalogue)
    for name, pins in kept.items():
        lists[name] = {wish.key: lists[name].get(wish.key) or found[wish.key] for wish in wishes[name]}
        names = {wish.key: list(found_names) for wish, found_names in wildcards[name].used}
        new = Pins(pins.path, names, lists[name])
        if new != pins:
            _tell_invalid(name, [wish for wish in wishes[name] if wish in wanted], lists[name])
            new.write()
    return {
        name: _described(config, name, pieces[name], lists[name], set(wanted), wildcards[name])
        for name in config.datasets
    }


def _named(config: Config, name: str, dataset: Dataset) -> Iterator[_Piece]:
    """Files that are named one by one or are on this machine, and patterns on servers."""
    direct: list[FileInfo] = []
    number = 0
    try:
        for entry in entries_of(dataset.files, config.base, config.read.redirectors):
            number = entry.number
            if not entry.is_listing:
                direct += entry.files()
                continue
            if direct:
                yield direct
                direct = []
            yield Wish(place_of(config, name, "files", number), entry.text)
    except NanoMLError as problem:
        raise config.error(*place_of(config, name, "files", number), message=str(problem)) from None
    if direct:
        yield direct


def _tell_invalid(name: str, wishes: Sequence[Wish], lists: Mapping[str, FileList]) -> None:
    for wish in wishes:
        invalid = lists[wish.key].invalid
        if invalid:
            many = "1 file" if invalid == 1 else f"{invalid} files"
            say(f"{name}: {many} of {wish.text} must not be used, says the catalogue: left out.")


def _described(
    config: Config,
    name: str,
    pieces: Sequence[_Piece],
    lists: Mapping[str, FileList],
    new: Collection[Wish],
    wildcards: Wildcards,
) -> Description:
    parts = []
    for piece in pieces:
        if isinstance(piece, Wish):
            found = lists[piece.key]
            files = _located(config, piece, found) if piece.instance else found.files
            parts.append(Part(piece.text, files, piece, found, piece not in new))
        else:
            parts.append(Part("", piece))
    files = [file for part in parts for file in part.files]
    return Description(_limited(config, name, files), parts, wildcards.used)


def _located(config: Config, wish: Wish, found: FileList) -> list[FileInfo]:
    """Files of the catalogue by the URLs that they are read by."""
    sites = tuple(site.name for site in found.sites or () if site.has_all)
    redirectors = config.read.redirectors
    try:
        return [replace(file, name=url_of(file.name, redirectors), sites=sites) for file in found.files]
    except NanoMLError as problem:
        raise config.error(*wish.keys, message=str(problem)) from None


def _limited(config: Config, name: str, files: Sequence[FileInfo]) -> list[FileInfo]:
    """The first files, as many as the dataset's settings allow."""
    dataset = config.datasets[name]
    chosen = list(files[: dataset.max_files])
    if dataset.max_events is None:
        return chosen
    events = 0
    for number, file in enumerate(chosen, 1):
        if file.events is None:
            message = f"nobody knows how many events {file.name} has, before it is read. Use max_files"
            raise config.error("datasets", name, "max_events", message=message)
        events += file.events
        if events >= dataset.max_events:
            return chosen[:number]
    return chosen
