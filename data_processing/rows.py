"""Rows of HDF5 datasets: events, and padded objects, filled column by column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from data_processing.columns import IDENTIFIER_TYPES, VALID, Columns
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.hdf5 import EVENTS
from MLTools.NanoML.rootfile import RootFile

__all__ = ["RowReader"]

_HEADER_LIMIT = 60_000  # bytes; HDF5 cannot describe a compound type that takes more than 64 KiB


@dataclass(frozen=True)
class RowReader:
    """Makes rows of all datasets from a range of a file's events.

    Attributes
    ----------
    columns
        What is stored.
    is_data
        Data have no generator weight.
    label
        Number of the class, or -1.
    weight
        Number of events expected per generator weight, or None if that cannot be known.
    """

    columns: Columns
    is_data: bool
    label: int
    weight: float | None

    @property
    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """Type of a row of each dataset.

        Raises
        ------
        NanoMLError
            There are more columns than HDF5 can describe.
        """
        events: list[tuple[str, str]] = [*IDENTIFIER_TYPES.items(), ("label", "i4")]
        if self.weight is not None:
            events.append(("weight", "f4"))
        if not self.is_data:
            events.append(("genWeight", "f4"))
        events += [
            (name, self.columns.dtype_of(name, feature.branch))
            for name, feature in self.columns.features.items()
        ]
        found = {EVENTS: _checked_dtype(EVENTS, events)}
        for name, members in self.columns.objects.items():
            fields = [
                (field, self.columns.dtype_of(f"{name}_{field}", branch)) for field, branch in members.items()
            ]
            found[name] = _checked_dtype(name, [*fields, (VALID, "?")])
        return found

    @property
    def bytes_per_event(self) -> int:
        """Size of one event's rows in all datasets."""
        dtypes = self.dtypes
        objects = sum(dtypes[name].itemsize * most for name, most in self.columns.max.items())
        return dtypes[EVENTS].itemsize + objects

    def read(
        self, file: RootFile, start: int, stop: int
    ) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[int, int]]]:
        """Rows of a range of events.

        Returns
        -------
        For each dataset its rows, shape (events,) or (events, max); and for each collection how many objects there
        were, and how many were cut off.

        Raises
        ------
        NanoMLError
            The file cannot be read, or a value does not fit into the reduced precision that was asked for.
        """
        dtypes, length = self.dtypes, stop - start
        # all at once: what uproot does for each call takes longer than reading a branch
        arrays = file.read(self.branches, start, stop)
        rows = {EVENTS: np.zeros(length, dtypes[EVENTS])}
        self._fill_events(rows[EVENTS], arrays, file)
        counts = {}
        for name, most in self.columns.max.items():
            rows[name] = np.zeros((length, most), dtypes[name])
            counts[name] = self._fill_objects(rows[name].reshape(-1), name, arrays, file)
        return rows, counts

    @property
    def branches(self) -> list[str]:
        """All branches to be read."""
        names = [*IDENTIFIER_TYPES] if self.is_data else [*IDENTIFIER_TYPES, "genWeight"]
        names += [feature.branch.name for feature in self.columns.features.values()]
        names += [branch.name for members in self.columns.objects.values() for branch in members.values()]
        return list(dict.fromkeys(names))

    def _fill_events(self, rows: NDArray[Any], arrays: dict[str, ak.Array], file: RootFile) -> None:
        for name in (*IDENTIFIER_TYPES, "genWeight"):
            if name in arrays:
                rows[name] = ak.to_numpy(arrays[name])
        for name, feature in self.columns.features.items():
            values = np.asarray(ak.to_numpy(arrays[feature.branch.name]))
            _assign(rows, name, values if feature.component is None else values[:, feature.component], file)
        rows["label"] = self.label
        if self.weight is not None:
            rows["weight"] = self.weight * (1.0 if self.is_data else rows["genWeight"].astype(np.float64))

    def _fill_objects(
        self, rows: NDArray[Any], name: str, arrays: dict[str, ak.Array], file: RootFile
    ) -> tuple[int, int]:
        most, order = self.columns.max[name], self.columns.order[name]
        by = self.columns.order_branch(name)
        counts = _counts(arrays[by])
        key = _flat(arrays[by]) if order else None
        source, target = _places(counts, key, most, bool(order and order.startswith("-")))
        rows[VALID][target] = True
        for field, branch in self.columns.objects[name].items():
            values = _flat(arrays[branch.name])
            if len(values) != counts.sum():
                raise NanoMLError(
                    f"{file.path}: {branch.name} has other numbers of objects than {by}: leave one of them out."
                )
            _assign(rows, field, values[source], file, target)
        return int(counts.sum()), int(counts.sum()) - len(target)


def _flat(array: ak.Array) -> NDArray[Any]:
    """All objects of all events, one after the other."""
    layout = array.layout
    if isinstance(layout, ak.contents.ListOffsetArray) and isinstance(layout.content, ak.contents.NumpyArray):
        offsets = np.asarray(layout.offsets)  # ak.flatten would do the same, in ten times the time
        return np.asarray(layout.content.data)[offsets[0] : offsets[-1]]
    return np.asarray(ak.to_numpy(ak.flatten(array)))


def _counts(array: ak.Array) -> NDArray[np.int64]:
    layout = array.layout
    if isinstance(layout, ak.contents.ListOffsetArray):
        return np.diff(np.asarray(layout.offsets))
    return np.asarray(ak.num(array))


def _places(
    counts: NDArray[np.int64], key: NDArray[Any] | None, most: int, descending: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the objects that are kept come from (in the flat input) and go to (in the flat, padded rows)."""
    event = np.repeat(np.arange(len(counts)), counts)
    source = np.arange(len(event))
    rank = source - np.repeat(np.cumsum(counts) - counts, counts)
    if key is not None and len(key):
        value = -key.astype(np.float64) if descending else key
        # NanoAOD is mostly sorted already
        if not np.all((np.diff(value) >= 0) | (np.diff(event) > 0)):
            source = np.lexsort((value, event))
    kept = rank < most
    return source[kept], event[kept] * most + rank[kept]


def _assign(
    rows: NDArray[Any],
    field: str,
    values: NDArray[Any],
    file: RootFile,
    target: NDArray[np.int64] | None = None,
) -> None:
    wanted = rows.dtype[field]
    if wanted == np.float16 and values.dtype != np.float16:
        with np.errstate(over="ignore"):
            halved = values.astype(np.float16)
        lost = int((np.isinf(halved) & np.isfinite(values)).sum())
        if lost:
            raise NanoMLError(
                f"{file.path}: {field}: {lost} values are beyond 65504, the largest of float16. Take it out of float16."
            )
        values = halved
    if target is None:
        rows[field] = values
    else:
        rows[field][target] = values


def _checked_dtype(name: str, fields: list[tuple[str, str]]) -> np.dtype[Any]:
    if sum(len(field_name) + 50 for field_name, _ in fields) > _HEADER_LIMIT:
        raise NanoMLError(
            f"{name}: {len(fields)} columns are more than one HDF5 dataset can describe. Choose fewer by their names."
        )
    return np.dtype(fields)
