"""HDF5 files of the schema, read as one, after a check that their events belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML import __version__
from MLTools.NanoML.contracts.hdf5 import (
    EVENTS,
    IDENTIFIERS,
    METADATA,
    HDF5Metadata,
    check_events_differ,
    open_hdf5,
    read_metadata,
    reading,
)
from MLTools.NanoML.errors import NanoMLError

__all__ = ["JoinedFiles"]

_BLOCK = 500_000  # events whose numbers are read at once
_ADVICE = "Convert all files with the same configuration."


@dataclass(frozen=True)
class _Part:
    """One of the files: its number of events, the type of each dataset's entry for one event, and its metadata."""

    path: Path
    rows: int
    tables: dict[str, np.dtype[Any]]
    metadata: HDF5Metadata

    @classmethod
    def of(cls, path: Path) -> _Part:
        metadata = read_metadata(path)
        with open_hdf5(path) as file:
            names = [EVENTS, *(name for name in file if name not in (EVENTS, METADATA))]
            for name in names:
                if not _is_table(file[name]):
                    raise NanoMLError(
                        f"{path}: `{name}` is not a table: it has no rows that belong to events."
                    )
                if len(file[name]) != len(file[EVENTS]):
                    raise NanoMLError(
                        f"{path}: `{name}` has {len(file[name])} rows, but `{EVENTS}` has {len(file[EVENTS])}: the file is damaged. "
                        "Convert again."
                    )
            tables = {name: np.dtype((file[name].dtype, file[name].shape[1:])) for name in names}
            rows = len(file[EVENTS])
        missing = [name for name in IDENTIFIERS if name not in (tables[EVENTS].names or ())]
        if missing:
            raise NanoMLError(f"{path}: `{EVENTS}` has no field {missing[0]}. Convert again.")
        return cls(path, rows, tables, metadata)


def _is_table(item: Any) -> bool:
    return (
        isinstance(item, h5py.Dataset)
        and item.ndim > 0
        and item.dtype.names is not None
        and not item.dtype.hasobject
    )


@dataclass(frozen=True)
class JoinedFiles:
    """HDF5 files that have the same fields and classes, as one."""

    parts: Sequence[_Part]
    metadata: HDF5Metadata  # of a file with all their events

    @classmethod
    def of(cls, paths: Sequence[Path]) -> JoinedFiles:
        """Look into all files; an error if one differs from the first in classes, selection, datasets or fields."""
        if not paths:
            raise NanoMLError("no HDF5 file was given. `nanoml convert` makes them.")
        first, *others = parts = [_Part.of(path) for path in paths]
        for other in others:
            _check_meaning(first, other)
            _check_types(first, other)
        contents = [part.metadata for part in parts]
        check_events_differ(paths, contents)
        return cls(parts, _joined_metadata(contents))

    @property
    def rows(self) -> int:
        """Number of events."""
        return sum(part.rows for part in self.parts)

    @property
    def tables(self) -> dict[str, np.dtype[Any]]:
        """For each dataset, the type of its entry for one event: a compound type, or an array of them."""
        return self.parts[0].tables

    def identifiers(self, number: int) -> Iterator[NDArray[Any]]:
        """Run, luminosity section and event number of the events of a part, block by block."""
        part = self.parts[number]
        with open_hdf5(part.path) as file, reading(part.path):
            events = file[EVENTS].fields(IDENTIFIERS)
            for start in range(0, part.rows, _BLOCK):
                yield events[start : start + _BLOCK]

    def blocks(self, most: int) -> Iterator[_Block]:
        """All events in order, at most `most` at once."""
        for part in self.parts:
            with open_hdf5(part.path) as file:
                for start in range(0, part.rows, most):
                    yield _Block(part.path, file, start, min(start + most, part.rows), self.tables)


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
        """Rows of a dataset, shape (events, ...)."""
        with reading(self.path):
            rows: NDArray[Any] = self.file[table][self.start : self.stop]
        # the fields may lie elsewhere within a row: HDF5 allows gaps
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


def _check_meaning(first: _Part, other: _Part) -> None:
    a, b = first.metadata, other.metadata
    if a.classes != b.classes:
        classes, others = (", ".join(each.classes) or "none" for each in (a, b))
        raise NanoMLError(
            f"{other.path}: its classes are {others}, but those of {first.path} are {classes}. {_ADVICE}"
        )
    if a.selection != b.selection:
        raise NanoMLError(
            f"{other.path}: its events were selected by {b.selection or 'nothing'}, but those of {first.path} by "
            f"{a.selection or 'nothing'}. {_ADVICE}"
        )
    for name, objects in a.objects.items():
        orders = [each.order or "nothing" for each in (objects, b.objects.get(name, objects))]
        if orders[0] != orders[1]:
            raise NanoMLError(
                f"{other.path}: `{name}` is sorted by {orders[1]}, but by {orders[0]} in {first.path}. {_ADVICE}"
            )


def _check_types(first: _Part, other: _Part) -> None:
    for one, two in ((first, other), (other, first)):
        for name, table in one.tables.items():
            if name not in two.tables:
                raise NanoMLError(f"{two.path}: has no `{name}`, but {one.path} has it. {_ADVICE}")
            for field in table.base.names or ():
                if field not in (two.tables[name].base.names or ()):
                    raise NanoMLError(
                        f"{two.path}: `{name}` has no field {field}, but {one.path} has it. {_ADVICE}"
                    )
    for name, table in first.tables.items():
        wanted, found = table.base, other.tables[name].base
        if table.shape != other.tables[name].shape:
            size, other_size = (
                " x ".join(map(str, each.tables[name].shape)) or "one row" for each in (first, other)
            )
            raise NanoMLError(
                f"{other.path}: `{name}` has {other_size} for each event, but {size} in {first.path}. {_ADVICE}"
            )
        for field in wanted.names or ():
            if wanted[field] != found[field]:
                raise NanoMLError(
                    f"{other.path}: {field} of `{name}` is {found[field]}, but {wanted[field]} in {first.path}. {_ADVICE}"
                )
        if wanted.names != found.names:
            raise NanoMLError(
                f"{other.path}: `{name}` has its fields in another order than {first.path}. {_ADVICE}"
            )
