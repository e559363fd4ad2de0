"""Picks events out of arrays: what awkward does, in less time for the many branches of a collection."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

__all__ = ["Picker", "same_lists"]

_Index = NDArray[np.int64]


def same_lists(one: Any, other: Any) -> bool:
    """Whether two layouts' offsets, as awkward has them, are of lists of the same lengths. Those of a collection often are one."""
    return one is other or np.array_equal(one.data, other.data)


class Picker:
    """Picks the same events out of any number of arrays.

    Where the objects of an event stand is worked out once for all arrays with the same numbers of objects.

    Parameters
    ----------
    rows
        Positions of the events, in increasing order, int64.
    """

    def __init__(self, rows: _Index) -> None:
        self._rows = rows
        # offsets, offsets of what is picked, where it is; by the number of objects
        self._known: dict[int, list[tuple[Any, ak.index.Index64, _Index]]] = {}

    def __call__(self, array: Any) -> Any:
        """The events' values: of the same type, and not a view."""
        if isinstance(array, np.ndarray):
            return array[self._rows]
        layout = array.layout
        if isinstance(layout, ak.contents.NumpyArray):
            return ak.Array(ak.contents.NumpyArray(np.asarray(layout.data)[self._rows]))
        if not (
            isinstance(layout, ak.contents.ListOffsetArray)
            and isinstance(layout.content, ak.contents.NumpyArray)
        ):
            return ak.to_packed(array[self._rows])
        index, where = self._places(layout.offsets)
        picked = np.asarray(layout.content.data)[where]
        return ak.Array(ak.contents.ListOffsetArray(index, ak.contents.NumpyArray(picked)))

    def _places(self, index: Any) -> tuple[ak.index.Index64, _Index]:
        similar = self._known.setdefault(int(index[-1]), [])
        for known, new, where in similar:
            if same_lists(known, index):
                return new, where
        offsets = np.asarray(index.data)
        begin = offsets[:-1][self._rows]
        counts = offsets[1:][self._rows] - begin
        ends = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=ends[1:])
        where = np.arange(ends[-1]) + np.repeat(begin - ends[:-1], counts)
        picked = ak.index.Index64(ends)
        similar.append((index, picked, where))
        return picked, where
