"""Checksums of the columns of a tree: whether what was written is what was read."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

__all__ = ["Checksums"]


class Checksums:
    """Checksums of columns, made of chunks of rows one after the other.

    They do not depend on where a chunk ends, but on all else: values, their types and order, lengths of lists.

    Attributes
    ----------
    rows
        Number of rows.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._sums: dict[tuple[str, int, str], int] = {}

    def add(self, arrays: Mapping[str, Any], length: int) -> None:
        """Take a chunk of rows.

        Parameters
        ----------
        arrays
            All columns.
        length
            Number of rows.
        """
        self.rows += length
        for name, array in arrays.items():
            for number, part in enumerate(_parts(array)):
                key = (name, number, part.dtype.str)
                self._sums[key] = zlib.crc32(part.data, self._sums.get(key, 0))

    def differing(self, other: Checksums) -> list[str]:
        """Names of the columns that differ, sorted."""
        keys = {*self._sums, *other._sums}
        return sorted({key[0] for key in keys if self._sums.get(key) != other._sums.get(key)})


def _parts(array: Any) -> Iterator[NDArray[Any]]:
    """The numbers of a column; those of lists, and how many are in each."""
    if array.ndim > 1:
        yield np.ascontiguousarray(ak.num(array), np.int64)
        array = ak.flatten(array)
    yield np.ascontiguousarray(array)
