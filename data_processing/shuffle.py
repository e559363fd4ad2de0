"""Shuffling: the events of many HDF5 files in random order in one, without holding them in memory.

Every event gets a random number of 64 bits, and the output has the events in the order of these numbers. They are
the raw output of PCG64 with the seed, for the events in the order of the files, so the result depends on the files
and the seed alone, and is that of

    order = numpy.random.PCG64(seed).random_raw(events).argsort(kind="stable")

Events are dealt by their numbers to buckets that fit into the memory, and these are sorted one after the other. While
a thread sorts, others read what follows and write what is in order, which takes them as long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.lib.recfunctions import repack_fields
from numpy.typing import NDArray

from data_processing.convert.duplicateevents import Buckets, find_duplicates, identify, scratch
from data_processing.convert.writing import BlockWriter, core_hash, gzip_level, table_writers
from MLTools.NanoML import __version__
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.contracts.hdf5 import (
    EVENTS,
    METADATA,
    SHIFTS,
    HDF5Metadata,
    Shuffled,
    Truncated,
    check_events_differ,
    new_hdf5,
    open_hdf5,
    read_metadata,
    reading,
    write_metadata,
)
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import usable_cores
from MLTools.NanoML.rootio.compression import inflate
from MLTools.NanoML.rootio.versions import IDENTIFIERS
from MLTools.NanoML.schema.roles import HOW, READS, WRITES
from MLTools.NanoML.terminal.progress import Bar, progress

PAGE = "hdf5.md"
_BLOCK = 500_000  # events whose numbers are read at once
_COPIES = 5  # of a block of events, each of which a thread reads, sorts or writes
_ORDER_BYTES = 24  # the number of an event, its place in the order, and what sorting needs

_KEY = "/"  # the field of random numbers in a record; no dataset has this name
_Found = TypeVar("_Found")
_Block = tuple[NDArray[Any], NDArray[Any]]  # records, and the bucket of each; or those of the same bucket together


@dataclass(frozen=True)
class ShuffleJob:
    """One HDF5 file to be made from others."""

    sources: Sequence[Path] = field(metadata=READS)  # HDF5 files of the schema, with the same fields and classes
    output: Path = field(metadata=WRITES)  # path of the HDF5 file
    seed: int = 1  # seed of the random order; not negative
    memory: float = field(default=100, metadata=HOW)  # memory for rows [MB]; the result does not depend on it
    compression: str = "gzip:1"  # "gzip:LEVEL" or "none"


@dataclass
class _Tally:
    """Events that were seen with their random numbers: how many, and a sum over them, which does not depend on their order."""

    events: int = 0
    sum: int = 0

    def add(self, events: NDArray[Any], keys: NDArray[np.uint64]) -> None:
        self.events += len(events)
        products = keys * (events.astype(np.uint64) + np.uint64(1))
        self.sum = (self.sum + int(products.sum())) % 2**64


def shuffle_files(job: ShuffleJob) -> HDF5Metadata:
    """Write the events of HDF5 files to one file, in random order; return the metadata that was written (doc/hdf5.md).

    It is an error if a file differs from the others, or an event of data is in several; nothing is written then.
    """
    gzip_level(job.compression)
    if job.output.resolve() in [source.resolve() for source in job.sources]:
        raise NanoMLError(f"{job.output}: is one of the files to be shuffled. Choose another output.")
    if not job.sources:
        raise NanoMLError("no HDF5 file was given. `nanoml convert` makes them.")
    parts = [Part.of(source) for source in job.sources]
    for other in parts[1:]:
        difference = next(differences(parts[0], other), None)
        if difference is not None:
            raise NanoMLError(f"{difference}. Convert all files with the same configuration.")
    metadata = joined_metadata(parts, job.seed)
    tables, events = parts[0].tables, sum(part.rows for part in parts)
    with (
        replacing(job.output) as aside,
        scratch(job.output) as directory,
        progress(f"shuffle {job.output.name}", events, is_share=any(it.is_data for it in metadata.datasets)) as bar,
    ):
        if all(one.is_data and one.class_ is None for one in metadata.datasets):
            check_once(parts, directory, job.memory)
        records = Records(tables)
        buckets = Buckets(directory)
        most = int(job.memory * 1_000_000 / (_COPIES * records.dtype.itemsize + _ORDER_BYTES))
        most = max(1, min(most, events))
        counts, dealt = _deal(parts, buckets, records, job.seed, most, bar)
        with new_hdf5(aside) as file, table_writers(file, tables, events, job.compression) as writers:
            written = _gather(buckets, counts, records, writers, bar)
            rows = {writer.finish() for writer in writers.values()}
            if written != dealt or rows != {events}:
                raise NanoMLError(
                    f"{job.output}: {written.events} events were written of {events}, or other ones than were read. "
                    "Nothing is kept: run it again."
                )
            write_metadata(file, metadata)
    return metadata


def _ahead(jobs: Iterable[Callable[[], _Found]]) -> Iterator[_Found]:
    """The result of each job, in turn; while it is used, a thread is at work on the next."""
    with ThreadPoolExecutor(1) as thread:
        left = iter(jobs)
        job = next(left, None)
        under_way = thread.submit(job) if job else None
        while under_way:
            found = under_way.result()
            # only now, as the jobs may be the results of others, which take the room of those before the last
            job = next(left, None)
            under_way = thread.submit(job) if job else None
            yield found


def _deal(
    parts: Sequence[Part], buckets: Buckets, records: Records, seed: int, most: int, bar: Bar
) -> tuple[NDArray[np.int64], _Tally]:
    """Deal all events to buckets of at most about `most` events; return how many are in each, and what was seen."""
    number = max(1, math.ceil(sum(part.rows for part in parts) / most))
    small = np.min_scalar_type(number - 1)  # numpy sorts numbers of 16 bits in a tenth of the time
    counts, seen = np.zeros(number, np.int64), _Tally()
    source = np.random.PCG64(seed)
    blocks, outs = (cycle([np.empty(most, records.dtype) for _ in range(2)]) for _ in range(2))

    def read(readers: Sequence[Reader], path: Path, start: int, stop: int) -> _Block:
        found = next(blocks)[: stop - start]
        found[_KEY] = keys = source.random_raw(stop - start)
        with reading(path):
            for reader in readers:
                reader.read(start, stop, found)
        seen.add(records.numbers(found), keys)
        return found, ((keys >> np.uint64(32)) * np.uint64(number) >> np.uint64(32)).astype(small)

    def together(block: _Block) -> _Block:
        found, bucket = block
        return records.take(found, bucket.argsort(kind="stable"), next(outs)), bucket

    for part in parts:
        with open_hdf5(part.path) as file, ThreadPoolExecutor(usable_cores()) as threads:
            readers = [Reader(file[name], name, records, threads) for name in records.tables]
            ranges = [(start, min(start + most, part.rows)) for start in range(0, part.rows, most)]
            read_blocks = _ahead(partial(read, readers, part.path, *each) for each in ranges)
            for found, bucket in _ahead(partial(together, each) for each in read_blocks):
                many = np.bincount(bucket, minlength=number)
                buckets.deal(found, many)
                counts += many
                bar.advance(len(found) / 2)
    return counts, seen


def _gather(
    buckets: Buckets, counts: NDArray[np.int64], records: Records, writers: Mapping[str, BlockWriter], bar: Bar
) -> _Tally:
    """Write the buckets one after the other, each in the order of its keys; return what was written."""
    seen = _Tally()
    most = counts.max(initial=0)
    blocks, out = cycle([np.empty(most, records.dtype) for _ in range(2)]), np.empty(most, records.dtype)

    def read(bucket: int, count: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
        found = buckets.read(bucket, next(blocks)[:count])
        keys = np.ascontiguousarray(found[_KEY])
        seen.add(records.numbers(found), keys)
        return found, _order(keys)

    def ordered(found: NDArray[Any], order: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        found = records.take(found, order, out)
        return {name: records.rows(name, found) for name in writers}

    read_buckets = _ahead(partial(read, *each) for each in enumerate(counts.tolist()))
    for bucket, rows in enumerate(_ahead(partial(ordered, *each) for each in read_buckets)):
        for name, writer in writers.items():
            writer.write(rows[name])
        buckets.remove(bucket)
        bar.advance(len(rows[EVENTS]) / 2)
    return seen


def _order(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The order of the keys; of equal ones, which there hardly ever are, the first comes first."""
    order = keys.argsort()  # a fifth of the time of a stable sort
    ordered = keys[order]
    return keys.argsort(kind="stable") if (ordered[1:] == ordered[:-1]).any() else order


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
            names = [EVENTS, *(name for name in file if name not in (EVENTS, METADATA, SHIFTS))]
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
    objects = {}
    for name, collection in first.objects.items():
        cut = [content.objects[name].truncated for content in contents]
        truncated = Truncated(sum(it.objects for it in cut), sum(it.lost for it in cut))
        objects[name] = replace(collection, truncated=truncated)
    datasets = tuple(dataset for content in contents for dataset in content.datasets)
    found = replace(
        first, creator=f"NanoML {__version__}", objects=objects, datasets=datasets, shuffled=Shuffled(seed), shifts=()
    )
    cores = [content.core for content in contents]
    return replace(found, core=core_hash(found, cores) if all(cores) else "")


