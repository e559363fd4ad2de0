"""The files of each dataset."""

from __future__ import annotations

import hashlib
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data_processing.catalogue.answers import FileInfo
from data_processing.catalogue.listing import list_remote
from data_processing.datasets.description import describe
from data_processing.datasets.duplicates import find_same
from data_processing.datasets.entries import entries_of
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.remote.client import current_settings
from MLTools.NanoML.workflow.stages import Analysis, Layout

__all__ = [
    "FileInfo",
    "check_duplicates",
    "describe_datasets",
    "find_files",
    "output_names",
    "resolve_datasets",
    "root_files",
]


def find_files(patterns: Iterable[str], base: Path) -> list[str]:
    """Files that paths, globs, URLs, logical names and text files of these name, in order.

    Raises
    ------
    NanoMLError
        A pattern matches nothing, or a file is named twice, be it by two names.
    """
    found: list[str] = []
    for entry in entries_of(patterns, base, current_settings().redirectors):
        files = list_remote(entry.text) if entry.is_listing else entry.files()
        found += [file.name for file in files]
    same = find_same(found)
    if same is not None:
        raise NanoMLError(f"{_named_twice(*(found[at] for at in same))}. Name it once.")
    return found


def describe_datasets(config: Config) -> dict[str, list[FileInfo]]:
    """The files that a run reads of every dataset, with what is known of them before they are read.

    What the catalogue or a server said is the same from one call to the next, until it is asked anew: it is kept in the
    work directory.

    Raises
    ------
    NanoMLError
        A dataset has no files, does not exist or must not be used, or the catalogue does not answer; or a file is named
        twice, in one dataset or in two, be it by two names; with the place in the configuration.
    """
    found = {name: list(dataset.files) for name, dataset in describe(config).items()}
    check_duplicates(config, found)
    return found


def resolve_datasets(config: Config) -> dict[str, list[str]]:
    """The names of the files of `describe_datasets`: paths and URLs. It raises as that does."""
    return {name: [file.name for file in files] for name, files in describe_datasets(config).items()}


def check_duplicates(config: Config, found: Mapping[str, Sequence[FileInfo]]) -> None:
    """Refuse a file that is named twice.

    Raises
    ------
    ConfigError
        One is, in one dataset or in two.
    """
    owners = [(name, file.name) for name, files in found.items() for file in files]
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
    """A file name for the output of each input: its own, and a hash of its path where two have the same."""
    stems = {file: _stem(file) for file in files}
    shared = {stem for stem, times in Counter(stems.values()).items() if times > 1}
    return {
        file: f"{stem}-{hashlib.sha256(file.encode()).hexdigest()[:8]}{suffix}"
        if stem in shared
        else stem + suffix
        for file, stem in stems.items()
    }


def _stem(file: str) -> str:
    return posixpath.splitext(posixpath.basename(file.partition("?")[0]))[0]


def root_files(analysis: Analysis) -> dict[str, list[str]]:
    """What the stages after the skim read: the skims, or the datasets' files where there is no skim."""
    skims = Layout.of(analysis.config).skims
    return {
        name: [
            str(skims(name) / output) if analysis.config.skim else path
            for path, output in output_names(list(paths)).items()
            if path not in analysis.left_out(name)
        ]
        for name, paths in analysis.files.items()
    }
