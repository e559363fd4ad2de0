"""Rows of HDF5 datasets: events, and padded objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from data_processing.columns import IDENTIFIER_TYPES, VALID, Columns, Objects
from MLTools.NanoML.books import event_weights
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.hdf5 import EVENTS
from MLTools.NanoML.rootfile import Branch

__all__ = ["event_dtype", "event_rows", "object_dtype", "object_rows"]

_HEADER_LIMIT = 60_000  # bytes; HDF5 cannot describe a compound type that takes more than 64 KiB


def event_dtype(columns: Columns, is_data: bool, weighted: bool) -> np.dtype[Any]:
    """Type of a row of `events`.

    Parameters
    ----------
    columns
        The features.
    is_data
        Data have no generator weight.
    weighted
        Whether the number of events expected can be known.

    Raises
    ------
    NanoMLError
        There are more columns than HDF5 can describe.
    """
    fields: list[tuple[str, str]] = [*IDENTIFIER_TYPES.items(), ("label", "i4")]
    if weighted:
        fields.append(("weight", "f4"))
    if not is_data:
        fields.append(("genWeight", "f4"))
    fields += [(name, str(branch.dtype)) for name, branch in columns.features.items()]
    return _checked_dtype(EVENTS, fields)


def object_dtype(members: Mapping[str, Branch]) -> np.dtype[Any]:
    """Type of an object of a collection; raises as `event_dtype` does."""
    return _checked_dtype(
        next(iter(members.values())).collection or "",
        [*((name, str(b.dtype)) for name, b in members.items()), (VALID, "?")],
    )


def _checked_dtype(name: str, fields: list[tuple[str, str]]) -> np.dtype[Any]:
    if sum(len(field_name) + 50 for field_name, _ in fields) > _HEADER_LIMIT:
        raise NanoMLError(
            f"{name}: {len(fields)} columns are more than one HDF5 dataset can describe. Choose fewer by their names."
        )
    return np.dtype(fields)


def event_rows(
    arrays: dict[str, ak.Array], length: int, dtype: np.dtype[Any], label: int, weight: float | None
) -> NDArray[Any]:
    """Rows of `events`, shape (length,).

    Parameters
    ----------
    arrays
        Identifiers, features and, in simulation, genWeight.
    length
        Number of events.
    dtype
        As `event_dtype` gives it.
    label
        Number of the class, or -1.
    weight
        Number of events expected per generator weight, or None if that cannot be known.
    """
    rows = np.zeros(length, dtype)
    for name in dtype.names or ():
        if name in arrays:
            rows[name] = ak.to_numpy(arrays[name])
    rows["label"] = label
    if weight is not None:
        rows["weight"] = weight * event_weights(arrays, length)
    return rows


def object_rows(
    arrays: dict[str, ak.Array],
    length: int,
    objects: Objects,
    members: Mapping[str, Branch],
    dtype: np.dtype[Any],
) -> tuple[NDArray[Any], int, int]:
    """Padded objects, shape (length, max); how many objects there were, and how many were cut off."""
    rows = np.zeros((length, objects.max), dtype)
    values = {field_name: arrays[branch.name] for field_name, branch in members.items()}
    counts = np.asarray(ak.num(next(iter(values.values()))))
    if objects.order:
        by = ak.argsort(
            values[objects.order.lstrip("-")],
            axis=1,
            ascending=not objects.order.startswith("-"),
            stable=True,
        )
        values = {key: value[by] for key, value in values.items()}
    rows[VALID] = np.arange(objects.max) < counts[:, np.newaxis]
    for key, value in values.items():
        rows[key][rows[VALID]] = ak.to_numpy(ak.flatten(value[:, : objects.max]))
    return rows, int(counts.sum()), int(np.maximum(counts - objects.max, 0).sum())
