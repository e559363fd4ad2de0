"""A remote file: any bytes of it, from whichever of its servers gives them; and how uproot reads it."""

from __future__ import annotations

import queue
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Optional, TypeVar

import uproot
from uproot.source.chunk import Chunk, Source
from uproot.source.futures import TrivialFuture

from MLTools.NanoML.errors import explain_os_error
from MLTools.NanoML.rootio.remote.client import Cause, ServerError, answer, client, current_settings, leave
from MLTools.NanoML.rootio.remote.server import Replicas, Server

T = TypeVar("T")
Piece = tuple[int, int]
"""Where something begins in a file, and its number of bytes."""

_GAP = 1 << 12  # unused bytes between two pieces that are still read as one
_LARGEST, _MOST = 2_097_136, 1024  # limits of servers: bytes of a part of a vector read, and number of parts
_REQUEST = 1 << 25  # bytes of one request
_BLOCK = 1 << 23  # bytes that are copied at once
_HEAD, _TAIL = 1 << 10, 1 << 18  # bytes: where ROOT has what describes a file


class RemoteFile:
    """A file on XRootD servers, opened for reading: a root:// URL, or several of the same file with | in between.

    Use it as a context manager. What fails is tried again, on this or another server (see `Replicas`), until no server is
    left: then it is an UnreadableError.
    """

    def __init__(self, url: str) -> None:
        self._replicas = Replicas(url)
        self._timeout = current_settings().timeout
        self._file: Any = None
        self._size: Optional[int] = None
        self._damaged: set[Optional[str]] = set()
        self._ends: list[tuple[int, bytes]] = []  # pieces that `read` keeps: where they begin, and their content
        self._insist(lambda file: None)

    def __enter__(self) -> RemoteFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Number of bytes."""
        assert self._size is not None
        return self._size

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            leave(file)

    def read(self, start: int, length: int) -> bytes:
        """Read one piece, and with the first one both ends of the file; raises as `read_all` does."""
        if not self._ends:
            tail = max(self.size - _TAIL, 0)
            found = self.read_all([(0, min(_HEAD, self.size)), (tail, self.size - tail)])
            self._ends = list(zip((0, tail), found))
        return self.read_all([(start, length)])[0]

    def read_all(self, pieces: Sequence[Piece]) -> list[bytes]:
        """Read many pieces in as few requests as possible; ValueError if the file ends before a piece does."""
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
        parts = _split(_areas(pieces))
        found: list[bytes] = []
        for request in _requests(parts):
            found += self._insist(lambda file, request=request: self._get(file, request))  # type: ignore[misc]
            self._replicas.worked()
        starts = [start for start, _ in parts]
        return {piece: _cut(starts, found, *piece) for piece in pieces}

    def copy(self, target: Path) -> None:
        """Copy the file, and compare the checksum with that of the server, if it has one."""
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
            server = Server(self._file.get_property("LastURL") or self._replicas.address)
            stored = server.checksum(server.url)
            if stored is None or stored == checksum:
                return
            self.reject(f"the checksum of what arrived is {checksum:08x}, not {stored:08x}")

    def reject(self, reason: str) -> None:
        """Read from another server from now on, as the copy of the current one is damaged."""
        server = self._server()
        self._damaged.add(server)
        self.close()
        self._size, self._ends = None, []  # they may be damaged, too
        self._replicas.failed(ServerError(f"damaged: {reason}", Cause.FINAL), server)
        self._insist(lambda file: None)

    def _insist(self, action: Callable[[Any], T]) -> T:
        """Do something with the open file, which is opened again elsewhere if need be."""
        while True:
            try:
                return action(self._file or self._opened())
            except ServerError as problem:
                server = self._server()
                self.close()
                self._replicas.failed(problem, server)

    def _opened(self) -> Any:
        self._file = file = client().File()
        answer(file.open, self._replicas.address, timeout=self._timeout)
        if self._damaged and self._server() in self._damaged:
            raise ServerError("damaged", Cause.FINAL)
        size = int(answer(file.stat, timeout=self._timeout).size)
        if self._size not in (None, size):
            raise ServerError(f"it has {size} bytes here, and {self._size} elsewhere", Cause.FINAL)
        self._size = size
        return file

    def _server(self) -> Optional[str]:
        """The server of the open file, as HOST:PORT; None if it is not known."""
        return (self._file.get_property("DataServer") if self._file is not None else None) or None

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
    """The areas to be read: pieces that touch, or nearly so, become one."""
    found: list[Piece] = []
    for start, length in sorted(pieces):
        if found and start <= sum(found[-1]) + _GAP:
            first = found[-1][0]
            found[-1] = (first, max(sum(found[-1]), start + length) - first)
        else:
            found.append((start, length))
    return found


def _split(areas: Sequence[Piece]) -> list[Piece]:
    """Areas in parts that one request may have; each part of a large area is read by itself."""
    found = []
    for start, length in areas:
        most = _LARGEST if length <= _LARGEST else _BLOCK
        found += [(start + at, min(most, length - at)) for at in range(0, length, most)]
    return found


def _requests(parts: Sequence[Piece]) -> Iterator[list[Piece]]:
    """The parts, grouped into requests."""
    gathered: list[Piece] = []
    total = 0
    for part in parts:
        full = len(gathered) == _MOST or total + part[1] > _REQUEST
        if gathered and (full or max(part[1], gathered[-1][1]) > _LARGEST):
            yield gathered
            gathered, total = [], 0
        gathered.append(part)
        total += part[1]
    if gathered:
        yield gathered


def _cut(starts: Sequence[int], parts: Sequence[bytes], start: int, length: int) -> bytes:
    """A piece out of parts of the file that begin at `starts`."""
    at = bisect_right(starts, start) - 1
    gathered, missing = [], length
    while missing:
        begin = start + length - missing - starts[at]
        gathered.append(parts[at][begin : begin + missing])
        missing -= len(gathered[-1])
        at += 1
    return gathered[0] if len(gathered) == 1 else b"".join(gathered)


def open_with_uproot(file: RemoteFile, name: str) -> Any:
    """Open a remote file with uproot, which calls it `name` in messages; the caller closes `file`."""
    source = type("_Bound", (_UprootSource,), {"remote": file})
    # nothing is read twice, so a cache would only fill the memory
    if "handler" in uproot.open.defaults:
        return uproot.open({name: None}, handler=source, array_cache=None)
    return uproot.open(_Named(name), object_handler=source, array_cache=None)  # before uproot 5.2


class _Named:
    """What old versions of uproot take for a file: they look for these two methods."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def read(self, size: int) -> bytes:
        raise NotImplementedError

    seek = read


class _UprootSource(Source):  # type: ignore[misc]
    """Gives uproot pieces of the file, many in one request."""

    remote: RemoteFile

    def __init__(self, name: object, **options: Any) -> None:
        super().__init__()
        self._file_path = str(name)
        self._num_bytes = self.remote.size

    @property
    def closed(self) -> bool:
        return False  # it is closed by its owner

    def __enter__(self) -> _UprootSource:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def chunk(self, start: int, stop: int) -> Any:
        return Chunk(self, start, stop, TrivialFuture(self.remote.read(start, stop - start)))

    def chunks(self, ranges: list[tuple[int, int]], notifications: queue.Queue[Any]) -> list[Any]:
        found = self.remote.read_all([(start, stop - start) for start, stop in ranges])
        chunks = [Chunk(self, start, stop, TrivialFuture(data)) for (start, stop), data in zip(ranges, found)]
        for chunk in chunks:
            notifications.put(chunk)
        return chunks
