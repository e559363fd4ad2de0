"""Moves the bytes of a file between this machine and XRootD servers, once; `storage.copy` insists."""

from __future__ import annotations

import contextlib
import os
import uuid
import zlib
from collections.abc import Iterator
from typing import Optional

from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.errors import explain_os_error
from MLTools.NanoML.rootio.remote.client import Cause, ServerError, answer, client, leave
from MLTools.NanoML.rootio.remote.server import Server
from MLTools.NanoML.rootio.remote.url import Url, is_xrootd

__all__ = ["pieces_of", "put"]

_BLOCK = 1 << 23  # bytes of one request
_READABLE_BY_ALL = 0o644


def pieces_of(source: str, checksum: bool) -> Iterator[bytes]:
    """The content of a file, one piece after the other.

    Parameters
    ----------
    source
        A path or a root:// URL.
    checksum
        Whether to compare the checksum with that of the server, at the end.

    Raises
    ------
    ServerError
        The server does not give it, or something else came.
    NanoMLError
        The local file cannot be read.
    """
    return _get_remote(source, checksum) if is_xrootd(source) else _get_local(source)


def put(pieces: Iterator[bytes], destination: str, checksum: bool) -> int:
    """Write a file, whole or not at all; return how many bytes it has.

    Parameters
    ----------
    pieces
        Its content.
    destination
        A path or a root:// URL.
    checksum
        Whether to compare the checksum with that of the server, or of what it gives back.

    Raises
    ------
    ServerError
        The server does not take it, or has something else then.
    NanoMLError
        The local file cannot be written.
    """
    return (
        _put_remote(pieces, destination, checksum)
        if is_xrootd(destination)
        else _put_local(pieces, destination)
    )


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
    answer(file.open, source, timeout=timeout)
    try:
        whole = answer(file.stat, timeout=timeout).size
        while offset < whole:
            piece = answer(file.read, offset, min(_BLOCK, whole - offset), timeout=timeout)
            if not piece:
                raise ServerError(f"it ends at byte {offset} of {whole}", Cause.TRANSIENT)
            offset, adler = offset + len(piece), zlib.adler32(piece, adler)
            yield piece
    finally:
        leave(file)
    if checksum:
        _compare(server.checksum(server.url), adler)


def _put_remote(pieces: Iterator[bytes], destination: str, checksum: bool) -> int:
    server = Server(destination)
    url = server.url
    aside = url.beside(f".{os.path.basename(url.path)}.part-{uuid.uuid4().hex}")
    try:
        written, adler = _write(pieces, aside, server.timeout)
        found = server.ask("stat", aside.path).size
        if found != written:
            raise ServerError(f"{found} of {written} bytes arrived", Cause.TRANSIENT)
        if checksum:
            stored = server.checksum(aside)
            _compare(_read_back(aside) if stored is None else stored, adler)
        server.rename(aside.path, url.path, f"{destination}: cannot be renamed to its own name")
    except BaseException:
        _forget(server, aside.path)
        raise
    return written


def _write(pieces: Iterator[bytes], url: Url, timeout: int) -> tuple[int, int]:
    """Write a remote file anew: how many bytes, and their checksum."""
    anew, with_parents = 2, 256
    file, offset, adler = client().File(), 0, 1
    answer(file.open, str(url), anew | with_parents, _READABLE_BY_ALL, timeout=timeout)
    try:
        for piece in pieces:
            answer(file.write, piece, offset, timeout=timeout)
            offset, adler = offset + len(piece), zlib.adler32(piece, adler)
    except BaseException:
        leave(file)
        raise
    answer(file.close, timeout=timeout)  # a full disk may only show here
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
