"""Rows of HDF5 datasets: made column by column from arrays of ROOT branches, and written block by block.

Blocks are compressed by several threads while the next ones are read.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Union

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from data_processing.convert.columns import IDENTIFIER_TYPES, VALID, CollectionColumns, DatasetParameter, FileColumns
from data_processing.convert.expressions import BoundExpression, EventWeights
from MLTools.NanoML.contracts.hdf5 import CORRECTION, EVENTS, HDF5Metadata
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.model.padding import Jagged, Places
from MLTools.NanoML.nanoaod.fileaccounting import NOMINAL
from MLTools.NanoML.parallel import usable_cores
from MLTools.NanoML.rootio.compression import fast_deflate
from MLTools.NanoML.rootio.lists import Arrays

Rows = Mapping[str, NDArray[Any]]
"""A column for each field."""

Part = Union[Rows, NDArray[Any]]
"""Some rows of a block, in columns or in one array."""

_BLOCK_BYTES = 1 << 20  # large enough to compress well, small enough for a reader that takes blocks at random
_BLOCK_ROWS = 4096
_HEADER_LIMIT = 65_000  # bytes; HDF5 cannot describe a compound type that takes more than 64 KiB
_HEADER_BYTES = {"b": 70, "f": 52, "i": 44, "u": 44}  # of a column, beside its name


@dataclass(frozen=True)
class RowReader:
    """Makes rows of all datasets from arrays of a range of events."""

    columns: FileColumns
    is_data: bool  # without generator weight: it is 1 in data that have a class
    label: int  # number of the class, or -1
    weights: EventWeights
    parameters: Sequence[DatasetParameter] = ()  # columns after the features
    is_corrected: bool = False  # whether there is a column of their product also if there are none
    regions: Mapping[str, BoundExpression] = field(default_factory=dict)  # the cut behind each column of flags

    @property
    def tables(self) -> dict[str, np.dtype[Any]]:
        """For each dataset, the type of its entry for one event: a compound type, or an array of `max` of them."""
        stored = self.columns.dtype_of
        events: list[tuple[str, str]] = [*IDENTIFIER_TYPES.items(), ("label", "i4")]
        if self.weights.scale is not None:
            events.append(("weight", "f4"))
        if not self.is_data or self.label >= 0:
            events.append(("genWeight", "f4"))
        if self.weights.given or self.is_corrected:
            events.append((CORRECTION, "f4"))
        if self.weights.scale is not None:
            events += [(column, "f4") for column in self.weights.columns]
        events += [(column, "?") for column in self.regions]
        events += [(name, stored(name, feature.branch)) for name, feature in self.columns.features.items()]
        events += [(parameter.name, "f4") for parameter in self.parameters]
        found = {EVENTS: _compound(EVENTS, events)}
        for name, collection in self.columns.collections.items():
            fields = [(key, stored(f"{name}_{key}", branch)) for key, branch in collection.fields.items()]
            found[name] = np.dtype((_compound(name, [*fields, (VALID, "?")]), (collection.max,)))
        return found

    @property
    def around(self) -> list[str]:
        """The columns of events beside the core of a file: weights that a cross section scales, and flags of regions."""
        return ["weight", *self.weights.columns, *self.regions]

    @property
    def branches(self) -> list[str]:
        """All branches to be read."""
        names = [*IDENTIFIER_TYPES, *self.weights.branches]
        names += [column for cut in self.regions.values() for column in cut.branches]
        names += [feature.branch.name for feature in self.columns.features.values()]
        for collection in self.columns.collections.values():
            names += [branch.name for branch in collection.fields.values()]
        return list(dict.fromkeys(names))

    def rows(self, arrays: Arrays, length: int, path: str) -> tuple[dict[str, Rows], dict[str, tuple[int, int]]]:
        """Rows of `length` events, given all `branches` of them; `path` is named in messages.

        Returns
        -------
        For each dataset its columns, shape (events,) or (events, max); and for each collection how many objects there
        were, and how many were cut off.
        """
        tables = self.tables
        rows: dict[str, Rows] = {EVENTS: self._events(tables[EVENTS], arrays, length, path)}
        counts = {}
        for name, collection in self.columns.collections.items():
            rows[name], counts[name] = _objects(tables[name].base, collection, arrays, path)
        return rows, counts

    def _events(self, dtype: np.dtype[Any], arrays: Arrays, length: int, path: str) -> Rows:
        columns: dict[str, NDArray[np.generic]] = {}
        for name in IDENTIFIER_TYPES:
            columns[name] = np.asarray(ak.to_numpy(arrays[name])).astype(dtype[name], copy=False)
        generated = self.weights.generated(arrays, length)
        if "genWeight" in (dtype.names or ()):
            columns["genWeight"] = generated
        for name, feature in self.columns.features.items():
            values = np.asarray(ak.to_numpy(arrays[feature.branch.name]))
            values = values if feature.component is None else values[:, feature.component]
            columns[name] = _stored(values, dtype[name], name, path)
        for parameter in self.parameters:
            columns[parameter.name] = np.full(length, parameter.value, np.float32)
        for column, cut in self.regions.items():
            columns[column] = cut.passes(arrays, length)
        columns["label"] = np.full(length, self.label, dtype["label"])
        corrections = self.weights.corrections(arrays, length)
        correction = corrections.pop(NOMINAL)
        if CORRECTION in (dtype.names or ()):
            columns[CORRECTION] = correction.astype(np.float32)
        if self.weights.scale is not None:
            per_event = self.weights.scale * generated.astype(np.float64)
            columns["weight"] = (per_event * correction).astype(np.float32)
            columns.update((name, (per_event * each).astype(np.float32)) for name, each in corrections.items())
        return columns


class CoreHash:
    """The hash of the core of a file: of all columns but those around it, however many rows are added at once.

    That of a column is CRC-32, five times as fast as a cryptographic hash, which takes a tenth of the conversion.
    """

    def __init__(self, around: Collection[str]) -> None:
        self._around, self._columns = around, dict[tuple[str, str], int]()

    def add(self, rows: Mapping[str, Rows]) -> None:
        """Add rows of all datasets."""
        for table, columns in rows.items():
            for name, values in columns.items():
                if table != EVENTS or name not in self._around:
                    before = self._columns.get((table, name), 0)
                    self._columns[table, name] = zlib.crc32(np.ascontiguousarray(values).view(np.uint8).data, before)

    def of(self, metadata: HDF5Metadata) -> str:
        """The hash of all rows that were added, and of the metadata of the core."""
        return core_hash(metadata, [[*key, column] for key, column in self._columns.items()])


def core_hash(metadata: HDF5Metadata, content: object) -> str:
    """The hash of the metadata of a core, and of its content."""
    text = json.dumps([metadata.of_core.to_json(), content], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _objects(
    dtype: np.dtype[Any], collection: CollectionColumns, arrays: Arrays, path: str
) -> tuple[Rows, tuple[int, int]]:
    order, by = collection.order, collection.order_branch
    first = Jagged.of(arrays[by])
    key = first.values if order else None
    places = Places.of(first.counts, collection.max, key, bool(order and order.startswith("-")))
    total, kept = int(first.counts.sum()), len(places.target)
    columns = {VALID: places.spread(np.ones(kept, bool))}
    for name, branch in collection.fields.items():
        found = Jagged.of(arrays[branch.name])
        if not np.array_equal(found.counts, first.counts):
            raise NanoMLError(f"{path}: {branch.name} has other numbers of objects than {by}: leave one of them out.")
        columns[name] = places.spread(_stored(places.picked(found.values), dtype[name], name, path))
    return columns, (total, total - kept)


def _stored(values: NDArray[np.generic], dtype: np.dtype[np.generic], field: str, path: str) -> NDArray[np.generic]:
    """Values in the type in which they are stored."""
    if dtype == np.float16 and values.dtype != np.float16:
        with np.errstate(over="ignore"):
            halved = values.astype(np.float16)
        lost = int((np.isinf(halved) & np.isfinite(values)).sum())
        if lost:
            raise NanoMLError(
                f"{path}: {field}: {lost} values are beyond 65504, the largest of float16. Take it out of float16."
            )
        return halved
    return values.astype(dtype, copy=False)


def _compound(name: str, fields: list[tuple[str, str]]) -> np.dtype[np.generic]:
    dtype = np.dtype(fields)
    # a name ends with a zero byte and takes multiples of eight bytes
    sizes = (len(field) // 8 * 8 + 8 + _HEADER_BYTES[dtype[field].kind] for field, _ in fields)
    if sum(sizes) > _HEADER_LIMIT:
        raise NanoMLError(
            f"{name}: {len(fields)} columns are more than one HDF5 dataset can describe. Choose fewer by their names."
        )
    return dtype


def gzip_level(compression: str) -> int | None:
    """Level of "gzip:LEVEL"; None for "none"; an error for anything else."""
    codec, _, level = compression.partition(":")
    if codec == "none" and not level:
        return None
    if codec == "gzip" and level in list("123456789"):
        return int(level)
    raise ConfigError(f'compression "{compression}": write gzip and a level from 1 to 9, as in gzip:4, or none.')


@contextmanager
def table_writers(
    file: Any, tables: Mapping[str, np.dtype[np.generic]], events: int, compression: str
) -> Iterator[dict[str, BlockWriter]]:
    """Writers of all datasets of a `h5py.File`; `tables` gives the type of each dataset's entry for one event."""
    with ThreadPoolExecutor(usable_cores()) as threads:
        queue = BlockQueue(threads)
        yield {
            name: BlockWriter(file, name, (events, *kind.shape), kind.base, compression, queue)
            for name, kind in tables.items()
        }


