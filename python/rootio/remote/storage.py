"""Files on remote storage: look them up, list, copy, remove them.

Each operation is repeated while an answer may come a moment later, and ends with one error otherwise.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import threading
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.atomic import make_directory, replacing
from MLTools.NanoML.errors import explain_os_error
from MLTools.NanoML.rootio.remote.client import Cause, ServerError, answer, client, leave, persist, send
from MLTools.NanoML.rootio.remote.server import Server, Url, is_xrootd

_IS_DIRECTORY = 2
_BLOCK = 1 << 23  # bytes of one request
_READABLE_BY_ALL = 0o644
_IMMUTABLE = ("/store/data/", "/store/hidata/", "/store/mc/")  # what CMS has made
_PATIENCE = 3  # seconds


@dataclass(frozen=True)
class FileStatus:
    """The answer of a server about a file or directory."""

    name: str  # its name within its directory
    size: int  # in bytes
    modified: int  # time of the last change, in seconds since 1970
    is_directory: bool


def _status(name: str, info: Any) -> FileStatus:
    """The client's answer."""
    return FileStatus(name, int(info.size), int(info.modtime), bool(info.flags & _IS_DIRECTORY))


def stat(url: str) -> FileStatus:
    """The answer of the server about a remote file or directory.

    Raises NanoMLError if there is none, or the server does not answer.
    """
    server = Server(url)
    found = persist(lambda: server.ask("stat", server.path), f"{url}: cannot be looked up")
    return _status(os.path.basename(server.path), found)


def stat_all(urls: Iterable[str]) -> dict[str, FileStatus]:
    """The answers about root:// files that come within seconds; all are asked for at once, but for those that CMS never changes."""
    sent: dict[str, Future[Any]] = {}

    def ask() -> None:
        for text in chosen:
            url = Url.parse(text.partition("|")[0].strip())
            if not (url.logical_name or "").startswith(_IMMUTABLE):
                sent[text] = send(systems(url.server).stat, url.path, timeout=_PATIENCE)

    chosen, end = list(filter(is_xrootd, urls)), time.monotonic() + _PATIENCE
    if chosen and importlib.util.find_spec("XRootD"):
        systems = functools.cache(client().FileSystem)
        asking = threading.Thread(target=ask, daemon=True)  # to find the address of a server may take long
        asking.start()
        asking.join(_PATIENCE)
    wait(list(sent.values()), max(end - time.monotonic(), 0))
    come = {text: each for text, each in list(sent.items()) if each.done() and each.exception() is None}
    return {text: _status(os.path.basename(text), each.result()) for text, each in come.items()}


def size(url: str) -> int:
    """Number of bytes of a remote file; raises as `stat` does."""
    return stat(url).size


def exists(url: str) -> bool:
    """Whether there is such a remote file or directory. Raises NanoMLError if the server does not answer."""
    server = Server(url)
    return persist(lambda: server.has(server.path), f"{url}: cannot be looked up")


def remove(url: str, missing_ok: bool = False) -> None:
    """Remove a remote file or an empty directory; with `missing_ok` there need not be one.

    Raises NanoMLError if it is not there, or the server refuses.
    """
    server = Server(url)
    if missing_ok and not exists(url):
        return
    method = "rmdir" if stat(url).is_directory else "rm"
    server.take_away(f"{url}: cannot be removed", lambda: server.ask(method, server.path), server.path)


def list_directory(url: str) -> list[FileStatus]:
    """The content of a remote directory, sorted by name; for a redirector, of those of all its servers.

    Raises NanoMLError if there is none, or not all of its servers answer.
    """
    server = Server(url)
    found = persist(lambda: _entries(server), f"{url}: cannot be listed")
    return sorted(found.values(), key=lambda each: each.name)


def _entries(server: Server) -> dict[str, FileStatus]:
    """The content of a directory by name; may raise ServerError."""
    found: dict[str, FileStatus] = {}
    missing, with_status = [], 1
    # when the client asks all servers itself, one without the directory looks like one that does not answer
    behind = server.behind()
    for each in behind:
        try:
            entries = each.ask("dirlist", each.path, with_status)
        except ServerError as problem:
            if problem.cause is not Cause.MISSING:
                raise ServerError(f"{each.url.site}: {problem}", problem.cause) from None
            missing.append(problem)
            continue
        for entry in entries:
            if entry.statinfo is None:
                raise ServerError(f"{each.url.site} says nothing of {entry.name}", Cause.TRANSIENT)
            found[entry.name] = _status(entry.name, entry.statinfo)
    if len(missing) == len(behind):
        raise missing[0]
    return found


