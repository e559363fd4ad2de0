"""A remote file: any bytes of it, from whichever of its servers gives them; and how uproot reads it."""

from __future__ import annotations

import queue
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Optional, TypeVar

import uproot
from uproot.source.chunk import Chunk, Source
from uproot.source.futures import TrivialFuture

from MLTools.NanoML.errors import explain_os_error
from MLTools.NanoML.rootio.remote.client import Cause, ServerError, answer, client, current_settings, leave
from MLTools.NanoML.rootio.remote.requests import Piece, Request, Slice, requests_for, send_some
from MLTools.NanoML.rootio.remote.server import Replicas, Server

T = TypeVar("T")
_BLOCK = 1 << 22  # bytes that are copied at once
_HEAD, _TAIL = 1 << 12, 1 << 18  # bytes: where ROOT has what describes a file
# in larger files, a part of them and the most bytes: there ROOT has the header of the tree of events, too, which is read next
_PART_OF_TAIL, _LARGEST_TAIL = 1 / 2000, 1 << 21


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
        # servers whose bytes made no sense once, and again
        self._doubted: set[Optional[str]] = set()
        self._damaged: set[Optional[str]] = set()
        self._ends: list[tuple[int, bytes]] = []  # pieces that `read` keeps: where they begin, and their content
        # ranges may be announced by one thread, and read by another; and the client's threads send what is announced
        self._lock = threading.RLock()
        self._forget()
        self._insist(lambda file: None)

    def _forget(self) -> None:
        """Begin without anything that was announced."""
        self._announced: dict[Piece, list[Slice]] = {}
        self._uses: Counter[Piece] = Counter()  # how many times each will be taken
        self._ahead: list[Request] = []  # the requests that have them
        self._awaited: list[Request] = []  # those that were taken last

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
        with self._lock:  # so that no other thread asks it for more
            file, self._file = self._file, None
        if file is not None:
            leave(file)

    def read(self, start: int, length: int) -> bytes:
        """Read one piece, and with the first one both ends of the file; raises as `read_all` does."""
        if not self._ends:
            tail = max(self.size - max(_TAIL, min(int(self.size * _PART_OF_TAIL), _LARGEST_TAIL)), 0)
            found = self.read_all([(0, min(_HEAD, self.size)), (tail, self.size - tail)])
            self._ends = list(zip((0, tail), found))
        return self.read_all([(start, length)])[0]

    def read_all(self, pieces: Sequence[Piece]) -> list[bytes]:
        """Read many pieces in as few requests as possible; raises as `take` and what it returns do."""
        give = self.take(pieces)
        return [give(*piece) for piece in pieces]

    def announce(self, pieces: Iterable[Piece]) -> bool:
        """Begin to read pieces that will be taken soon, each as many times as it is announced.

        Return whether there is room for more, and none of them waits until others have been taken.
        """
        with self._lock:
            end = self._size or 0
            inside = (each for each in pieces if 0 <= each[0] < sum(each) <= end)
            pieces = [each for each in inside if self._at_ends(*each) is None]
            new = requests_for((piece for piece in pieces if piece not in self._announced), self._timeout)
            self._announced.update(new)
            self._uses.update(pieces)
            for piece in pieces:
                for part in self._announced[piece]:
                    part.request.takers += 1
            self._ahead += _requests_of(new)
            self._send()
            return all(request.is_sent for request in self._ahead)

    def take(self, pieces: Iterable[Piece]) -> Callable[[int, int], bytes]:
        """Ask for pieces without waiting; what is returned waits for one of them, which it can give several times.

        Raises ValueError if the file ends before a piece does. What is returned raises UnreadableError if no server is left.
        """
        with self._lock:
            found: dict[Piece, list[Slice]] = {}
            new, at_ends = [], {}
            for piece in dict.fromkeys(pieces):
                if not 0 <= piece[0] <= sum(piece) <= self.size:
                    raise ValueError(f"the file ends at byte {self.size}, in what should end at {sum(piece)}")
                known = self._at_ends(*piece)
                if known is not None:
                    at_ends[piece] = known
                elif piece in self._announced:
                    found[piece] = self._taken(piece)
                else:
                    new.append(piece)
            found.update(requests_for(new, self._timeout))
            self._awaited = sorted(_requests_of(found), key=lambda request: request.parts[0])
            self._send()

        def give(start: int, length: int) -> bytes:
            if (start, length) in at_ends:
                return at_ends[start, length]
            parts = found[start, length]
            for part in parts:
                if part.request.content is None:
                    self._insist(partial(self._receive, part.request))
                    self._replicas.worked()
            return parts[0].content if len(parts) == 1 else b"".join(part.content for part in parts)

        return give

    def _taken(self, piece: Piece) -> list[Slice]:
        """Where an announced piece is, which is taken once."""
        parts = self._announced[piece]
        for part in parts:
            part.request.takers -= 1
        self._uses[piece] -= 1
        if not self._uses[piece]:
            del self._announced[piece], self._uses[piece]
        return parts

    def _receive(self, request: Request, file: Any) -> None:
        with self._lock:
            request.send(file, self._send_to)
        request.receive(file)
        with self._lock:
            self._send()

    def _send(self) -> None:
        """Send requests that are waited for, and then those that are announced."""
        self._awaited = [request for request in self._awaited if request.content is None]
        self._ahead = [request for request in self._ahead if request.takers]
        if self._file is not None:
            send_some(dict.fromkeys([*self._awaited, *self._ahead]), self._file, self._send_to)

    def _send_to(self, file: Any) -> None:
        """As something has come from the client's `file`, ask it for more."""
        with self._lock:
            if self._file is file:
                self._send()

    def _at_ends(self, start: int, length: int) -> Optional[bytes]:
        for at, data in self._ends:
            if at <= start and start + length <= at + len(data):
                return data[start - at : start - at + length]
        return None

    def copy(self, target: Path) -> None:
        """Copy the file, and compare the checksum with that of the server, if it has one."""
        while True:
            try:
                checksum = 1
                starts = range(0, self.size, _BLOCK)
                blocks = [(start, min(_BLOCK, self.size - start)) for start in starts]
                self.announce(blocks)
                with open(target, "wb") as file:
                    for piece in blocks:
                        block = self.take([piece])(*piece)
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
        """Read again what may have been damaged on its way; the second time, the copy of this server is damaged: another has to do."""
        server = self._server()
        self.close()
        self._size, self._ends = None, []  # they may be damaged, too
        with self._lock:
            self._forget()
        if server in self._doubted:
            self._damaged.add(server)
            self._replicas.failed(ServerError(f"damaged: {reason}", Cause.FINAL), server)
        self._doubted.add(server)
        self._insist(lambda file: None)

    def _insist(self, action: Callable[[object], T]) -> T:
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


def _requests_of(found: Mapping[Piece, Sequence[Slice]]) -> list[Request]:
    """The requests that have the pieces."""
    return list(dict.fromkeys(part.request for parts in found.values() for part in parts))


def open_with_uproot(file: RemoteFile, name: str) -> Any:
    """Open a remote file with uproot, which calls it `name` in messages; the caller closes `file`."""
    source = type("_Bound", (_UprootSource,), {"remote": file})
    # nothing is read twice, so a cache would only fill the memory
    if "handler" in uproot.open.defaults:
        return uproot.open({name: None}, handler=source, array_cache=None)
    return uproot.open(_Named(name), object_handler=source, array_cache=None)  # before uproot 5.2


class _Named:
    """A thing that old versions of uproot take for a file: they look for these two methods."""

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

    def __init__(self, name: object, **options: object) -> None:
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

    def chunks(self, ranges: list[tuple[int, int]], notifications: queue.Queue[object]) -> list[Any]:
        found = self.remote.read_all([(start, stop - start) for start, stop in ranges])
        chunks = [Chunk(self, start, stop, TrivialFuture(data)) for (start, stop), data in zip(ranges, found)]
        for chunk in chunks:
            notifications.put(chunk)
        return chunks
