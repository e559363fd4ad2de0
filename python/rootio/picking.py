"""Picks events out of arrays: what awkward does, in less time for the many branches of a collection."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.rootio.lists import Lists, is_plain, picked_lists, same_lists

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
        # offsets, offsets of what is picked, where it is; by the number of objects
        self._known: dict[int, list[tuple[Any, ak.index.Index64, _Index]]] = {}

    def __call__(self, array: Any) -> Any:
        """The events' values: of the same type (array, `Lists` or awkward array), and not a view."""
        if isinstance(array, np.ndarray):
            return array[self._rows]
        if isinstance(array, Lists):
            return self._picked(array.offsets, array.numbers)
        layout = array.layout
        if isinstance(layout, ak.contents.NumpyArray):
            return ak.Array(ak.contents.NumpyArray(np.asarray(layout.data)[self._rows]))
        if not is_plain(layout):
            return ak.to_packed(array[self._rows])
        return self._picked(layout.offsets, np.asarray(layout.content.data)).array()

    def _picked(self, index: Any, numbers: NDArray[Any]) -> Lists:
        picked, where = self._places(index)
        return Lists(picked, numbers[where])

    def _places(self, index: Any) -> tuple[ak.index.Index64, _Index]:
        similar = self._known.setdefault(int(index[-1]), [])
        for known, new, where in similar:
            if same_lists(known, index):
                return new, where
        offsets, where = picked_lists(np.asarray(index.data), self._rows)
        picked = ak.index.Index64(offsets)
        similar.append((index, picked, where))
        return picked, where