def copy(source: str | os.PathLike[str], destination: str | os.PathLike[str], checksum: bool = True) -> int:
    """Copy a file from or to remote storage, paths or root:// URLs; it appears whole or not at all. Return the number of bytes.

    Directories of the destination are created. With `checksum`, Adler-32 checksums are compared, besides the sizes: a server
    without checksums is trusted when it is read from; what is written to it is read back. Raises NanoMLError if it cannot be
    read or written, or if what arrived is not the same.
    """
    source, destination = os.fspath(source), os.fspath(destination)
    what = f"{source}: cannot be copied to {destination}"

    def once() -> int:
        blocks = _read_remote(source, checksum) if is_xrootd(source) else _read_local(source)
        if is_xrootd(destination):
            return _write_remote(blocks, destination, checksum)
        return _write_local(blocks, destination)

    return persist(once, what)


def fetch_directory(url: str, directory: str | os.PathLike[str], checksum: bool = True) -> list[Path]:
    """Copy a remote directory, with all that is below it, to `directory` on this machine; return the paths of the files.

    Raises as `list_directory` and `copy`.
    """
    place, found = make_directory(directory), []
    for entry in list_directory(url):
        below, target = f"{url.rstrip('/')}/{entry.name}", place / entry.name
        if entry.is_directory:
            found += fetch_directory(below, target, checksum)
        else:
            copy(below, str(target), checksum)
            found.append(target)
    return found


def _read_local(source: str) -> Iterator[bytes]:
    try:
        with open(source, "rb") as file:
            yield from iter(lambda: file.read(_BLOCK), b"")
    except OSError as problem:
        raise explain_os_error(problem, source, "read") from None


def _write_local(blocks: Iterator[bytes], destination: str) -> int:
    written = 0
    with replacing(destination) as aside, open(aside, "wb") as file:
        for block in blocks:
            written += file.write(block)
    return written


def _read_remote(source: str, checksum: bool) -> Iterator[bytes]:
    """The content of a remote file; ServerError at its end if the checksum is not that of the server."""
    server = Server(source)
    timeout = server.timeout
    file, offset, adler = client().File(), 0, 1
    answer(file.open, source, timeout=timeout)
    try:
        whole = answer(file.stat, timeout=timeout).size
        while offset < whole:
            block = answer(file.read, offset, min(_BLOCK, whole - offset), timeout=timeout)
            if not block:
                raise ServerError(f"it ends at byte {offset} of {whole}", Cause.TRANSIENT)
            offset, adler = offset + len(block), zlib.adler32(block, adler)
            yield block
    finally:
        leave(file)
    if checksum:
        _compare(server.checksum(server.url), adler)


def _write_remote(blocks: Iterator[bytes], destination: str, checksum: bool) -> int:
    server = Server(destination)
    url = server.url
    aside = url.beside(f".{os.path.basename(url.path)}.part-{uuid.uuid4().hex}")
    try:
        written, adler = _write_blocks(blocks, aside, server.timeout)
        found = server.ask("stat", aside.path).size
        if found != written:
            raise ServerError(f"{found} of {written} bytes arrived", Cause.TRANSIENT)
        if checksum:
            stored = server.checksum(aside)
            _compare(_read_back(aside) if stored is None else stored, adler)
        server.rename(aside.path, url.path, f"{destination}: cannot be renamed to its own name")
    except BaseException:
        with contextlib.suppress(ServerError):  # the first error says more
            server.ask("rm", aside.path)
        raise
    return written


def _write_blocks(blocks: Iterator[bytes], url: Url, timeout: int) -> tuple[int, int]:
    """Write a new remote file; return the number of bytes and their checksum."""
    new, with_parents = 2, 256
    file, offset, adler = client().File(), 0, 1
    answer(file.open, str(url), new | with_parents, _READABLE_BY_ALL, timeout=timeout)
    try:
        for block in blocks:
            answer(file.write, block, offset, timeout=timeout)
            offset, adler = offset + len(block), zlib.adler32(block, adler)
    except BaseException:
        leave(file)
        raise
    answer(file.close, timeout=timeout)  # a full disk may only show here
    return offset, adler


def _read_back(url: Url) -> int:
    return functools.reduce(lambda adler, block: zlib.adler32(block, adler), _read_remote(str(url), checksum=False), 1)


def _compare(stored: Optional[int], adler: int) -> None:
    if stored is not None and stored != adler:
        raise ServerError(
            f"the checksum of what arrived is {adler:08x}, that of the original {stored:08x}", Cause.TRANSIENT
        )
