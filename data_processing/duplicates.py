"""Files that are named twice, be it by two names, and copies of files: their events would count twice."""

from __future__ import annotations

import filecmp
import hashlib
import os
import re
import stat
from collections import defaultdict
from collections.abc import Sequence
from typing import Optional
from urllib.parse import urlsplit

from MLTools.NanoML.rootfile import is_remote

__all__ = ["Duplicates", "find_same"]

_XROOTD = ("root", "roots", "xroot", "xroots")

# the logical name of a file of CMS, behind what names a site or a mount
_LFN = re.compile(r"(?:^/store/test/xrootd/[^/]+)?.*?(/store/.+)$")
_LFN_ON_DISK = re.compile(r"(/store/(?:data|mc)(?:/[^/]+){5,})$")
_SLASHES = re.compile("/+")

_HEAD = 1024  # bytes; ROOT files have an identifier of their own there


def find_same(files: Sequence[str]) -> Optional[tuple[int, int]]:
    """Positions of two names of one file, or of a file and its copy; None if there are none."""
    known: dict[str, int] = {}
    duplicates = Duplicates()
    for at, file in enumerate(files):
        path = _on_disk(file)
        status = _status(path) if path is not None else None
        names = [_remote_name(file)] if path is None else duplicates.local_names(path, status)
        for name in names:
            if name in known:
                return known[name], at
        known.update(dict.fromkeys(names, at))
        if path is not None and status is not None:
            other = duplicates.copy_of(path, at)
            if other is not None:
                return other, at
    return None


def _status(path: str) -> Optional[os.stat_result]:
    try:
        return os.lstat(path)
    except OSError:  # it will be told when the file is to be read
        return None


def _on_disk(file: str) -> Optional[str]:
    """Path of a file on this machine; None for one that is elsewhere."""
    if not is_remote(file):
        return file
    url = urlsplit(file)
    return url.path if url.scheme == "file" else None


def _remote_name(file: str) -> str:
    """What all URLs of a file have in common."""
    url = urlsplit(file)
    path = _SLASHES.sub("/", url.path)
    lfn = _LFN.match(path)
    if lfn:  # whichever redirector or site it comes from
        return lfn[1]
    host = url.netloc.lower()
    if url.scheme in _XROOTD:
        return f"root://{host.removesuffix(':1094')}/{path}"
    return f"{url.scheme}://{host}{path}?{url.query}"


class Duplicates:
    """What is known of the local files that were seen, so that few are looked into."""

    def __init__(self) -> None:
        self._directories: dict[str, str] = {}
        self._of_size: dict[int, Optional[tuple[str, int]]] = {}
        self._alike: dict[tuple[int, bytes], list[tuple[str, int]]] = defaultdict(list)

    def local_names(self, path: str, status: Optional[os.stat_result]) -> list[str]:
        """What all paths of a file have in common."""
        if status is None or stat.S_ISLNK(status.st_mode):
            real = os.path.realpath(path)
        else:
            directory, name = os.path.split(path)
            if directory not in self._directories:
                self._directories[directory] = os.path.realpath(directory)
            real = os.path.join(self._directories[directory], name)
        lfn = _LFN_ON_DISK.search(path)
        return [real, *(lfn.groups() if lfn else ())]

    def copy_of(self, path: str, at: int) -> Optional[int]:
        """The position of a file with the same content, among those that this was asked of before."""
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode) or not status.st_size:
                return None
            return self._compared(path, at, status.st_size)
        except OSError:  # it will be told when the file is to be read
            return None

    def _compared(self, path: str, at: int, size: int) -> Optional[int]:
        if size not in self._of_size:
            self._of_size[size] = (path, at)
            return None
        first = self._of_size[size]
        if first is not None:
            self._alike[size, _head(first[0])].append(first)
            self._of_size[size] = None
        alike = self._alike[size, _head(path)]
        for other, position in alike:
            if filecmp.cmp(other, path, shallow=False):
                return position
        alike.append((path, at))
        return None


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read(_HEAD)).digest()
