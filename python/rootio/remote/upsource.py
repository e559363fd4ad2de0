"""Lets uproot read a `RemoteFile`."""

from __future__ import annotations

import queue
from types import TracebackType
from typing import Any

import uproot
from uproot.source.chunk import Chunk, Source
from uproot.source.futures import TrivialFuture

from MLTools.NanoML.rootio.remote.file import RemoteFile

__all__ = ["open_remote"]


def open_remote(file: RemoteFile, name: str) -> Any:
    """Open a remote file with uproot.

    Parameters
    ----------
    file
        It stays the caller's to be closed.
    name
        What uproot calls it in its messages.
    """
    source = type("_Bound", (_RemoteSource,), {"remote": file})
    # nothing is read twice here, so a cache would only fill the memory
    if "handler" in uproot.open.defaults:
        return uproot.open({name: None}, handler=source, array_cache=None)
    return uproot.open(_Named(name), object_handler=source, array_cache=None)  # before uproot 5.2


class _Named:
    """What old versions of uproot take for a file: they look for these two."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def read(self, size: int) -> bytes:
        raise NotImplementedError

    seek = read


class _RemoteSource(Source):  # type: ignore[misc]
    """Gives uproot pieces of the file; many of them in one request."""

    remote: RemoteFile

    def __init__(self, name: object, **options: Any) -> None:
        super().__init__()
        self._file_path = str(name)
        self._num_bytes = self.remote.size

    @property
    def closed(self) -> bool:
        return False  # that is the remote file's affair

    def __enter__(self) -> _RemoteSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def chunk(self, start: int, stop: int) -> Any:
        return Chunk(self, start, stop, TrivialFuture(self.remote.read(start, stop - start)))

    def chunks(self, ranges: list[tuple[int, int]], notifications: queue.Queue[Any]) -> list[Any]:
        found = self.remote.read_all([(start, stop - start) for start, stop in ranges])
        chunks = [Chunk(self, start, stop, TrivialFuture(data)) for (start, stop), data in zip(ranges, found)]
        for chunk in chunks:
            notifications.put(chunk)
        return chunks
