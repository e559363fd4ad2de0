"""Requests for pieces of remote files: pieces that are close together are read as one, and many in one request."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, Optional

from MLTools.NanoML.rootio.remote.client import Cause, ServerError, send

Piece = tuple[int, int]
"""Where something begins in a file, and its number of bytes."""

_GAP = 1 << 9  # unused bytes between two pieces that are still read as one
_LARGEST, _MOST = 2_097_136, 1024  # limits of servers: bytes of a part of a vector read, and number of parts
_REQUEST = 1 << 22  # bytes of one request
_WINDOW = 1 << 24  # bytes that are on their way at once: they fill 1 Gb/s up to a round trip of 130 ms
_WAITING = 1 << 26  # bytes that are on their way, or have come and are not used yet


class Request:
    """Parts of a file that a server is asked for at once."""

    def __init__(self, parts: Sequence[Piece], timeout: int) -> None:
        self.parts = parts
        self.size = sum(length for _, length in parts)
        self.content: Optional[list[bytes]] = None  # of each part, once it was received
        self.takers = 0  # pieces of it that were announced, and not taken yet
        self._timeout = timeout
        self._file: Any = None  # what was asked
        self._answer: Optional[Future[Any]] = None

    @property
    def is_sent(self) -> bool:
        """Whether some server was asked."""
        return self._file is not None

    @property
    def has_come(self) -> bool:
        """Whether the server has answered, be it with an error."""
        return self._answer is not None and self._answer.done()

    def send(self, file: Any, has_come: Callable[[object], None] = lambda file: None) -> None:
        """Ask the client's `file` without waiting, unless it was asked before, or another server has given the content.

        `has_come` is called with `file` when it has given the content, perhaps by another thread.
        """
        is_there = self._answer is not None and self._answer.done() and self._answer.exception() is None
        if self.content is not None or self._file is file or is_there:
            return
        self._file = file
        if len(self.parts) == 1:
            answer = send(file.read, *self.parts[0], timeout=self._timeout)
        else:
            answer = send(file.vector_read, list(self.parts), timeout=self._timeout)
        self._answer = answer
        answer.add_done_callback(lambda answer: None if answer.exception() else has_come(file))

    def receive(self, file: Any) -> None:
        """Wait for the content from `file`, which is asked if need be. Raises ServerError if that failed."""
        self.send(file)
        assert self._answer is not None
        try:
            response = self._answer.result()
        finally:
            self._answer = None
        found = [response] if len(self.parts) == 1 else [chunk.buffer for chunk in response]
        if [len(part) for part in found] != [length for _, length in self.parts]:
            raise ServerError("fewer bytes arrived than were requested", Cause.TRANSIENT)
        self.content = found


class Slice(NamedTuple):
    """Bytes of one part of a request."""

    request: Request
    part: int
    begin: int
    end: int

    @property
    def content(self) -> bytes:
        """The bytes, which must have been received."""
        assert self.request.content is not None
        return self.request.content[self.part][self.begin : self.end]


def requests_for(pieces: Iterable[Piece], timeout: int) -> dict[Piece, list[Slice]]:
    """Where each piece will be, in requests that are not sent yet; they are as few as possible, and in the order of the file."""
    pieces = sorted(set(pieces))
    parts: list[tuple[int, Request, int]] = []
    for grouped in _grouped(_split(_areas(pieces))):
        request = Request(grouped, timeout)
        parts += [(start, request, number) for number, (start, _) in enumerate(grouped)]
    starts = [start for start, *_ in parts]
    found: dict[Piece, list[Slice]] = {}
    for start, length in pieces:
        at, missing = bisect_right(starts, start) - 1, length
        slices = found[start, length] = []
        while missing:
            first, request, number = parts[at]
            begin = start + length - missing - first
            slices.append(Slice(request, number, begin, min(begin + missing, request.parts[number][1])))
            missing -= slices[-1].end - begin
            at += 1
    return found


def send_some(requests: Iterable[Request], file: Any, has_come: Callable[[object], None] = lambda file: None) -> None:
    """Send requests in their order, as long as not too much is on its way or waits to be used (see `Request.send`)."""
    unused = [request for request in requests if request.content is None]
    waiting = sum(request.size for request in unused if request.is_sent)
    on_the_way = sum(request.size for request in unused if request.is_sent and not request.has_come)
    for request in unused:
        if not request.is_sent:
            waiting, on_the_way = waiting + request.size, on_the_way + request.size
            if on_the_way > _WINDOW or waiting > _WAITING:
                return
        request.send(file, has_come)


def _areas(pieces: Sequence[Piece]) -> list[Piece]:
    """The areas to be read: pieces that touch, or nearly so, become one."""
    found: list[Piece] = []
    for start, length in pieces:
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
        most = _LARGEST if length <= _LARGEST else _REQUEST
        found += [(start + at, min(most, length - at)) for at in range(0, length, most)]
    return found


def _grouped(parts: Sequence[Piece]) -> Iterator[list[Piece]]:
    """The parts of each request."""
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
