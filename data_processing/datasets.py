"""The files of each dataset."""

from __future__ import annotations

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from MLTools.NanoML.config import Config
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod import is_glob
from MLTools.NanoML.rootfile import is_remote

__all__ = ["find_files", "output_names", "resolve_datasets"]


def find_files(patterns: Iterable[str], base: Path) -> list[str]:
    """Files that paths, globs and URLs name, in order.

    Raises
    ------
    NanoMLError
        A pattern matches nothing, or a file is named twice.
    """
    found: list[str] = []
    for pattern in patterns:
        if is_remote(pattern):
            if is_glob(pattern):
                raise NanoMLError(f"{pattern}: wildcards do not work in URLs; name each file.")
            found.append(pattern)
            continue
        path = os.path.expanduser(pattern)
        absolute = os.path.normpath(path if os.path.isabs(path) else os.path.join(base, path))
        matches = [absolute] if os.path.exists(absolute) else sorted(glob.glob(absolute, recursive=True))
        if not matches:
            raise NanoMLError(f"{pattern}: no such file{'' if os.path.isabs(path) else f' in {base}'}.")
        found += matches
    twice = [
        file
        for file, times in Counter(
            os.path.realpath(file) if not is_remote(file) else file for file in found
        ).items()
        if times > 1
    ]
    if twice:
        raise NanoMLError(f"{twice[0]}: is named twice, so its events would count twice. Name it once.")
    return found


def resolve_datasets(config: Config) -> dict[str, list[str]]:
    """The files of every dataset.

    Raises
    ------
    NanoMLError
        A dataset has no files, or a file is in two datasets; with the place in the configuration.
    """
    owner: dict[str, str] = {}
    found = {}
    for name, dataset in config.datasets.items():
        try:
            found[name] = find_files(dataset.files, config.base)
        except NanoMLError as problem:
            raise config.error("datasets", name, "files", message=str(problem).rstrip(".")) from None
        for file in found[name]:
            other = owner.setdefault(file, name)
            if other != name:
                raise config.error(
                    "datasets",
                    name,
                    "files",
                    message=f"{file} is also in dataset {other}: an event would count twice",
                )
    return found


def output_names(files: list[str], suffix: str = ".root") -> dict[str, str]:
    """A file name for the output of each input: its own, and a hash of its path where two have the same."""
    stems = {file: Path(file.split("?")[0]).stem for file in files}
    shared = {stem for stem, times in Counter(stems.values()).items() if times > 1}
    return {
        file: f"{stem}-{hashlib.sha256(file.encode()).hexdigest()[:8]}{suffix}"
        if stem in shared
        else stem + suffix
        for file, stem in stems.items()
    }