class BlockQueue:
    """Blocks of all datasets of a file that are being compressed by threads, and are to be written in turn.

    At most `ahead` blocks wait to be written: they take memory.
    """

    def __init__(self, threads: Executor, ahead: int = 16) -> None:
        self._threads, self._ahead = threads, ahead
        self._waiting: deque[tuple[Any, tuple[int, ...], Future[bytes]]] = deque()

    def put(self, dataset: Any, offset: tuple[int, ...], *block: Any) -> None:
        """Add the block at an offset of a dataset, in the form of the arguments of `_encode`."""
        self._waiting.append((dataset, offset, self._threads.submit(_encode, *block)))
        self.write(self._ahead)

    def write(self, left: int = 0) -> None:
        """Write blocks that wait until no more are left than so many."""
        while len(self._waiting) > left:
            dataset, offset, encoded = self._waiting.popleft()
            dataset.id.write_direct_chunk(offset, encoded.result())


class BlockWriter:
    """Writes the rows of one compound dataset of a `h5py.File`, in order; `shape` is that of the whole dataset.

    It writes what HDF5's own shuffle and deflate filters would write, so any HDF5 library reads it; but those filters
    hold up all other threads. The queue takes the blocks of all datasets of a file.
    """

    def __init__(
        self, file: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], compression: str, queue: BlockQueue
    ) -> None:
        self._level = gzip_level(compression)
        bytes_of_row = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        self._rows_of_block = max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // max(bytes_of_row, 1), max(shape[0], 1)))
        options: dict[str, object] = {"fletcher32": True}  # gzip has a checksum of its own
        if self._level is not None:
            options = {"compression": "gzip", "compression_opts": self._level, "shuffle": True}
        chunks = (self._rows_of_block, *shape[1:]) if shape[0] else None
        self._dataset = file.create_dataset(name, shape, dtype, chunks=chunks, **(options if shape[0] else {}))
        self._queue = queue
        self._dtype, self._shape_of_row = dtype, shape[1:]  # h5py reads them from the file each time
        self._pending: list[Part] = []
        self._pending_rows = 0
        self._row = 0

    def write(self, rows: Part) -> None:
        """Add rows: a column for each field, shape (any, ...), or one array of the dataset's type.

        They must not be changed afterwards.
        """
        size, start, stop = self._rows_of_block, 0, _length(rows)
        while stop - start >= size - self._pending_rows:
            end = start + size - self._pending_rows
            self._pending.append(_cut(rows, start, end))
            self._submit(size)
            start = end
        if start < stop:  # a view would keep all rows that it was cut from
            rest = _cut(rows, start, stop)
            copied = rest.copy() if isinstance(rest, np.ndarray) else {name: each.copy() for name, each in rest.items()}
            self._pending.append(copied)
            self._pending_rows += stop - start

    def _submit(self, length: int) -> None:
        shape = (self._rows_of_block, *self._shape_of_row)
        offset = (self._row, *(0 for _ in self._shape_of_row))
        self._queue.put(self._dataset, offset, self._pending, self._dtype, shape, self._level)
        self._pending, self._pending_rows = [], 0
        self._row += length

    def finish(self) -> int:
        """Write the rest; return the number of rows written."""
        if self._pending:
            self._submit(self._pending_rows)
        self._queue.write()
        return self._row


