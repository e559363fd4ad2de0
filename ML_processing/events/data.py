"""Events, or objects, for the training: HDF5 files of the conversion, read block by block and checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ML_processing.events.columns import Columns, agreed_columns
from ML_processing.events.survey import Survey
from ML_processing.events.table import Table
from MLTools.NanoML.contracts.hdf5 import EVENTS, check_events_differ, open_hdf5, read_metadata, reading
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.folds import mixed
from MLTools.NanoML.terminal.progress import progress

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train

__all__ = ["Data", "read"]

_BLOCK_BYTES = 64e6  # of the rows as they are in the files: bounds the memory of a block
_BLOCK_EVENTS = 1 << 17  # so that a block of few columns is shuffled within the processor's caches


@dataclass(frozen=True)
class Data:
    """The labelled events of HDF5 files, or objects of them.

    Each block takes the same share of every file, one after the other, so that blocks resemble each other
    whatever the files are.

    Attributes
    ----------
    files
        The HDF5 files.
    columns
        Which of their columns are read.
    rows
        Number of events in each file, also of those without a class.
    chunks
        How many rows of each file are compressed together.
    blocks
        Number of blocks.
    """

    files: tuple[Path, ...]
    columns: Columns
    rows: tuple[int, ...]
    chunks: tuple[int, ...]
    blocks: int

    @classmethod
    def open(cls, files: Sequence[Path], config: Train, everything: bool = False) -> Data:
        """Look at what the files say of themselves.

        Parameters
        ----------
        files
            HDF5 files of the conversion.
        config
            The section `train`, for the choice of columns.
        everything
            Read all event-level columns, also those that are neither inputs nor needed for the training.

        Raises
        ------
        NanoMLError
            The files disagree on columns, classes or selection, have the same events, or lack a column.
        """
        if not files:
            raise NanoMLError("no HDF5 file was given. `nanoml convert` makes them.")
        metadata = [read_metadata(file) for file in files]
        columns = agreed_columns(files, metadata, config, everything)
        check_events_differ(files, metadata)
        rows, chunks, size = [], [], 0
        for file in files:
            with open_hdf5(file) as h5, reading(file):
                columns.check(file, h5)
                rows.append(len(h5[EVENTS]))
                chunks.append((h5[EVENTS].chunks or (1,))[0])
                size = max(
                    size,
                    sum(
                        h5[name].dtype.itemsize * int(np.prod(h5[name].shape[1:]))
                        for name in columns.datasets_read
                    ),
                )
        events = int(max(min(_BLOCK_BYTES // size, _BLOCK_EVENTS), 1))
        return cls(tuple(files), columns, tuple(rows), tuple(chunks), max(-(-sum(rows) // events), 1))

    def block(self, number: int) -> Table:
        """The labelled events of a block.

        Raises
        ------
        NanoMLError
            A label, a weight or the file itself is damaged.
        """
        edges = self._edges(number)
        # a block of no event is a table, too
        wanted = [edge for edge in edges if edge[2] > edge[1]] or edges[:1]
        return Table.join([self._rows(*edge) for edge in wanted])

    def _edges(self, number: int) -> list[tuple[Path, int, int]]:
        """The rows of each file that are in a block: the first, and the one after the last."""
        return [
            (file, self._edge(rows, chunk, number), self._edge(rows, chunk, number + 1))
            for file, rows, chunk in zip(self.files, self.rows, self.chunks, strict=True)
        ]

    def _edge(self, rows: int, chunk: int, number: int) -> int:
        """Where a block begins; if it has several chunks of the file, at one, so that none is read in two blocks."""
        edge = rows * number // self.blocks
        aligned = round(edge / chunk) * chunk if rows > 2 * chunk * self.blocks else edge
        return rows if number == self.blocks else aligned

    def _rows(self, file: Path, start: int, stop: int) -> Table:
        with open_hdf5(file) as h5, reading(file):
            raw = {name: h5[name][start:stop] for name in self.columns.datasets_read}
        return Table.of_rows(file, raw, self.columns)

    def sample(self, memory: int, folds: int) -> tuple[Table, Survey]:
        """Read all events once: keep those that fit, and count all.

        Parameters
        ----------
        memory
            How much the events that are kept may take [MB].
        folds
            Number of folds, by which the events are counted.

        Returns
        -------
        table
            All events, block after block; or if they are too many those of the smallest hashes of run,
            luminosityBlock and event, the same in every reading.
        survey
            What all events are like.

        Raises
        ------
        NanoMLError
            As for `block`, or there are events that a training cannot use.
        """
        survey, kept = Survey.empty(self.columns, folds), _Sample(memory * 1e6)
        with progress("read the events", sum(self.rows)) as bar:
            for number, table in enumerate(self.tables()):
                survey.add(table)
                kept.add(table)
                bar.advance(sum(stop - start for _, start, stop in self._edges(number)))
        table = kept.table()
        survey.check(self.files)
        return table, survey

    def tables(self) -> Iterator[Table]:
        """All blocks in order."""
        for number in range(self.blocks):
            yield self.block(number)


def read(files: Sequence[Path], config: Train, everything: bool = True) -> Table:
    """Read the labelled events of HDF5 files into one table: all, or as many as `config.memory` allows.

    Events without a class (label -1: real data, for instance) are left out.

    Raises
    ------
    NanoMLError
        As for `Data.open` and `Data.sample`.
    """
    table, _ = Data.open(files, config, everything).sample(config.memory, max(config.folds, 1))
    return table


class _Sample:
    """Events of the smallest hashes, as many as fit into `limit` bytes."""

    def __init__(self, limit: float) -> None:
        self.limit, self.size = limit, 0.0
        self.threshold = np.uint64(2**64 - 1)
        self.parts: list[Table] = []

    def add(self, table: Table) -> None:
        part = table[self._hash(table) <= self.threshold]
        self.parts.append(part)
        self.size += part.nbytes
        while self.size > self.limit:
            self.threshold = self.threshold >> np.uint64(1)
            self.parts = [it[self._hash(it) <= self.threshold] for it in self.parts]
            self.size = sum(it.nbytes for it in self.parts)

    def table(self) -> Table:
        return Table.join(self.parts)

    @staticmethod
    def _hash(table: Table) -> NDArray[np.uint64]:
        # not the low bits, which decide the fold
        run, block, event = table.identifiers
        return mixed(event, run, block)
