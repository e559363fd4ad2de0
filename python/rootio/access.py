"""Access to the bytes of a ROOT file, wherever it is, and to uproot's view of it."""

from __future__ import annotations

import functools
import http.client
import json
import os
import re
import struct
import tempfile
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import uproot

from MLTools.NanoML.errors import NanoMLError, UnreadableError
from MLTools.NanoML.rootio.baskets import Take, from_descriptor
from MLTools.NanoML.rootio.remote.client import current_settings
from MLTools.NanoML.rootio.remote.file import RemoteFile, open_with_uproot
from MLTools.NanoML.rootio.remote.server import is_remote, is_xrootd
from MLTools.NanoML.terminal.progress import notes, say_once

_HEADER = struct.Struct(">4sii")  # magic, version, position of the first record
_END, _LONG_END = struct.Struct(">i"), struct.Struct(">q")
_CENTRAL = re.compile(r"/store/(?:data|hidata|mc)/[^?|]+")  # the logical name of what CMS has made
_PATIENCE = 3  # seconds
_LONG = 1_000_000  # the first version with a long end
_HEAD = _HEADER.size + _LONG_END.size


class Access:
    """A ROOT file: a local path; a root:// URL, or several of the same file with | in between; or a URL that uproot reads."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._directory: Any = None
        self._bytes: int | None = None
        self._descriptor: int | None = None
        self._remote = RemoteFile(path) if is_xrootd(path) else None
        self._local = None if is_remote(path) else path
        self._copy: Path | None = None
        if self._remote is not None and current_settings().copy:
            number, name = tempfile.mkstemp(prefix="nanoml-", suffix=".root")
            os.close(number)
            self._local, self._copy = name, Path(name)
            try:
                self._remote.copy(self._copy)
            except BaseException:
                self.close()
                raise

    @property
    def is_fast(self) -> bool:
        """Whether it can be read without uproot."""
        return self._local is not None or self._remote is not None

    @property
    def size(self) -> int | None:
        """Number of bytes; None if it is not known."""
        if self._local is not None:
            return os.path.getsize(self._local)
        return None if self._remote is None else self._remote.size

    def open(self) -> Any:
        """Uproot's top directory of the file, opened again; an error if there is no such file, or it is not a ROOT file."""
        self._shut()
        if self._copy is None and self._local is not None:
            _check_kind(self._local)
        self._bytes = self.size
        self._check_end()
        if self._local is not None:
            self._descriptor = os.open(self._local, os.O_RDONLY | os.O_CLOEXEC)
        if self._local is None and self._remote is not None:
            self._directory = open_with_uproot(self._remote, self.path)
        else:
            # nothing is read twice, so a cache would only fill the memory
            self._directory = uproot.open({self._local or self.path: None}, array_cache=None)
        _report(self.path)
        return self._directory

    def check_size(self) -> None:
        """Refuse a local file that was truncated after it was opened: older versions of uproot map it into memory, and crash."""
        if self._local is not None and self.size != self._bytes:
            raise ValueError(f"it has {self.size:,} bytes, and had {self._bytes:,} when it was opened")

    def _check_end(self) -> None:
        """Refuse a file that is shorter than its header says, though the branches that are read may be whole."""
        size = self.size
        if size is None or size < _HEAD:
            return
        if self._local is not None:
            with open(self._local, "rb") as file:
                head = file.read(_HEAD)
        else:
            assert self._remote is not None
            head = self._remote.read(0, _HEAD)
        magic, version, _ = _HEADER.unpack_from(head)
        end = (_END if version < _LONG else _LONG_END).unpack_from(head, _HEADER.size)[0]
        if magic == b"root" and size < end:
            raise ValueError(f"it has {size:,} of {end:,} bytes")

    def take(self, pieces: Iterable[tuple[int, int]]) -> Take:
        """A function that gives pieces of the file; for a remote file, only these pieces, as far as they are in it."""
        if self._descriptor is not None:
            return from_descriptor(self._descriptor)
        if self._remote is None:
            source = self._directory.file.source
            return lambda seek, size: bytes(source.chunk(seek, seek + size).raw_data)
        end = self._remote.size
        return self._remote.take(each for each in pieces if 0 < each[0] < sum(each) <= end)

    @property
    def is_far(self) -> bool:
        """Whether it takes time until pieces come, so that it is better to `announce` them."""
        return self._local is None and self._remote is not None

    def announce(self, pieces: Iterable[tuple[int, int]]) -> bool:
        """Begin to read pieces of a file that `is_far`; return whether there is room for more (see `RemoteFile`)."""
        assert self._remote is not None
        return self._remote.announce(pieces)

    def reject(self, reason: str, problem: Exception) -> None:
        """Report that the bytes make no sense. If there is another server, `open` it again; if not, it is an UnreadableError."""
        self._shut()
        if self._remote is None:
            raise UnreadableError(
                f"{self.path}: cannot be read ({reason}). It may be truncated or damaged: fetch it again.", self.path
            ) from problem
        self._remote.reject(reason)
        if self._copy is not None:
            self._remote.copy(self._copy)

    def close(self) -> None:
        """Close the file, and remove a temporary copy."""
        self._shut()
        if self._remote is not None:
            self._remote.close()
        if self._copy is not None:
            self._copy.unlink(missing_ok=True)

    def _shut(self) -> None:
        if self._directory is not None:
            self._directory.close()
            self._directory = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _check_kind(path: str) -> None:
    if not os.path.exists(path):
        raise NanoMLError(f"{path}: no such file.")
    if os.path.isdir(path):
        raise NanoMLError(f"{path}: is a directory, not a ROOT file.")
    if os.path.getsize(path) == 0:
        raise UnreadableError(f"{path}: is empty (0 bytes), not a ROOT file: fetch or make it again.", path)
    with open(path, "rb") as file:
        if file.read(4) != b"root":
            raise UnreadableError(
                f"{path}: is not a ROOT file (it does not begin with the bytes `root`): fetch it again.", path
            )


@functools.cache  # once in a process
def _report(path: str) -> None:
    """Report that a file of CMS is read, as CMS asks for, so that Rucio knows what is in use; but only if the settings say so."""
    settings, name = current_settings(), _CENTRAL.search(path)
    site = next((site for beginning, site in settings.report_sites.items() if path.startswith(beginning)), None)
    if settings.report_to is None or name is None or site is None or "read.report_to" in notes():
        return  # the note says that the server does not respond
    trace = {"eventType": "touch", "clientState": "DONE", "scope": "cms", "filename": name[0], "localSite": site}
    body = json.dumps({**trace, "remoteSite": site, "account": os.environ.get("RUCIO_ACCOUNT")}).encode()
    try:
        request = urllib.request.Request(settings.report_to, body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=_PATIENCE).close()
    except (OSError, http.client.HTTPException, ValueError) as problem:  # ValueError: an address such as http://[
        say_once("read.report_to", f"read.report_to: files that are read could not be reported ({problem}).")
