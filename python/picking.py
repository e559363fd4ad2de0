"""Picks events out of arrays: what awkward does, in less time for the many branches of a collection."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

__all__ = ["Picker"]

_Index = NDArray[np.int64]


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
        self._known: list[
            tuple[NDArray[Any], _Index, _Index]
        ] = []  # offsets, offsets of what is picked, where it is

    def __call__(self, array: Any) -> Any:
        """The events' values: of the same type, and not a view."""
        if isinstance(array, np.ndarray):
            return array[self._rows]
        layout = array.layout
        if isinstance(layout, ak.contents.NumpyArray):
            return ak.Array(np.asarray(layout.data)[self._rows])
        if not (
            isinstance(layout, ak.contents.ListOffsetArray)
            and isinstance(layout.content, ak.contents.NumpyArray)
        ):
            return ak.to_packed(array[self._rows])
        offsets, where = self._places(np.asarray(layout.offsets))
        picked = np.asarray(layout.content.data)[where]
        return ak.Array(
            ak.contents.ListOffsetArray(ak.index.Index64(offsets), ak.contents.NumpyArray(picked))
        )

    def _places(self, offsets: NDArray[Any]) -> tuple[_Index, _Index]:
        for known, new, where in self._known:
            if np.array_equal(known, offsets):
                return new, where
        begin = offsets[:-1][self._rows]
        counts = offsets[1:][self._rows] - begin
        new = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=new[1:])
        where = np.arange(new[-1]) + np.repeat(begin - new[:-1], counts)
        self._known.append((offsets, new, where))
        return new, where
