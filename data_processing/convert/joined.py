"""HDF5 files of the schema, read as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_processing.convert.alike import Source, check_alike
from MLTools.NanoML import __version__
from MLTools.NanoML.contracts.hdf5 import (
    EVENTS,
    IDENTIFIERS,
    HDF5Metadata,
    check_events_differ,
    open_hdf5,
    reading,
)
from MLTools.NanoML.errors import NanoMLError

__all__ = ["JoinedFiles"]

_BLOCK = 500_000  # events whose numbers are read at once


@dataclass(frozen=True)
class JoinedFiles:
    """HDF5 files that have the same fields and classes, as one.

    Attributes
    ----------
    sources
        The files, in order.
    metadata
        What a file with all their events says of itself.
    """

    sources: Sequence[Source]
    metadata: HDF5Metadata

    @classmethod
    def of(cls, paths: Sequence[Path]) -> JoinedFiles:
        """Look into all files.

        Raises
        ------
        NanoMLError
            There is none, one cannot be read, or one does not fit to the first; with file and field.
        """
        if not paths:
            raise NanoMLError("no HDF5 file was given. `nanoml convert` makes them.")
        first, *others = sources = [Source.of(path) for path in paths]
        for other in others:
            check_alike(first, other)
        contents = [source.metadata for source in sources]
        check_events_differ(paths, contents)
        return cls(sources, _joined_metadata(contents))

    @property
    def rows(self) -> int:
        """Number of events."""
        return sum(source.rows for source in self.sources)

    @property
    def tables(self) -> dict[str, np.dtype[Any]]:
        """For each dataset, the type of what it has for one event."""
        return self.sources[0].tables

    def identifiers(self, source: Source) -> Iterator[NDArray[Any]]:
        """Run, luminosity section and event number of a file's events, block by block."""
        with open_hdf5(source.path) as file, reading(source.path):
            events = file[EVENTS].fields(IDENTIFIERS)
            for start in range(0, source.rows, _BLOCK):
                yield events[start : start + _BLOCK]

    def blocks(self, most: int) -> Iterator[_Block]:
        """All events in order, at most so many at once."""
        for source in self.sources:
            with open_hdf5(source.path) as file:
                for start in range(0, source.rows, most):
                    yield _Block(source.path, file, start, min(start + most, source.rows), self.tables)


@dataclass(frozen=True)
class _Block:
    """A range of a file's events."""

    path: Path
    file: Any
    start: int
    stop: int
    tables: Mapping[str, np.dtype[Any]]

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self, table: str) -> NDArray[Any]:
        """Rows of a dataset, shape (events, ...).

        Raises
        ------
        NanoMLError
            The file is damaged.
        """
        with reading(self.path):
            rows: NDArray[Any] = self.file[table][self.start : self.stop]
        # where fields lie within a row may differ: HDF5 allows gaps
        return rows.astype(self.tables[table].base, copy=False)


def _joined_metadata(contents: Sequence[HDF5Metadata]) -> HDF5Metadata:
    first = contents[0]
    objects = {
        name: replace(
            collection,
            objects=sum(content.objects[name].objects for content in contents),
            lost=sum(content.objects[name].lost for content in contents),
        )
        for name, collection in first.objects.items()
    }
    datasets = tuple(dataset for content in contents for dataset in content.datasets)
    return replace(first, creator=f"NanoML {__version__}", objects=objects, datasets=datasets)
