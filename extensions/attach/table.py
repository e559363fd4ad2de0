"""A table of an HDF5 file: its identifiers and the columns that can become branches."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from data_processing.convert.duplicateevents import identify
from MLTools.NanoML.contracts.hdf5 import EVENTS, open_hdf5, reading
from MLTools.NanoML.errors import NanoMLError, listed
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.versions import IDENTIFIERS

PAGE = "hdf5.md"
_BLOCK = 200_000  # rows read at once


@dataclass(frozen=True)
class AttachedColumn:
    """One branch to be made."""

    branch: str
    source: str  # name of the field of the events, or of the dataset beside them
    is_field: bool
    item: int | None  # number of the column in a source that has several numbers per event
    dtype: str


@dataclass(frozen=True)
class _Candidate:
    """A field of the events, or a dataset beside them, that may become columns."""

    name: str
    is_field: bool
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    classes: Sequence[str] | None = None

    @property
    def is_column(self) -> bool:
        return self.dtype.names is None and len(self.shape) > 0  # no collection, and no text about the file


class EventTable:
    """The events of an HDF5 file, and the datasets beside them. Use it as a context manager.

    It is an error if the file has no such dataset, or this does not tell which event is which.
    """

    def __init__(self, path: Path, dataset: str = EVENTS) -> None:
        self.path, self.name = path, dataset
        self._file = open_hdf5(path)
        try:
            self._events = self._find()
            self.events = int(self._events.shape[0])
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> EventTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _find(self) -> Any:
        with reading(self.path):
            found = self._file.get(self.name)
            if not isinstance(found, h5py.Dataset):
                known: list[str] = []
                self._file.visititems(lambda name, item: known.append(name) if _is_table(item) else None)
                have = f"It has: {listed(known, 20)}" if known else "It has no table of events"
                raise NanoMLError(
                    f"{self.path}: has no dataset `{self.name}`.{versions.did_you_mean(self.name, known)} {have}. "
                    "Name the one with run, luminosityBlock and event by --dataset."
                )
        fields = found.dtype.names or ()
        lacks = [name for name in IDENTIFIERS if name not in fields]
        if lacks or found.ndim != 1:
            raise NanoMLError(
                f"{self.path}: `{self.name}` does not tell which event is which: it needs one row for each event, with fields "
                f"{', '.join(IDENTIFIERS)}{f' (it has no {lacks[0]})' if lacks else ''}. Keep those of `nanoml convert`."
            )
        for name in IDENTIFIERS:
            if found.dtype[name].kind not in "iu":
                raise NanoMLError(
                    f"{self.path}: {name} of `{self.name}` is {found.dtype[name]}, not a whole number: events cannot be told "
                    "apart. Keep its type as `nanoml convert` writes it."
                )
        return found

    def _candidates(self) -> list[_Candidate]:
        found = []
        for name in self._events.dtype.names:
            dtype = self._events.dtype[name]
            base, inner = dtype.subdtype or (dtype, ())
            if name not in IDENTIFIERS:
                found.append(_Candidate(name, True, base, (self.events, *inner)))
        with reading(self.path):
            for name in self._events.parent:
                item = self._events.parent.get(name)
                if isinstance(item, h5py.Dataset) and item != self._events:
                    found.append(_Candidate(name, False, item.dtype, item.shape or (), _classes(item)))
        return found

    def columns(self, patterns: Iterable[str], prefix: str = "") -> list[AttachedColumn]:
        """The columns that names and globs stand for; a glob does not find identifiers, collections and metadata.

        It is an error if there is none, one is not of numbers or not as long as the events, or cannot be a branch's name.
        """
        known = self._candidates()
        sources: dict[tuple[str, bool], _Candidate] = {}
        for pattern in patterns:
            if pattern in IDENTIFIERS:
                raise NanoMLError(f"{pattern}: is always written: leave it out of the columns.")
            matches = [source for source in known if source.name == pattern] or [
                source for source in known if source.is_column and fnmatch.fnmatchcase(source.name, pattern)
            ]
            if not matches:
                names = [source.name for source in known if source.is_column]
                raise NanoMLError(
                    f'{self.path}: has no column "{pattern}", neither as a field of `{self.name}` nor as a dataset '
                    f"beside it.{versions.did_you_mean(pattern, names)} It has: {listed(names, 20) or 'none'}."
                )
            sources.update({(source.name, source.is_field): source for source in matches})
        found: dict[str, AttachedColumn] = {}
        for column in (column for source in sources.values() for column in self._split(source, prefix)):
            if column.branch in found or column.branch in IDENTIFIERS:
                raise NanoMLError(f"{self.path}: two columns would be branch {column.branch}: rename one of them.")
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", column.branch):
                raise NanoMLError(
                    f'{self.path}: column {column.source} would be branch "{column.branch}", which ROOT cannot handle: '
                    "use letters, digits and _ only."
                )
            found[column.branch] = column
        return list(found.values())

    def _split(self, source: _Candidate, prefix: str) -> list[AttachedColumn]:
        where = f"{self.path}: column {source.name}"
        dtype = _root_type(source.dtype)
        if dtype is None:
            raise NanoMLError(f"{where} is of type {source.dtype}, which cannot be a branch of numbers: leave it out.")
        if len(source.shape) not in (1, 2):
            raise NanoMLError(
                f"{where} has shape {source.shape}: a number, or a row of numbers, is needed for each event."
            )
        if source.shape[0] != self.events:
            raise NanoMLError(
                f"{where} has {source.shape[0]} entries, but `{self.name}` has {self.events} events: which belongs to which?"
            )
        if len(source.shape) == 1:
            return [AttachedColumn(prefix + source.name, source.name, source.is_field, None, dtype)]
        parts = source.classes if source.classes is not None else [str(i) for i in range(source.shape[1])]
        if len(parts) != source.shape[1]:
            raise NanoMLError(
                f"{where} has {source.shape[1]} numbers for each event, but its attribute `classes` has {len(parts)} names."
            )
        return [
            AttachedColumn(f"{prefix}{source.name}_{part}", source.name, source.is_field, item, dtype)
            for item, part in enumerate(parts)
        ]

    def identifiers(self, start: int, stop: int) -> NDArray[Any]:
        """Identifiers of a range of rows, in the form of `identify`."""
        with reading(self.path):
            rows = self._events.fields(list(IDENTIFIERS))[start:stop]
        return identify(str(self.path), rows)

    def take(
        self, columns: Sequence[AttachedColumn], rows: NDArray[np.int64], fill: float | None = None
    ) -> dict[str, NDArray[Any]]:
        """Columns of any rows in any order, shape (N,), read block by block; by the names of their branches.

        `rows` are numbers of rows, shape (N,). Where they are negative, the value is `fill`, or, without one, NaN, and 0 in
        columns of whole numbers.
        """
        values = {column.branch: _filled(len(rows), column.dtype, fill) for column in columns}
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        for start in range(0, self.events, _BLOCK):
            first, last = np.searchsorted(ordered, [start, start + _BLOCK])
            if first == last:
                continue
            begin = int(ordered[first])
            block = self._read(columns, begin, int(ordered[last - 1]) + 1)
            for name, column in values.items():
                column[order[first:last]] = block[name][ordered[first:last] - begin]
        return values

    def _read(self, columns: Sequence[AttachedColumn], start: int, stop: int) -> dict[str, NDArray[Any]]:
        fields = list(dict.fromkeys(column.source for column in columns if column.is_field))
        others = dict.fromkeys(column.source for column in columns if not column.is_field)
        with reading(self.path):
            rows: Any = self._events.fields(fields)[start:stop] if fields else None
            beside = {name: self._events.parent[name][start:stop] for name in others}
        found = {}
        for column in columns:
            values = rows[column.source] if column.is_field else beside[column.source]
            found[column.branch] = values if column.item is None else values[:, column.item]
        return found


def _filled(length: int, dtype: str, value: float | None) -> NDArray[Any]:
    if value is None:
        value = np.nan if np.dtype(dtype).kind == "f" else 0
    return np.full(length, value, dtype)


def _is_table(item: object) -> bool:
    return isinstance(item, h5py.Dataset) and set(IDENTIFIERS) <= set(item.dtype.names or ())


def _classes(item: Any) -> list[str] | None:
    names = item.attrs.get("classes")
    if names is None:
        return None
    return [name.decode() if isinstance(name, bytes) else str(name) for name in np.atleast_1d(names)]


def _root_type(dtype: np.dtype[Any]) -> str | None:
    """Type of the branch for a type of HDF5; None if there is none."""
    if dtype.names is not None or dtype.kind not in "biuf" or dtype.itemsize > 8:
        return None
    return "float32" if dtype == np.float16 else np.dtype(f"{dtype.kind}{dtype.itemsize}").name
