"""Small operations on files of remote storage, by the XRootD client.

Each asks again where an answer may come a moment later, and ends with one error otherwise.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.atomic import make_directory as make_local_directory
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.errors import NanoMLError, explain_os_error
from MLTools.NanoML.grid.client import Cause, ServerError, answer, client, persist
from MLTools.NanoML.grid.server import Server
from MLTools.NanoML.grid.url import Url, is_xrootd

__all__ = [
    "Status",
    "copy",
    "exists",
    "fetch_directory",
    "list_directory",
    "make_directory",
    "remove",
    "rename",
    "size",
    "stat",
]

_BLOCK = 1 << 23  # bytes of one request
_IS_DIRECTORY = 2
_READABLE_BY_ALL = 0o644


@dataclass(frozen=True)
class Status:
    """What is known of a file or directory.

    Attributes
    ----------
    name
        Its name in its directory.
    size
        In bytes.
    modified
        When it was changed, in seconds since 1970.
    is_directory
        Whether it is one.
    """

    name: str
    size: int
    modified: int
    is_directory: bool

    @classmethod
    def of(cls, name: str, info: Any) -> Status:
        """Take it from an answer of the client."""
        return cls(name, int(info.size), int(info.modtime), bool(info.flags & _IS_DIRECTORY))


def stat(url: str) -> Status:
    """What is known of a remote file or directory.

    Raises
    ------
    NanoMLError
        There is none, or the server does not tell.
    """
    server = Server(url)
    return Status.of(os.path.basename(server.path), server.insist("looked up", "stat", server.path))


def size(url: str) -> int:
    """How many bytes a remote file has; raises as `stat` does."""
    return stat(url).size


def exists(url: str) -> bool:
    """Whether there is such a remote file or directory.

    Raises
    ------
    NanoMLError
        The server does not tell.
    """
    server = Server(url)
    return persist(lambda: server.has(server.path), f"{url}: cannot be looked up")


def remove(url: str, missing_ok: bool = False) -> None:
    """Remove a remote file, or a directory that is empty.

    Parameters
    ----------
    url
        The file.
    missing_ok
        Whether it is fine if there is none.

    Raises
    ------
    NanoMLError
        It is not there, or the server refuses.
    """
    server = Server(url)
    if missing_ok and not exists(url):
        return
    method = "rmdir" if stat(url).is_directory else "rm"
    server.take_away(f"{url}: cannot be removed", lambda: server.ask(method, server.path), server.path)


def make_directory(url: str) -> None:
    """Create a remote directory and its parents; one that is there already is fine.

    Raises
    ------
    NanoMLError
        The server refuses.
    """
    server = Server(url)
    with_parents, mode = 1, 0o755
    server.insist("created", "mkdir", server.path, with_parents, mode)


def list_directory(url: str) -> list[Status]:
    """What is in a remote directory, in the order of the names.

    A redirector's directory is put together from those of all its servers.

    Raises
    ------
    NanoMLError
        There is none, or not all of its servers answer.
    """
    server = Server(url)
    stat_, locate, merge = 1, 2, 8
    found = server.insist("listed", "dirlist", server.path, stat_ | locate | merge)
    unknown = [entry.name for entry in found if entry.statinfo is None]
    if unknown:
        raise NanoMLError(f"{url}: cannot be listed (the server says nothing of {unknown[0]}).")
    return sorted((Status.of(entry.name, entry.statinfo) for entry in found), key=lambda each: each.name)


def rename(source: str, destination: str) -> None:
    """Rename a remote file or directory on its server; a file of the new name is replaced.

    Raises
    ------
    NanoMLError
        The two are on different servers, or the server refuses.
    """
    server, target = Server(source), Url.parse(destination)
    if target.server != server.url.server:
        raise NanoMLError(f"{source}: cannot be renamed to {destination}, on another server: copy it.")
    _rename(server, server.path, target.path, f"{source}: cannot be renamed to {destination}")


def _rename(server: Server, source: str, destination: str, what: str) -> None:
    def once() -> None:
        try:
            server.ask("mv", source, destination)
        except ServerError as problem:
            if problem.cause is not Cause.FINAL or not server.has(destination):
                raise
            server.ask("rm", destination)  # some servers do not replace
            server.ask("mv", source, destination)

    server.take_away(what, once, source)


def copy(source: str | os.PathLike[str], destination: str | os.PathLike[str], checksum: bool = True) -> int:
    """Copy a file from or to remote storage. It appears whole or not at all.

    Parameters
    ----------
    source, destination
        Paths or root:// URLs; directories of the destination are created.
    checksum
        Whether to compare Adler-32 checksums, besides the sizes. A server that has none to tell is believed to give
        what it has; what was written to it is read back.

    Returns
    -------
    How many bytes it has.

    Raises
    ------
    NanoMLError
        It cannot be read or written, or what arrived is not the same.
    """
    source, destination = os.fspath(source), os.fspath(destination)
    what = f"{source}: cannot be copied to {destination}"

    def once() -> int:
        pieces = _get_remote(source, checksum) if is_xrootd(source) else _get_local(source)
        if is_xrootd(destination):
            return _put_remote(pieces, destination, checksum)
        return _put_local(pieces, destination)

    return persist(once, what)


def fetch_directory(url: str, directory: str | os.PathLike[str], checksum: bool = True) -> list[Path]:
    """Copy a remote directory, with all that is below it, to this machine.

    Parameters
    ----------
    url
        The remote directory.
    directory
        Where its content goes; it is created.
    checksum
        As of `copy`.

    Returns
    -------
    The files.

    Raises
    ------
    NanoMLError
        As `list_directory` and `copy`.
    """
    place, found = make_local_directory(directory), []
    for entry in list_directory(url):
        below, target = f"{url.rstrip('/')}/{entry.name}", place / entry.name
        if entry.is_directory:
            found += fetch_directory(below, target, checksum)
        else:
            copy(below, str(target), checksum)
            found.append(target)
    return found


def _get_local(source: str) -> Iterator[bytes]:
    try:
        with open(source, "rb") as file:
            yield from iter(lambda: file.read(_BLOCK), b"")
    except OSError as problem:
        raise explain_os_error(problem, source, "read") from None


def _put_local(pieces: Iterator[bytes], destination: str) -> int:
    written = 0
    with replacing(destination) as aside, open(aside, "wb") as file:
        for piece in pieces:
            written += file.write(piece)
    return written


def _get_remote(source: str, checksum: bool) -> Iterator[bytes]:
    """The content of a remote file; raises at its end if that is not what the server has."""
    server = Server(source)
    timeout = server.timeout
    file, offset, adler = client().File(), 0, 1
    answer(file.open(source, timeout=timeout))
    try:
        whole = answer(file.stat(timeout=timeout)).size
        while offset < whole:
            piece = answer(file.read(offset, min(_BLOCK, whole - offset), timeout=timeout))
            if not piece:
                raise ServerError(f"it ends at byte {offset} of {whole}", Cause.TRANSIENT)
            offset, adler = offset + len(piece), zlib.adler32(piece, adler)
            yield piece
    finally:
        file.close(timeout=timeout)
    if checksum:
        _compare(server.checksum(server.url), adler)


def _put_remote(pieces: Iterator[bytes], destination: str, checksum: bool) -> int:
    server = Server(destination)
    url = server.url
    aside = url.beside(f".{os.path.basename(url.path)}.part-{os.uname().nodename}-{os.getpid()}")
    try:
        written, adler = _write(pieces, aside, server.timeout)
        found = server.ask("stat", aside.path).size
        if found != written:
            raise ServerError(f"{found} of {written} bytes arrived", Cause.TRANSIENT)
        if checksum:
            stored = server.checksum(aside)
            _compare(_read_back(aside) if stored is None else stored, adler)
        _rename(server, aside.path, url.path, f"{destination}: cannot be renamed to its own name")
    except BaseException:
        _forget(server, aside.path)
        raise
    return written


def _write(pieces: Iterator[bytes], url: Url, timeout: int) -> tuple[int, int]:
    """Write a remote file anew: how many bytes, and their checksum."""
    anew, with_parents = 2, 256
    file, offset, adler = client().File(), 0, 1
    answer(file.open(str(url), anew | with_parents, _READABLE_BY_ALL, timeout=timeout))
    try:
        for piece in pieces:
            answer(file.write(piece, offset, timeout=timeout))
            offset, adler = offset + len(piece), zlib.adler32(piece, adler)
    except BaseException:
        file.close(timeout=timeout)
        raise
    answer(file.close(timeout=timeout))  # a full disk may only show here
    return offset, adler


def _read_back(url: Url) -> int:
    adler = 1
    for piece in _get_remote(str(url), checksum=False):
        adler = zlib.adler32(piece, adler)
    return adler


def _compare(stored: Optional[int], adler: int) -> None:
    if stored is not None and stored != adler:
        raise ServerError(
            f"the checksum of what arrived is {adler:08x}, that of the original {stored:08x}", Cause.TRANSIENT
        )


def _forget(server: Server, path: str) -> None:
    """Remove what is not finished, if that can be; what went wrong before says more."""
    with contextlib.suppress(ServerError):
        server.ask("rm", path)
