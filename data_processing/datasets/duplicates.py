"""Files that are named twice, even by different names, and copies of files: their events would count twice."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Optional
from urllib.parse import SplitResult, urlsplit

from MLTools.NanoML.rootio.remote.server import is_remote

# the logical name of a file of CMS, behind what names a site or a mount
_LFN = re.compile(r"(?:^/store/test/xrootd/[^/]+)?.*?(/store/.+)$")
_LFN_ON_DISK = re.compile(r"(/store/(?:data|mc)(?:/[^/]+){5,})$")
_SLASHES = re.compile("/+")

_PIECE = 1024  # bytes; the first of them have the identifier of a ROOT file
_SAMPLES = 8  # pieces, from the beginning to the end
_BLOCK = 1 << 20  # bytes


class _Version(NamedTuple):
    """A file as it is now."""

    path: str
    device: int
    inode: int
    size: int
    modified: int


# by size, then by digests of ever more of a file: the only file with this key, and its position; None where there are
# several, which have longer keys
_Seen = dict[tuple[object, ...], Optional[tuple[_Version, int]]]


def find_same(files: Sequence[str]) -> Optional[tuple[int, int]]:
    """Positions of two names of one file, or of a file and its copy; None if there are none."""
    known: dict[str, int] = {}
    seen: _Seen = {}
    directory_of = functools.cache(os.path.realpath)
    for at, file in enumerate(files):
        path = file if not is_remote(file) else urlsplit(file).path if file.startswith("file:") else None
        status = None if path is None else _status(path)
        names = [_remote_name(urlsplit(file))] if path is None else _local_names(path, status, directory_of)
        other = next((known[name] for name in names if name in known), None)
        if other is None and path is not None and status is not None:
            other = _copy_of(path, status, at, seen)
        if other is not None:
            return other, at
        known.update(dict.fromkeys(names, at))
    return None


def _remote_name(url: SplitResult) -> str:
    """What all URLs of a file have in common."""
    path = _SLASHES.sub("/", url.path)
    lfn = _LFN.match(path)
    if lfn:  # whichever redirector or site it comes from
        return lfn[1]
    host = url.netloc.lower()
    if url.scheme in ("root", "roots", "xroot", "xroots"):
        return f"root://{host.removesuffix(':1094')}/{path}"
    return f"{url.scheme}://{host}{path}?{url.query}"


def _status(path: str) -> Optional[os.stat_result]:
    """What the operating system knows of a path, which may be a link; None if there is none."""
    try:
        return os.lstat(path)
    except OSError:  # reported when the file is read
        return None


def _local_names(path: str, status: Optional[os.stat_result], real: Callable[[str], str]) -> list[str]:
    """What all paths of a file have in common; `real` is os.path.realpath, which remembers directories."""
    directory, name = os.path.split(path)
    lfn = _LFN_ON_DISK.search(path)
    is_link = status is not None and stat.S_ISLNK(status.st_mode)
    whole = os.path.realpath(path) if is_link else os.path.join(real(directory), name)
    return [whole, *(lfn.groups() if lfn else ())]


def _copy_of(path: str, status: os.stat_result, at: int, seen: _Seen) -> Optional[int]:
    """The position of a file with the same content; each is read only as far as it takes to tell it from the others."""
    try:
        if stat.S_ISLNK(status.st_mode):
            status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return None
        file = _Version(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        key: tuple[object, ...] = (file.size,)
        for digest in (_head, _samples, _content):
            if key not in seen:
                seen[key] = file, at
                return None
            first = seen[key]
            if first is not None:
                longer = (*key, digest(first[0]))
                seen[longer] = first
                seen[key] = None
            key = (*key, digest(file))
        same = seen.setdefault(key, (file, at))
        return same[1] if same is not None and same[1] != at else None
    except OSError:  # reported when the file is read
        return None


# a run looks for copies more than once: no file is read again for it


@functools.cache
def _head(file: _Version) -> bytes:
    return _digest(file, [0], _PIECE)


@functools.cache
def _samples(file: _Version) -> bytes:
    last = max(file.size - _PIECE, 0)
    return _digest(file, [last * number // (_SAMPLES - 1) for number in range(_SAMPLES)], _PIECE)


@functools.cache
def _content(file: _Version) -> bytes:
    return _digest(file, range(0, file.size, _BLOCK), _BLOCK)


def _digest(file: _Version, positions: Iterable[int], length: int) -> bytes:
    digest = hashlib.sha256()
    with open(file.path, "rb") as source:
        for position in positions:
            source.seek(position)
            digest.update(source.read(length))
    return digest.digest()
