"""Writes HDF5 datasets block by block: blocks are compressed by several threads while the next ones are read."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.rootio.deflate import fast_deflate

__all__ = ["BlockQueue", "BlockWriter", "Rows", "gzip_level"]

Rows = Mapping[str, NDArray[Any]]  # a column for each field

_BLOCK_BYTES = 1 << 20  # large enough to compress well, small enough for a reader that takes blocks at random
_BLOCK_ROWS = 4096


def gzip_level(compression: str) -> int | None:
    """Level of "gzip:LEVEL"; None for "none".

    Raises
    ------
    ConfigError
        It is neither.
    """
    codec, _, level = compression.partition(":")
    if codec == "none" and not level:
        return None
    if codec == "gzip" and level in list("123456789"):
        return int(level)
    raise ConfigError(
        f'compression "{compression}": write gzip and a level from 1 to 9, as in gzip:4, or none.'
    )


class BlockQueue:
    """Blocks of all datasets of a file that are being compressed, and are to be written in turn.

    Parameters
    ----------
    threads
        Where blocks are compressed.
    ahead
        How many blocks may wait for being written: they take memory.
    """

    def __init__(self, threads: Executor, ahead: int = 16) -> None:
        self._threads, self._ahead = threads, ahead
        self._waiting: deque[tuple[Any, tuple[int, ...], Future[bytes]]] = deque()

    def put(self, dataset: Any, offset: tuple[int, ...], *block: Any) -> None:
        """Add the block at an offset of a dataset, as `_encode` takes it."""
        self._waiting.append((dataset, offset, self._threads.submit(_encode, *block)))
        self._write_until(self._ahead)

    def drain(self) -> None:
        """Write all that waits."""
        self._write_until(0)

    def _write_until(self, left: int) -> None:
        while len(self._waiting) > left:
            dataset, offset, encoded = self._waiting.popleft()
            dataset.id.write_direct_chunk(offset, encoded.result())


class BlockWriter:
    """Writes the rows of one compound dataset, in order.

    What it writes is what HDF5's own shuffle and deflate filters would write, so any HDF5 library reads it; but
    those filters hold up all other threads.

    Parameters
    ----------
    file
        A `h5py.File` open for writing.
    name
        Of the dataset.
    shape
        Of the whole dataset; the first axis is that of events.
    dtype
        Of a row.
    compression
        As in `gzip_level`.
    queue
        Takes the blocks; one for all datasets of a file.
    """

    def __init__(
        self,
        file: Any,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        compression: str,
        queue: BlockQueue,
    ) -> None:
        self._level = gzip_level(compression)
        self._rows_of_block = _rows_of_block(shape, dtype)
        options: dict[str, Any] = {}
        if self._level is not None and shape[0]:
            options = {"compression": "gzip", "compression_opts": self._level, "shuffle": True}
        chunks = (self._rows_of_block, *shape[1:]) if shape[0] else None
        self._dataset = file.create_dataset(name, shape, dtype, chunks=chunks, **options)
        self._queue = queue
        self._dtype, self._shape_of_row = dtype, shape[1:]  # h5py reads them from the file each time
        self._pending: list[Rows] = []
        self._pending_rows = 0
        self._row = 0

    def write(self, rows: Union[Rows, NDArray[Any]]) -> None:
        """Add rows.

        Parameters
        ----------
        rows
            A column for each field, shape (any, ...), or one array with these fields; they must not be changed
            afterwards.
        """
        columns = {name: rows[name] for name in self._dtype.names or ()}
        size, stop = self._rows_of_block, len(next(iter(columns.values())))
        start = 0
        while stop - start >= size - self._pending_rows:
            end = start + size - self._pending_rows
            self._pending.append(_cut(columns, start, end))
            self._submit(size)
            start = end
        if start < stop:  # a view would keep all rows that it was cut from
            self._pending.append({name: column[start:stop].copy() for name, column in columns.items()})
            self._pending_rows += stop - start

    def _submit(self, length: int) -> None:
        shape = (self._rows_of_block, *self._shape_of_row)
        offset = (self._row, *(0 for _ in self._shape_of_row))
        self._queue.put(self._dataset, offset, self._pending, self._dtype, shape, self._level)
        self._pending, self._pending_rows = [], 0
        self._row += length

    def finish(self) -> int:
        """Write what is left; return the number of rows written."""
        if self._pending:
            self._submit(self._pending_rows)
        self._queue.drain()
        return self._row


def _cut(columns: Rows, start: int, stop: int) -> Rows:
    return {name: column[start:stop] for name, column in columns.items()}


def _rows_of_block(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    bytes_of_row = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    return max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // max(bytes_of_row, 1), max(shape[0], 1)))


def _encode(parts: Sequence[Rows], dtype: np.dtype[Any], shape: tuple[int, ...], level: int | None) -> bytes:
    """A block as HDF5's filters leave it: whole, bytes of equal significance together, deflated."""
    return (
        _block(parts, dtype, shape).tobytes()
        if level is None
        else _deflated(_planes(parts, dtype, shape), level)
    )


def _block(parts: Sequence[Rows], dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    block = np.zeros(shape, dtype)  # HDF5 has only whole blocks
    position = 0
    for part in parts:
        length = len(next(iter(part.values())))
        for name, column in part.items():
            block[name][position : position + length] = column
        position += length
    return block


def _planes(parts: Sequence[Rows], dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The bytes of a block by their place within the row, shape (bytes of a row, rows)."""
    planes = np.zeros((dtype.itemsize, int(np.prod(shape))), np.uint8)
    for name, (kind, start, *_) in (dtype.fields or {}).items():
        position = 0
        for part in parts:
            raw = np.ascontiguousarray(part[name]).reshape(-1).view(np.uint8).reshape(-1, kind.itemsize)
            planes[start : start + kind.itemsize, position : position + len(raw)] = raw.T
            position += len(raw)
    return planes


def _deflated(planes: NDArray[np.uint8], level: int) -> bytes:
    fast = fast_deflate(planes.data, 1) if level == 1 else None
    if fast is not None:
        return fast
    # bytes of equal significance repeat, or do not: to look for longer patterns takes longer and finds nothing
    deflate = zlib.compressobj(level, strategy=zlib.Z_RLE if level == 1 else zlib.Z_DEFAULT_STRATEGY)
    return deflate.compress(planes.data) + deflate.flush()