def differences(first: Part, other: Part) -> Iterator[str]:
    """Reasons why two files cannot be shuffled together: what their columns mean, then which they have and of what type."""
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
            for column in table.base.names or ():
                if column not in (that.tables[name].base.names or ()):
                    yield f"{that.path}: `{name}` has no field {column}, but {this.path} has it"
    for name, table in first.tables.items():
        wanted, found = table.base, other.tables[name].base
        if table.shape != other.tables[name].shape:
            one, two = (" x ".join(map(str, each.tables[name].shape)) or "one row" for each in (first, other))
            yield f"{other.path}: `{name}` has {two} for each event, but {one} in {first.path}"
        for column in wanted.names or ():
            if wanted[column] != found[column]:
                yield f"{other.path}: {column} of `{name}` is {found[column]}, but {wanted[column]} in {first.path}"
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
        self.dtype = np.dtype([(_KEY, "u8"), *((name, f"V{kind.itemsize}") for name, kind in tables.items())])

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

    def __init__(self, dataset: h5py.Dataset, name: str, records: Records, threads: Executor) -> None:
        self._dataset, self._name, self._records, self._threads = dataset, name, records, threads
        self._table = records.tables[name]
        created = dataset.id.get_create_plist()
        filters = [created.get_filter(number)[0] for number in range(created.get_nfilters())]
        self._is_known = (
            filters == [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE]
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
            entries = found[here].reshape(last - first, math.prod(inner), self._table.base.itemsize)
            jobs.append(self._threads.submit(_unpack, content, size * each, entries, first))
        for job in jobs:
            job.result()


def _unpack(content: bytes, full: int, entries: NDArray[np.uint8], first: int) -> None:
    """Inflate a block, and put the bytes of each entry together again, shape (events, entries, bytes), from event `first` on."""
    events, many, width = entries.shape
    planes = np.frombuffer(inflate(content, full), np.uint8).reshape(width, -1, many)
    entries[...] = planes[:, first : first + events].transpose(1, 2, 0)
