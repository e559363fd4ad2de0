"""Rows of HDF5 datasets: events, and padded objects, filled column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from data_processing.convert.blocks import Rows
from data_processing.convert.columns import IDENTIFIER_TYPES, VALID, Columns, Parameter
from MLTools.NanoML.contracts.hdf5 import EVENTS
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model.padding import Jagged, Places

__all__ = ["RowReader"]

_HEADER_LIMIT = 65_000  # bytes; HDF5 cannot describe a compound type that takes more than 64 KiB
_HEADER_BYTES = {"b": 70, "f": 52, "i": 44, "u": 44}  # of a column, beside its name


@dataclass(frozen=True)
class RowReader:
    """Makes rows of all datasets from arrays of a range of events.

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
    parameters
        Columns after the features.
    is_weighted
        Whether simulation has `genWeight`; if not, it is 1 for each event.
    """

    columns: Columns
    is_data: bool
    label: int
    weight: float | None
    parameters: Sequence[Parameter] = ()
    is_weighted: bool = True

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
        events += [(parameter.name, "f4") for parameter in self.parameters]
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

    def rows(
        self, arrays: Mapping[str, ak.Array], length: int, path: str
    ) -> tuple[dict[str, Rows], dict[str, tuple[int, int]]]:
        """Rows of a range of events.

        Parameters
        ----------
        arrays
            All `branches` of these events, by their names.
        length
            Number of events.
        path
            The file that they are from, for messages.

        Returns
        -------
        For each dataset its columns, shape (events,) or (events, max); and for each collection how many objects there
        were, and how many were cut off.

        Raises
        ------
        NanoMLError
            A value does not fit into the reduced precision that was asked for, or branches of one collection have
            different lengths.
        """
        dtypes = self.dtypes
        rows: dict[str, Rows] = {EVENTS: self._events(dtypes[EVENTS], arrays, length, path)}
        counts = {}
        for name in self.columns.max:
            rows[name], counts[name] = self._objects(dtypes[name], name, arrays, path)
        return rows, counts

    @property
    def branches(self) -> list[str]:
        """All branches to be read."""
        names = [*IDENTIFIER_TYPES]
        if self.is_weighted and not self.is_data:
            names.append("genWeight")
        names += [feature.branch.name for feature in self.columns.features.values()]
        names += [branch.name for members in self.columns.objects.values() for branch in members.values()]
        return list(dict.fromkeys(names))

    def _events(self, dtype: np.dtype[Any], arrays: Mapping[str, ak.Array], length: int, path: str) -> Rows:
        columns: dict[str, NDArray[Any]] = {}
        for name in (*IDENTIFIER_TYPES, "genWeight"):
            if name in arrays:
                columns[name] = np.asarray(ak.to_numpy(arrays[name])).astype(dtype[name], copy=False)
        if not (self.is_weighted or self.is_data):
            columns["genWeight"] = np.ones(length, dtype["genWeight"])
        for name, feature in self.columns.features.items():
            values = np.asarray(ak.to_numpy(arrays[feature.branch.name]))
            values = values if feature.component is None else values[:, feature.component]
            columns[name] = _stored(values, dtype[name], name, path)
        for parameter in self.parameters:
            columns[parameter.name] = np.full(length, parameter.value, np.float32)
        columns["label"] = np.full(length, self.label, dtype["label"])
        if self.weight is not None:
            per_event = 1.0 if self.is_data else columns["genWeight"].astype(np.float64)
            columns["weight"] = np.full(length, self.weight * per_event, dtype["weight"])
        return columns

    def _objects(
        self, dtype: np.dtype[Any], name: str, arrays: Mapping[str, ak.Array], path: str
    ) -> tuple[Rows, tuple[int, int]]:
        most, order = self.columns.max[name], self.columns.order[name]
        by = self.columns.order_branch(name)
        first = Jagged.of(arrays[by])
        key = first.values if order else None
        places = Places.of(first.counts, most, key, bool(order and order.startswith("-")))
        total, kept = int(first.counts.sum()), len(places.target)
        columns = {VALID: places.spread(np.ones(kept, bool))}
        for field, branch in self.columns.objects[name].items():
            found = Jagged.of(arrays[branch.name])
            if not np.array_equal(found.counts, first.counts):
                raise NanoMLError(
                    f"{path}: {branch.name} has other numbers of objects than {by}: leave one of them out."
                )
            columns[field] = places.spread(_stored(places.picked(found.values), dtype[field], field, path))
        return columns, (total, total - kept)


def _stored(values: NDArray[Any], dtype: np.dtype[Any], field: str, path: str) -> NDArray[Any]:
    """Values in the type that they are stored in."""
    if dtype == np.float16 and values.dtype != np.float16:
        with np.errstate(over="ignore"):
            halved = values.astype(np.float16)
        lost = int((np.isinf(halved) & np.isfinite(values)).sum())
        if lost:
            raise NanoMLError(
                f"{path}: {field}: {lost} values are beyond 65504, the largest of float16. Take it out of float16."
            )
        return halved
    return values.astype(dtype, copy=False)


def _checked_dtype(name: str, fields: list[tuple[str, str]]) -> np.dtype[Any]:
    dtype = np.dtype(fields)
    # a name ends with a zero byte and takes multiples of eight bytes
    sizes = (len(field) // 8 * 8 + 8 + _HEADER_BYTES[dtype[field].kind] for field, _ in fields)
    if sum(sizes) > _HEADER_LIMIT:
        raise NanoMLError(
            f"{name}: {len(fields)} columns are more than one HDF5 dataset can describe. Choose fewer by their names."
        )
    return dtype
