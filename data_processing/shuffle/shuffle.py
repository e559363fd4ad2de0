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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from data_processing.convert.duplicateevents import Buckets, scratch
from data_processing.convert.writing import BlockWriter, gzip_level, table_writers
from data_processing.shuffle.parts import KEY, Part, Reader, Records, check_once, differences, joined_metadata
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.contracts.hdf5 import EVENTS, HDF5Metadata, new_hdf5, open_hdf5, reading, write_metadata
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import usable_cores
from MLTools.NanoML.terminal.progress import Bar, progress

_COPIES = 5  # of a block of events, each of which a thread reads, sorts or writes
_ORDER_BYTES = 24  # the number of an event, its place in the order, and what sorting needs

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class ShuffleJob:
    """One HDF5 file to be made from others."""

    sources: Sequence[Path]  # HDF5 files of the schema, with the same fields and classes
    output: Path  # path of the HDF5 file
    seed: int = 1  # seed of the random order; not negative
    memory: float = 100  # memory for rows [MB]; the result does not depend on it
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


@dataclass(frozen=True)
class _Block:
    """Records, and the bucket of each; or those of the same bucket together."""

    records: NDArray[Any]
    bucket: NDArray[Any]


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
        found[KEY] = keys = source.random_raw(stop - start)
        with reading(path):
            for reader in readers:
                reader.read(start, stop, found)
        seen.add(records.numbers(found), keys)
        return _Block(found, ((keys >> np.uint64(32)) * np.uint64(number) >> np.uint64(32)).astype(small))

    def together(block: _Block) -> _Block:
        return _Block(records.take(block.records, block.bucket.argsort(kind="stable"), next(outs)), block.bucket)

    for part in parts:
        with open_hdf5(part.path) as file, ThreadPoolExecutor(usable_cores()) as threads:
            readers = [Reader(file[name], name, records, threads) for name in records.tables]
            ranges = [(start, min(start + most, part.rows)) for start in range(0, part.rows, most)]
            read_blocks = _ahead(partial(read, readers, part.path, *each) for each in ranges)
            for block in _ahead(partial(together, each) for each in read_blocks):
                many = np.bincount(block.bucket, minlength=number)
                buckets.deal(block.records, many)
                counts += many
                bar.advance(len(block.records) / 2)
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
        keys = np.ascontiguousarray(found[KEY])
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
