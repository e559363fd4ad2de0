"""Files that are to be shuffled: whether they fit together, and their events as records, which are read block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.lib.recfunctions import repack_fields
from numpy.typing import NDArray

from data_processing.convert.duplicateevents import find_duplicates, identify
from MLTools.NanoML import __version__
from MLTools.NanoML.contracts.hdf5 import (
    EVENTS,
    METADATA,
    HDF5Metadata,
    Shuffled,
    Truncated,
    check_events_differ,
    open_hdf5,
    read_metadata,
    reading,
)
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.compression import inflate
from MLTools.NanoML.rootio.versions import IDENTIFIERS

_BLOCK = 500_000  # events whose numbers are read at once
KEY = "/"  # the field of random numbers in a record; no dataset has this name


@dataclass(frozen=True)
class Part:
    """One of the files: its number of events, the type of each dataset's entry for one event, and its metadata."""

    path: Path
    rows: int
    tables: dict[str, np.dtype[Any]]
    metadata: HDF5Metadata

    @classmethod
    def of(cls, path: Path) -> Part:
        """A file, of which only the description is read; an error if its datasets are no tables of the same events."""
        metadata = read_metadata(path)
        with open_hdf5(path) as file:
            names = [EVENTS, *(name for name in file if name not in (EVENTS, METADATA))]
            for name in names:
                item = file[name]
                is_table = isinstance(item, h5py.Dataset) and item.ndim > 0 and item.dtype.names is not None
                if not is_table or item.dtype.hasobject:
                    raise NanoMLError(f"{path}: `{name}` is not a table: it has no rows that belong to events.")
                if len(file[name]) != len(file[EVENTS]):
                    raise NanoMLError(
                        f"{path}: `{name}` has {len(file[name])} rows, but `{EVENTS}` has {len(file[EVENTS])}: the file is damaged. "
                        "Convert again."
                    )
            # without gaps in the rows, which HDF5 allows
            tables = {name: np.dtype((repack_fields(file[name].dtype), file[name].shape[1:])) for name in names}
            rows = len(file[EVENTS])
        missing = [name for name in IDENTIFIERS if name not in (tables[EVENTS].names or ())]
        if missing:
            raise NanoMLError(f"{path}: `{EVENTS}` has no field {missing[0]}. Convert again.")
        return cls(path, rows, tables, metadata)


def joined_metadata(parts: Sequence[Part], seed: int) -> HDF5Metadata:
    """The metadata of a file with all events; an error if two files have the same dataset."""
    contents = [part.metadata for part in parts]
    check_events_differ([part.path for part in parts], contents)
    first = contents[0]
    objects = {
        name: replace(
            collection,
            truncated=Truncated(
                sum(content.objects[name].truncated.objects for content in contents),
                sum(content.objects[name].truncated.lost for content in contents),
            ),
        )
        for name, collection in first.objects.items()
    }
    datasets = tuple(dataset for content in contents for dataset in content.datasets)
    return replace(first, creator=f"NanoML {__version__}", objects=objects, datasets=datasets, shuffled=Shuffled(seed))


def differences(first: Part, other: Part) -> Iterator[str]:
    """What keeps two files from being shuffled together: what their columns mean, then which they have and of what type."""
    a, b = first.metadata, other.metadata
    if a.classes != b.classes:
        classes, others = (", ".join(each.classes) or "none" for each in (a, b))
        yield f"{other.path}: its classes are {others}, but those of {first.path} are {classes}"
    if a.selection != b.selection:
        one, two = (each.selection or "nothing" for each in (a, b))
        yield f"{other.path}: its events were selected by {two}, but those of {first.path} by {one}"
    if a.regions != b.regions:
        regions, others = (", ".join(f"{it.name} ({it.cut})" for it in each.regions) or "none" for each in (a, b))
        yield f"{other.path}: its regions are {others}, but those of {first.path} are {regions}"
    for name, objects in a.objects.items():
        one, two = (each.order or "nothing" for each in (objects, b.objects.get(name, objects)))
        if one != two:
            yield f"{other.path}: `{name}` is sorted by {two}, but by {one} in {first.path}"
    for this, that in ((first, other), (other, first)):
        for name, table in this.tables.items():
            if name not in that.tables:
                yield f"{that.path}: has no `{name}`, but {this.path} has it"
                return
            for field in table.base.names or ():
                if field not in (that.tables[name].base.names or ()):
                    yield f"{that.path}: `{name}` has no field {field}, but {this.path} has it"
    for name, table in first.tables.items():
        wanted, found = table.base, other.tables[name].base
        if table.shape != other.tables[name].shape:
            one, two = (" x ".join(map(str, each.tables[name].shape)) or "one row" for each in (first, other))
            yield f"{other.path}: `{name}` has {two} for each event, but {one} in {first.path}"
        for field in wanted.names or ():
            if wanted[field] != found[field]:
                yield f"{other.path}: {field} of `{name}` is {found[field]}, but {wanted[field]} in {first.path}"
        if wanted.names != found.names:
            yield f"{other.path}: `{name}` has its fields in another order than {first.path}"


