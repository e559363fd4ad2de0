"""HDF5 files of the schema: what they hold, and whether their events can be put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from MLTools.NanoML.contracts.hdf5 import (
    EVENTS,
    IDENTIFIERS,
    METADATA,
    HDF5Metadata,
    open_hdf5,
    read_metadata,
)
from MLTools.NanoML.errors import NanoMLError

__all__ = ["Source", "check_alike"]

_ALIKE = "Convert all files with the same configuration."


@dataclass(frozen=True)
class Source:
    """An HDF5 file of the schema.

    Attributes
    ----------
    path
        The file.
    rows
        Number of events.
    tables
        For each dataset, `events` first, the type of what it has for one event: a compound type, or an array of them.
    metadata
        What the file says of itself.
    """

    path: Path
    rows: int
    tables: dict[str, np.dtype[Any]]
    metadata: HDF5Metadata

    @classmethod
    def of(cls, path: Path) -> Source:
        """Look into a file.

        Raises
        ------
        NanoMLError
            It cannot be read, or has something that does not belong to its events row by row.
        """
        metadata = read_metadata(path)
        with open_hdf5(path) as file:
            names = [EVENTS, *(name for name in file if name not in (EVENTS, METADATA))]
            rows = {name: len(file[name]) for name in names if _is_table(file[name])}
            for name in names:
                if name not in rows:
                    raise NanoMLError(f"{path}: `{name}` is no table: it has no rows that belong to events.")
                if rows[name] != rows[EVENTS]:
                    raise NanoMLError(
                        f"{path}: `{name}` has {rows[name]} rows, but `{EVENTS}` has {rows[EVENTS]}: the file is damaged. "
                        "Convert again."
                    )
            tables = {name: np.dtype((file[name].dtype, file[name].shape[1:])) for name in names}
        missing = [name for name in IDENTIFIERS if name not in (tables[EVENTS].names or ())]
        if missing:
            raise NanoMLError(f"{path}: `{EVENTS}` has no field {missing[0]}. Convert again.")
        return cls(path, rows[EVENTS], tables, metadata)


def _is_table(item: Any) -> bool:
    return (
        isinstance(item, h5py.Dataset)
        and item.ndim > 0
        and item.dtype.names is not None
        and not item.dtype.hasobject
    )


def check_alike(first: Source, other: Source) -> None:
    """Refuse files that differ in classes, selection, datasets or fields.

    Raises
    ------
    NanoMLError
        They do; with file and field.
    """
    _check_meaning(first, other)
    _check_types(first, other)


def _check_meaning(first: Source, other: Source) -> None:
    a, b = first.metadata, other.metadata
    if a.classes != b.classes:
        raise NanoMLError(
            f"{other.path}: its classes are {_listed(b.classes)}, but those of {first.path} are {_listed(a.classes)}. "
            f"{_ALIKE}"
        )
    if a.selection != b.selection:
        raise NanoMLError(
            f"{other.path}: its events were selected by {b.selection or 'nothing'}, but those of {first.path} by "
            f"{a.selection or 'nothing'}. {_ALIKE}"
        )
    for name, objects in a.objects.items():
        orders = [each.order or "nothing" for each in (objects, b.objects.get(name, objects))]
        if orders[0] != orders[1]:
            raise NanoMLError(
                f"{other.path}: `{name}` is sorted by {orders[1]}, but by {orders[0]} in {first.path}. {_ALIKE}"
            )


def _check_types(first: Source, other: Source) -> None:
    for one, two in ((first, other), (other, first)):
        for name in one.tables:
            if name not in two.tables:
                raise NanoMLError(f"{two.path}: has no `{name}`, but {one.path} has it. {_ALIKE}")
            for field in one.tables[name].base.names or ():
                if field not in (two.tables[name].base.names or ()):
                    raise NanoMLError(
                        f"{two.path}: `{name}` has no field {field}, but {one.path} has it. {_ALIKE}"
                    )
    for name, type_a in first.tables.items():
        type_b = other.tables[name]
        if type_a.shape != type_b.shape:
            raise NanoMLError(
                f"{other.path}: `{name}` has {_per_event(type_b)} for each event, but {_per_event(type_a)} in {first.path}. "
                f"{_ALIKE}"
            )
        for field in type_a.base.names or ():
            if type_a.base[field] != type_b.base[field]:
                raise NanoMLError(
                    f"{other.path}: {field} of `{name}` is {type_b.base[field]}, but {type_a.base[field]} in {first.path}. "
                    f"{_ALIKE}"
                )
        if type_a.base.names != type_b.base.names:
            raise NanoMLError(
                f"{other.path}: `{name}` has its fields in another order than {first.path}. {_ALIKE}"
            )


def _per_event(table: np.dtype[Any]) -> str:
    return " x ".join(map(str, table.shape)) or "one row"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
