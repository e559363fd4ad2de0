"""A remote file of which any bytes can be read, whichever of its servers gives them."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Optional, TypeVar

from MLTools.NanoML.errors import explain_os_error
from MLTools.NanoML.rootio.remote import reading
from MLTools.NanoML.rootio.remote.client import Cause, ServerError, answer, client, leave
from MLTools.NanoML.rootio.remote.server import Server
from MLTools.NanoML.rootio.remote.sources import Sources

__all__ = ["Piece", "RemoteFile"]

T = TypeVar("T")
Piece = tuple[int, int]
"""Where something begins in a file, and how many bytes it has."""

_GAP = 1 << 12  # bytes that are read in vain rather than asked around
_LARGEST, _MOST = (
    2_097_136,
    1024,
)  # bytes of one part of a vector read, and number of its parts: limits of servers
_REQUEST = 1 << 25  # bytes of one request
_BLOCK = 1 << 23  # bytes that are copied at once
_HEAD, _TAIL = 1 << 10, 1 << 18  # bytes: where ROOT has what describes a file


class RemoteFile:
    """A file on XRootD servers, opened for reading. Use it as a context manager.

    What fails is tried again, and elsewhere (see `Sources`); the bytes come from the same place of the file.

    Parameters
    ----------
    url
        As for `Sources`.

    Raises
    ------
    UnreadableError
        No server gives the file.
    """

    def __init__(self, url: str) -> None:
        self._sources = Sources(url)
        self._timeout = reading.current().timeout
        self._file: Any = None
        self._size: Optional[int] = None
        self._damaged: set[Optional[str]] = set()
        self._ends: list[tuple[int, bytes]] = []
        self._insist(lambda file: None)

    def __enter__(self) -> RemoteFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    @property
    def size(self) -> int:
        """How many bytes the file has."""
        assert self._size is not None
        return self._size

    def close(self) -> None:
        """Close the file."""
        self._leave()

    def read(self, start: int, length: int) -> bytes:
        """Read one piece; raises as `read_all` does.

        The two ends of the file are read together, once.
        """
        if not self._ends:
            head, tail = min(_HEAD, self.size), max(self.size - _TAIL, 0)
            places = [(0, head), (tail, self.size - tail)]
            self._ends = [(at, data) for (at, _), data in zip(places, self.read_all(places))]
        return self.read_all([(start, length)])[0]

    def read_all(self, pieces: Sequence[Piece]) -> list[bytes]:
        """Read many pieces at once, in as few requests as can be.

        Raises
        ------
        UnreadableError
            No server gives them.
        ValueError
            The file has no such place.
        """
        for start, length in pieces:
            if not 0 <= start <= start + length <= self.size:
                raise ValueError(f"the file ends at byte {self.size}, in what should end at {start + length}")
        found = {piece: self._at_ends(*piece) for piece in pieces}
        found.update(self._fetch([piece for piece, data in found.items() if data is None]))
        return [found[piece] for piece in pieces]  # type: ignore[misc]

    def _at_ends(self, start: int, length: int) -> Optional[bytes]:
        for at, data in self._ends:
            if at <= start and start + length <= at + len(data):
                return data[start - at : start - at + length]
        return None

    def _fetch(self, pieces: Sequence[Piece]) -> dict[Piece, bytes]:
        areas = _areas(pieces)
        found: list[bytes] = []
        for request in _requests(areas):
            found += self._insist(lambda file, request=request: self._get(file, request))  # type: ignore[misc]
            self._sources.worked()
        parts = _Parts(_split(areas), found)
        return {(start, length): parts.get(start, length) for start, length in pieces}

    def copy(self, target: Path) -> None:
        """Copy all of the file, and compare the checksum with the server's if that has one.

        Raises
        ------
        NanoMLError
            No server gives it, or `target` cannot be written.
        """
        while True:
            try:
                checksum = 1
                with open(target, "wb") as file:
                    for start in range(0, self.size, _BLOCK):
                        block = self.read_all([(start, min(_BLOCK, self.size - start))])[0]
                        checksum = zlib.adler32(block, checksum)
                        file.write(block)
            except OSError as problem:
                raise explain_os_error(problem, target, "write") from None
            server = Server(self._file.get_property("LastURL") or self._sources.address)
            stored = server.checksum(server.url)
            if stored is None or stored == checksum:
                return
            self.reject(f"the checksum of what arrived is {checksum:08x}, not {stored:08x}")

    def reject(self, reason: str) -> None:
        """Do not read from the current server any more, whose copy of the file is damaged.

        Raises
        ------
        UnreadableError
            There is no other.
        """
        server = self._server()
        self._damaged.add(server)
        self._leave()
        self._size, self._ends = None, []  # maybe it was these
        self._sources.failed(ServerError(f"damaged: {reason}", Cause.FINAL), server)
        self._insist(lambda file: None)

    def _insist(self, action: Callable[[Any], T]) -> T:
        """Do something with the open file, which is opened anew elsewhere as often as need be."""
        while True:
            try:
                return action(self._file or self._opened())
            except ServerError as problem:
                server = self._server()
                self._leave()
                self._sources.failed(problem, server)

    def _opened(self) -> Any:
        self._file = file = client().File()
        answer(file.open, self._sources.address, timeout=self._timeout)
        if self._damaged and self._server() in self._damaged:
            raise ServerError("damaged", Cause.FINAL)
        size = int(answer(file.stat, timeout=self._timeout).size)
        if self._size not in (None, size):
            raise ServerError(f"it has {size} bytes here, and {self._size} elsewhere", Cause.FINAL)
        self._size = size
        return file

    def _server(self) -> Optional[str]:
        """The server that gives the file, as HOST:PORT; None if it is not known."""
        return (self._file.get_property("DataServer") if self._file is not None else None) or None

    def _leave(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            leave(file)

    def _get(self, file: Any, request: Sequence[Piece]) -> list[bytes]:
        if len(request) == 1:
            start, length = request[0]
            found = [answer(file.read, start, length, timeout=self._timeout)]
        else:
            chunks = answer(file.vector_read, list(request), timeout=self._timeout)
            found = [chunk.buffer for chunk in chunks]
        if [len(part) for part in found] != [length for _, length in request]:
            raise ServerError("less came than was asked for", Cause.TRANSIENT)
        return found


def _areas(pieces: Sequence[Piece]) -> list[Piece]:
    """What is to be read, where pieces that touch or nearly do are one."""
    found: list[Piece] = []
    for start, length in sorted(pieces):
        if found and start <= sum(found[-1]) + _GAP:
            first = found[-1][0]
            found[-1] = (first, max(sum(found[-1]), start + length) - first)
        else:
            found.append((start, length))
    return found


def _split(areas: Sequence[Piece]) -> list[Piece]:
    """No part is larger than one of a request may be; those of large areas are read each by itself."""
    found = []
    for start, length in areas:
        most = _LARGEST if length <= _LARGEST else _BLOCK
        found += [(start + at, min(most, length - at)) for at in range(0, length, most)]
    return found


def _requests(areas: Sequence[Piece]) -> Iterator[list[Piece]]:
    """The parts of the areas as one request after the other has them."""
    gathered: list[Piece] = []
    total = 0
    for part in _split(areas):
        full = len(gathered) == _MOST or total + part[1] > _REQUEST
        if gathered and (full or max(part[1], gathered[-1][1]) > _LARGEST):
            yield gathered
            gathered, total = [], 0
        gathered.append(part)
        total += part[1]
    if gathered:
        yield gathered


class _Parts:
    """What was read, by its place in the file."""

    def __init__(self, places: Sequence[Piece], found: Sequence[bytes]) -> None:
        self._starts = [start for start, _ in places]
        self._found = found

    def get(self, start: int, length: int) -> bytes:
        """A piece of it."""
        at = bisect_right(self._starts, start) - 1
        gathered, missing = [], length
        while missing:
            begin = start + length - missing - self._starts[at]
            gathered.append(self._found[at][begin : begin + missing])
            missing -= len(gathered[-1])
            at += 1
        return gathered[0] if len(gathered) == 1 else b"".join(gathered)