def _length(part: Part) -> int:
    return len(part if isinstance(part, np.ndarray) else next(iter(part.values())))


def _cut(part: Part, start: int, stop: int) -> Part:
    if isinstance(part, np.ndarray):
        return part[start:stop]
    return {name: column[start:stop] for name, column in part.items()}


def _encode(parts: Sequence[Part], dtype: np.dtype[np.generic], shape: tuple[int, ...], level: int | None) -> bytes:
    """A block as HDF5's filters leave it: whole, bytes of equal significance together, deflated; or with its checksum."""
    if level is None:
        content = _block(parts, dtype, shape).tobytes()
        return content + _fletcher32(content)
    planes = _planes(parts, dtype, shape)
    fast = fast_deflate(planes.data, 1) if level == 1 else None
    if fast is not None:
        return fast
    # bytes of equal significance repeat, or do not: a search for longer patterns takes longer and finds nothing
    deflate = zlib.compressobj(level, strategy=zlib.Z_RLE if level == 1 else zlib.Z_DEFAULT_STRATEGY)
    return deflate.compress(planes.data) + deflate.flush()


def _fletcher32(content: bytes) -> bytes:
    """HDF5's checksum of a block."""
    words = np.frombuffer(content + bytes(len(content) % 2), ">u2").astype(np.uint64)
    sums = int(words.sum()), int(words @ np.arange(len(words), 0, -1, dtype=np.uint64))
    low, high = (it and (it - 1) % 65535 + 1 for it in sums)
    return (high << 16 | low).to_bytes(4, "little")


def _block(parts: Sequence[Part], dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> NDArray[np.generic]:
    if len(parts) == 1 and isinstance(parts[0], np.ndarray) and parts[0].shape == shape:
        return np.ascontiguousarray(parts[0])
    block = np.zeros(shape, dtype)  # HDF5 has only whole blocks
    position = 0
    for part in parts:
        stop = position + _length(part)
        if isinstance(part, np.ndarray):
            block[position:stop] = part
        else:
            for name, column in part.items():
                block[name][position:stop] = column
        position = stop
    return block


def _planes(parts: Sequence[Part], dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The bytes of a block by their place within the row, shape (bytes of a row, rows)."""
    planes = np.zeros((dtype.itemsize, int(np.prod(shape))), np.uint8)
    for name, (kind, start, *_) in (dtype.fields or {}).items():
        position = 0
        for part in parts:
            raw = np.ascontiguousarray(part[name]).reshape(-1).view(np.uint8).reshape(-1, kind.itemsize)
            planes[start : start + kind.itemsize, position : position + len(raw)] = raw.T
            position += len(raw)
    return planes
