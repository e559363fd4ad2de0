"""Files that are named twice, even by different names, and copies of files: their events would count twice."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional
from urllib.parse import urlsplit

from MLTools.NanoML.rootio.remote.url import is_remote

_XROOTD = ("root", "roots", "xroot", "xroots")

# the logical name of a file of CMS, behind what names a site or a mount
_LFN = re.compile(r"(?:^/store/test/xrootd/[^/]+)?.*?(/store/.+)$")
_LFN_ON_DISK = re.compile(r"(/store/(?:data|mc)(?:/[^/]+){5,})$")
_SLASHES = re.compile("/+")

_PIECE = 1024  # bytes; the first of them have the identifier of a ROOT file
_SAMPLES = 8  # pieces, from the beginning to the end
_BLOCK = 1 << 20  # bytes


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
    except OSError:  # reported when the file is read
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


@dataclass(frozen=True)
class _Version:
    """A file as it is now."""

    path: str
    device: int
    inode: int
    size: int
    modified: int


class Duplicates:
    """Local files that were seen, which are read only as far as it takes to tell them apart."""

    def __init__(self) -> None:
        self._directories: dict[str, str] = {}
        # files by size, then by digests of ever more of them; None where a key has several, which have longer keys
        self._seen: dict[tuple[object, ...], Optional[tuple[_Version, int]]] = {}

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
        """The position of a file with the same content, among those given to this method before."""
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode) or not status.st_size:
                return None
            file = _Version(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            return self._compared(file, at)
        except OSError:  # reported when the file is read
            return None

    def _compared(self, file: _Version, at: int) -> Optional[int]:
        key: tuple[object, ...] = (file.size,)
        for digest in (_head, _samples, _content):
            if key not in self._seen:
                self._seen[key] = file, at
                return None
            first = self._seen[key]
            if first is not None:
                longer = (*key, digest(first[0]))
                self._seen[longer] = first
                self._seen[key] = None
            key = (*key, digest(file))
        same = self._seen.setdefault(key, (file, at))
        return same[1] if same is not None and same[1] != at else None


# a run looks for copies more than once: no file is read again for it


@functools.cache
def _head(file: _Version) -> bytes:
    with open(file.path, "rb") as source:
        return hashlib.sha256(source.read(_PIECE)).digest()


@functools.cache
def _samples(file: _Version) -> bytes:
    digest = hashlib.sha256()
    last = max(file.size - _PIECE, 0)
    with open(file.path, "rb") as source:
        for number in range(_SAMPLES):
            source.seek(last * number // (_SAMPLES - 1))
            digest.update(source.read(_PIECE))
    return digest.digest()


@functools.cache
def _content(file: _Version) -> bytes:
    digest = hashlib.sha256()
    with open(file.path, "rb") as source:
        while block := source.read(_BLOCK):
            digest.update(block)
    return digest.digest()