def check_once(parts: Sequence[Part], directory: Path, memory: float) -> None:
    """Refuse an event of data that is in several files: the accounting does not tell which ROOT file it is from."""

    def identifiers(part: Part) -> Iterator[NDArray[Any]]:
        with open_hdf5(part.path) as file, reading(part.path):
            events = file[EVENTS].fields(IDENTIFIERS)
            for start in range(0, part.rows, _BLOCK):
                yield identify(str(part.path), events[start : start + _BLOCK])

    found = find_duplicates(map(identifiers, parts), directory, memory)
    for number, part in enumerate(parts):
        for original, many in found.copies(number).items():
            if original != number:
                raise NanoMLError(
                    f"{part.path}: {many:,} of its events are in {parts[original].path}, too, and would count twice. "
                    "Convert both datasets with one configuration that says `data: true` of each, which keeps one copy of each event, "
                    "or convert their ROOT files to one HDF5 file."
                )


class Records:
    """All that belongs to one event in one piece: its random number, and its entry in each table, in raw bytes."""

    def __init__(self, tables: Mapping[str, np.dtype[Any]]) -> None:
        self.tables = tables
        self.dtype = np.dtype([(KEY, "u8"), *((name, f"V{kind.itemsize}") for name, kind in tables.items())])

    def bytes_of(self, name: str, records: NDArray[Any]) -> NDArray[np.uint8]:
        """The bytes of a table's entries, shape (events, bytes); a view."""
        start = dict(self.dtype.fields or {})[name][1]
        found = records.view(np.uint8).reshape(len(records), self.dtype.itemsize)
        return found[:, start : start + self.tables[name].itemsize]

    def take(self, records: NDArray[Any], order: NDArray[np.int64], out: NDArray[Any]) -> NDArray[Any]:
        """Records in an order, as the first of `out`."""
        # numpy copies what it does not know to have fields in half of the time, and needs a mode to copy it only once
        raw = f"V{self.dtype.itemsize}"
        return records.view(raw).take(order, out=out[: len(order)].view(raw), mode="clip").view(self.dtype)

    def rows(self, name: str, records: NDArray[Any]) -> NDArray[Any]:
        """A table's entries, shape (events, ...); a copy."""
        kind = self.tables[name]
        return records[name].copy().view(kind.base).reshape(len(records), *kind.shape)

    def numbers(self, records: NDArray[Any]) -> NDArray[Any]:
        """The number of each event; a view."""
        return np.asarray(records[EVENTS].view(self.tables[EVENTS])["event"])


class Reader:
    """Reads the rows of a dataset. Blocks as the conversion writes them are inflated by threads: HDF5 would hold these up."""

    def __init__(self, dataset: Any, name: str, records: Records, threads: Executor) -> None:
        self._dataset, self._name, self._records, self._threads = dataset, name, records, threads
        self._table = records.tables[name]
        created = dataset.id.get_create_plist()
        filters = [created.get_filter(number)[0] for number in range(created.get_nfilters())]
        self._is_packed = bool(filters)
        self._is_known = (
            filters in ([], [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE])
            and (dataset.chunks is not None and dataset.chunks[1:] == dataset.shape[1:])
            and dataset.dtype == self._table.base
        )

    def read(self, start: int, stop: int, records: NDArray[Any]) -> None:
        """Enter a range of rows into as many records."""
        if self._is_known:
            with suppress(Exception):  # if h5py fails, too, its reason is the one to report
                self._read(start, stop, records)
                return
        # the fields may lie elsewhere within a row
        rows = np.ascontiguousarray(self._dataset[start:stop].astype(self._table.base, copy=False))
        self._records.bytes_of(self._name, records)[...] = rows.view(np.uint8).reshape(len(rows), self._table.itemsize)

    def _read(self, start: int, stop: int, records: NDArray[Any]) -> None:
        size, *inner = self._dataset.chunks
        each = self._table.itemsize
        found = self._records.bytes_of(self._name, records)
        jobs = []
        for begin in range(start // size * size, stop, size):
            skipped, content = self._dataset.id.read_direct_chunk((begin, *(0 for _ in inner)))
            if skipped:
                raise ValueError("a block was not filtered")
            first, last = max(start - begin, 0), min(stop - begin, size)
            here = slice(begin + first - start, begin + last - start)
            if self._is_packed:
                entries = found[here].reshape(last - first, math.prod(inner), self._table.base.itemsize)
                jobs.append(self._threads.submit(_unpack, content, size * each, entries, first))
            else:
                records[self._name][here] = np.frombuffer(content, f"V{each}")[first:last]
        for job in jobs:
            job.result()


def _unpack(content: bytes, full: int, entries: NDArray[np.uint8], first: int) -> None:
    """Inflate a block, and put the bytes of each entry together again, shape (events, entries, bytes), from event `first` on."""
    events, many, width = entries.shape
    planes = np.frombuffer(inflate(content, full), np.uint8).reshape(width, -1, many)
    entries[...] = planes[:, first : first + events].transpose(1, 2, 0)
