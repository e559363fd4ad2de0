"""Writes HDF5 datasets block by block: blocks are compressed by several threads while the next ones are read."""

from __future__ import annotations

import zlib
from collections import deque
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import ConfigError

__all__ = ["BlockWriter", "gzip_level"]

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
    threads
        Where blocks are compressed.
    ahead
        How many blocks may wait for being written.
    """

    def __init__(
        self,
        file: Any,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        compression: str,
        threads: Executor,
        ahead: int = 8,
    ) -> None:
        self._level = gzip_level(compression)
        self._rows_of_block = _rows_of_block(shape, dtype)
        options: dict[str, Any] = {}
        if self._level is not None and shape[0]:
            options = {"compression": "gzip", "compression_opts": self._level, "shuffle": True}
        chunks = (self._rows_of_block, *shape[1:]) if shape[0] else None
        self.dataset = file.create_dataset(name, shape, dtype, chunks=chunks, **options)
        self._threads, self._ahead = threads, ahead
        self._waiting: deque[tuple[int, Future[bytes]]] = deque()
        self._pending: list[NDArray[Any]] = []
        self._pending_rows = 0
        self._row = 0

    def write(self, rows: NDArray[Any]) -> None:
        """Add rows, shape (any, ...); they must not be changed afterwards."""
        size = self._rows_of_block
        if self._pending_rows:
            missing = size - self._pending_rows
            self._pend(rows[:missing])
            rows = rows[missing:]
            if self._pending_rows == size:
                self._submit(np.concatenate(self._pending))
                self._pending, self._pending_rows = [], 0
        whole = len(rows) // size * size
        for start in range(0, whole, size):
            self._submit(rows[start : start + size])
        self._pend(rows[whole:])

    def _pend(self, rows: NDArray[Any]) -> None:
        if len(rows):
            self._pending.append(rows.copy())  # a view would keep all rows that it was cut from
            self._pending_rows += len(rows)

    def _submit(self, block: NDArray[Any]) -> None:
        self._waiting.append(
            (self._row, self._threads.submit(_encode, block, self._rows_of_block, self._level))
        )
        self._row += len(block)
        while len(self._waiting) > self._ahead:
            self._write_first()

    def _write_first(self) -> None:
        row, encoded = self._waiting.popleft()
        offset = (row, *(0 for _ in self.dataset.shape[1:]))
        self.dataset.id.write_direct_chunk(offset, encoded.result())

    def finish(self) -> int:
        """Write what is left; return the number of rows written."""
        if self._pending:
            self._submit(np.concatenate(self._pending))
            self._pending, self._pending_rows = [], 0
        while self._waiting:
            self._write_first()
        return self._row


def _rows_of_block(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    bytes_of_row = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    return max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // max(bytes_of_row, 1), max(shape[0], 1)))


def _encode(block: NDArray[Any], rows: int, level: int | None) -> bytes:
    """A block as HDF5's filters leave it: whole, bytes of equal significance together, deflated."""
    if len(block) < rows:  # HDF5 has only whole blocks
        block = np.concatenate([block, np.zeros((rows - len(block), *block.shape[1:]), block.dtype)])
    raw = np.ascontiguousarray(block)
    if level is None:
        return raw.tobytes()
    shuffled = raw.reshape(-1).view(np.uint8).reshape(-1, raw.dtype.itemsize).T.tobytes()
    return zlib.compress(shuffled, level)
