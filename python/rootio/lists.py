"""Lists of numbers for each event: where they begin and end among the numbers of all events, as awkward has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

__all__ = ["Lists", "is_plain", "offsets_of", "picked_lists", "same_lists"]

_Index = NDArray[np.int64]


@dataclass(frozen=True)
class Lists:
    """A list of numbers for each event, as far as there need be no awkward array, which takes longer to make than to fill.

    Attributes
    ----------
    offsets
        Where the list of each event begins, and the last ends, from 0. Branches of a collection often share it.
    numbers
        Those of the first event first, and none after those of the last.
    """

    offsets: ak.index.Index64
    numbers: NDArray[Any]

    @classmethod
    def of(cls, array: ak.Array) -> Lists:
        """Of an awkward array."""
        packed = array if is_plain(array.layout) else ak.to_packed(array)
        layout = packed.layout.to_ListOffsetArray64(True)
        return cls(layout.offsets, np.asarray(ak.to_numpy(layout.content))[: int(layout.offsets[-1])])

    def __len__(self) -> int:
        """Number of events."""
        return len(self.offsets) - 1

    def array(self) -> ak.Array:
        """As an awkward array, which shares the numbers."""
        return ak.Array(ak.contents.ListOffsetArray(self.offsets, ak.contents.NumpyArray(self.numbers)))


def is_plain(layout: Any) -> bool:
    """Whether the layout of an awkward array is just offsets and numbers."""
    return isinstance(layout, ak.contents.ListOffsetArray) and isinstance(
        layout.content, ak.contents.NumpyArray
    )


def same_lists(one: Any, other: Any) -> bool:
    """Whether two layouts' offsets, as awkward has them, are of lists of the same lengths. Those of a collection often are one."""
    return one is other or np.array_equal(one.data, other.data)


def offsets_of(counts: NDArray[Any]) -> _Index:
    """Where the list of each event begins, and the last ends: int64, shape (events + 1,), from 0."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def picked_lists(offsets: NDArray[Any], rows: NDArray[Any]) -> tuple[_Index, _Index]:
    """The offsets of the lists of some events, and where their numbers are among those of all events."""
    begin = offsets[:-1][rows]
    counts = offsets[1:][rows] - begin
    picked = offsets_of(counts)
    return picked, np.arange(picked[-1]) + np.repeat(begin - picked[:-1], counts)
