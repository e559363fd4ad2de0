"""The files of each dataset."""

from __future__ import annotations

import filecmp
import glob
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Optional
from urllib.parse import urlsplit

from MLTools.NanoML.config import Config
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod import is_glob
from MLTools.NanoML.rootfile import is_remote

__all__ = ["find_files", "output_names", "resolve_datasets"]

_XROOTD = ("root", "roots", "xroot", "xroots")

# the logical name of a file of CMS, behind what names a site or a mount
_LFN = re.compile(r"(?:^/store/test/xrootd/[^/]+)?.*?(/store/.+)$")
_LFN_ON_DISK = re.compile(r"(/store/(?:data|mc)(?:/[^/]+){5,})$")


def find_files(patterns: Iterable[str], base: Path) -> list[str]:
    """Files that paths, globs and URLs name, in order.

    Raises
    ------
    NanoMLError
        A pattern matches nothing, or a file is named twice, be it by two names.
    """
    found = _expand(patterns, base)
    same = _find_same(found)
    if same is not None:
        raise NanoMLError(f"{_named_twice(*(found[at] for at in same))}. Name it once.")
    return found


def resolve_datasets(config: Config) -> dict[str, list[str]]:
    """The files of every dataset.

    Raises
    ------
    NanoMLError
        A dataset has no files, or a file is named twice, in one dataset or in two, be it by two names; with the place
        in the configuration.
    """
    found = {}
    for name, dataset in config.datasets.items():
        try:
            found[name] = _expand(dataset.files, config.base)
        except NanoMLError as problem:
            raise config.error("datasets", name, "files", message=str(problem).rstrip(".")) from None
    owners = [(name, file) for name, files in found.items() for file in files]
    same = _find_same([file for _, file in owners])
    if same is not None:
        (other, first), (name, second) = (owners[at] for at in same)
        message = _named_twice(first, second)
        if name != other:
            also = f", as {first}" if first != second else ""
            message = f"{second} is also in dataset {other}{also}: an event would count twice"
        raise config.error("datasets", name, "files", message=message)
    return found


def _expand(patterns: Iterable[str], base: Path) -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        if is_remote(pattern):
            if is_glob(pattern.partition("?")[0]):  # a ? begins what is asked of the server
                raise NanoMLError(f"{pattern}: wildcards do not work in URLs; name each file.")
            found.append(pattern)
            continue
        path = os.path.expanduser(pattern)
        absolute = os.path.normpath(path if os.path.isabs(path) else os.path.join(base, path))
        matches = [absolute] if os.path.exists(absolute) else sorted(glob.glob(absolute, recursive=True))
        if not matches:
            raise NanoMLError(f"{pattern}: no such file{'' if os.path.isabs(path) else f' in {base}'}.")
        found += matches
    return found


def _named_twice(first: str, second: str) -> str:
    same = "is named twice" if first == second else f"has the same events as {first}"
    return f"{second}: {same}, so that they would count twice"


def _find_same(files: Sequence[str]) -> Optional[tuple[int, int]]:
    """Positions of two names of one file, or of a file and its copy; None if there are none."""
    known: dict[str, int] = {}
    of_size: dict[int, list[int]] = defaultdict(list)
    for at, file in enumerate(files):
        names = _other_names(file)
        for name in names:
            if name in known:
                return known[name], at
        known.update(dict.fromkeys(names, at))
        path = _on_disk(file)
        size = os.path.getsize(path) if path is not None and os.path.isfile(path) else 0
        if path is None or not size:
            continue
        for other in of_size[size]:
            # ROOT files of their own differ in their headers already: only a copy is read to its end
            if _have_same_bytes(_on_disk(files[other]) or "", path):
                return other, at
        of_size[size].append(at)
    return None


def _have_same_bytes(first: str, second: str) -> bool:
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:  # it will be told when the file is to be read
        return False


def _on_disk(file: str) -> Optional[str]:
    """Path of a file on this machine; None for one that is elsewhere."""
    if not is_remote(file):
        return file
    url = urlsplit(file)
    return url.path if url.scheme == "file" else None


def _other_names(file: str) -> set[str]:
    """What all names of a file have in common."""
    path = _on_disk(file)
    if path is not None:
        lfn = _LFN_ON_DISK.search(path)
        return {os.path.realpath(path), *(lfn.groups() if lfn else ())}
    url = urlsplit(file)
    path = re.sub("/+", "/", url.path)
    lfn = _LFN.match(path)
    if lfn:  # whichever redirector or site it comes from
        return {lfn[1]}
    host = url.netloc.lower()
    if url.scheme in _XROOTD:
        return {f"root://{host.removesuffix(':1094')}/{path}"}
    return {f"{url.scheme}://{host}{path}?{url.query}"}


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
