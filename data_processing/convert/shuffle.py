"""Shuffling: the events of many HDF5 files in random order in one, without holding them in memory.

Every event gets a random number of 64 bits, and the output has the events in the order of these numbers. They are
the raw output of PCG64 with the seed, for the events in the order of the files, so the result depends on the files
and the seed alone, and is that of

    order = numpy.random.PCG64(seed).random_raw(events).argsort(kind="stable")

Events are dealt by their numbers to buckets that fit into the memory, and these are sorted one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_processing.convert.duplicateevents import Buckets, find_duplicates, identify, scratch
from data_processing.convert.joined import JoinedFiles
from data_processing.convert.writing import BlockWriter, gzip_level, table_writers
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.contracts.hdf5 import EVENTS, IDENTIFIERS, HDF5Metadata, new_hdf5, write_metadata
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.folds import mixed
from MLTools.NanoML.terminal.progress import Bar, progress

__all__ = ["ShuffleJob", "shuffle_files"]

_KEY = ""  # no dataset has this name
_KEY_BYTES = 24  # the number, its place in the order, and a copy
_PIECE = 4_000_000  # bytes of rows that are put in order at once


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
    """Events that were seen: their number, and the sum of their hashes, which does not depend on their order."""

    events: int = 0
    sum: int = 0

    def add(self, rows: NDArray[Any]) -> None:
        self.events += len(rows)
        hashes = mixed(*(rows[name] for name in IDENTIFIERS))
        self.sum = (self.sum + int(hashes.sum(dtype=np.uint64))) % 2**64


def shuffle_files(job: ShuffleJob) -> HDF5Metadata:
    """Write the events of HDF5 files to one file, in random order.

    Returns
    -------
    The metadata that was written (see doc/hdf5.md).

    Raises
    ------
    NanoMLError
        A file cannot be read, or differs from the others, or an event of data is in several; nothing is written then.
    """
    gzip_level(job.compression)
    if job.output.resolve() in [source.resolve() for source in job.sources]:
        raise NanoMLError(f"{job.output}: is one of the files to be shuffled. Choose another output.")
    files = JoinedFiles.of(job.sources)
    metadata = replace(files.metadata, seed=job.seed)
    with (
        replacing(job.output) as aside,
        scratch(job.output) as directory,
        progress(f"shuffle {job.output.name}", files.rows) as bar,
    ):
        _check_once(files, directory, job.memory)
        buckets = Buckets(directory, {_KEY: np.dtype("u8"), **files.tables})
        bytes_per_event = sum(kind.itemsize for kind in files.tables.values()) + _KEY_BYTES
        # half of the memory, for rows are copied when they are put in order
        most = max(1, int(job.memory * 1_000_000 / 2 / bytes_per_event))
        counts, dealt = _deal(files, buckets, job.seed, most, bar)
        with (
            new_hdf5(aside) as file,
            table_writers(file, files.tables, files.rows, job.compression) as writers,
        ):
            written = _gather(buckets, counts, writers, bar)
            rows = {writer.finish() for writer in writers.values()}
            if written != dealt or rows != {files.rows}:
                raise NanoMLError(
                    f"{job.output}: {written.events} events were written of {files.rows}, or other ones than were read. "
                    "Nothing is kept: run it again."
                )
            write_metadata(file, metadata)
    return metadata


def _check_once(files: JoinedFiles, directory: Path, memory: float) -> None:
    """Refuse an event of data that is in several files: the accounting does not tell which ROOT file it is from."""
    if not all(one.is_data and one.class_ is None for one in files.metadata.datasets):
        return
    paths = [part.path for part in files.parts]
    parts = (
        (identify(str(path), rows) for rows in files.identifiers(number)) for number, path in enumerate(paths)
    )
    found = find_duplicates(parts, directory, memory)
    for number, path in enumerate(paths):
        for original, many in found.copies(number).items():
            if original != number:
                raise NanoMLError(
                    f"{path}: {many:,} of its events are in {paths[original]}, too, and would count twice. "
                    "Convert both datasets with one configuration that says `data: true` of each, which keeps one copy of each event, "
                    "or convert their ROOT files to one HDF5 file."
                )


def _deal(
    files: JoinedFiles, buckets: Buckets, seed: int, most: int, bar: Bar
) -> tuple[NDArray[np.int64], _Tally]:
    """Deal all events to buckets of about `most` events; return how many are in each, and what was seen."""
    number = max(1, math.ceil(files.rows / most))
    bounds = np.array([bucket * 2**64 // number for bucket in range(1, number)], np.uint64)
    counts, seen = np.zeros(number, np.int64), _Tally()
    source = np.random.PCG64(seed)
    for block in files.blocks(most):
        keys = source.random_raw(len(block))
        order = keys.argsort(kind="stable")
        keys = keys[order]
        cuts = [0, *keys.searchsorted(bounds).tolist(), len(block)]
        for name in files.tables:
            rows = block.read(name)
            if name == EVENTS:
                seen.add(rows)
            _append(buckets, name, rows.take(order, axis=0), cuts)
        _append(buckets, _KEY, keys, cuts)
        counts += np.diff(cuts)
        bar.advance(len(block) / 2)
    return counts, seen


def _append(buckets: Buckets, table: str, rows: NDArray[Any], cuts: Sequence[int]) -> None:
    for bucket, (start, stop) in enumerate(zip(cuts, cuts[1:])):
        if stop > start:
            buckets.append(table, bucket, rows[start:stop])


def _gather(
    buckets: Buckets, counts: NDArray[np.int64], writers: Mapping[str, BlockWriter], bar: Bar
) -> _Tally:
    """Write the buckets one after the other, each in the order of its keys; return what was written."""
    seen = _Tally()
    for bucket, count in enumerate(counts.tolist()):
        order = buckets.take(_KEY, bucket, count).argsort(kind="stable")
        for name, writer in writers.items():
            rows = buckets.take(name, bucket, count)
            if name == EVENTS:
                seen.add(rows)
            step = max(1, _PIECE * count // max(rows.nbytes, 1))
            for start in range(0, count, step):
                writer.write(rows.take(order[start : start + step], axis=0))
        bar.advance(count / 2)
    return seen
