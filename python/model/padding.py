"""Objects of events in tensors of fixed size: sorted, truncated and padded by one rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # awkward is imported only where there are objects
    import awkward as ak

    from MLTools.NanoML.rootio.lists import Array

N = TypeVar("N", bound=np.generic)


@dataclass(frozen=True)
class Jagged:
    """A list of numbers for each event."""

    values: Array  # of all events, one event after the other, shape (objects,)
    counts: NDArray[np.int64]  # how many each event has, shape (events,)

    @classmethod
    def of(cls, array: ak.Array) -> Jagged:
        """From an awkward array."""
        import awkward as ak  # only where there are objects

        from MLTools.NanoML.rootio.lists import is_plain

        layout = array.layout
        if is_plain(layout):
            offsets = np.asarray(layout.offsets)  # ak.flatten would do the same, in ten times the time
            return cls(np.asarray(layout.content.data)[offsets[0] : offsets[-1]], np.diff(offsets))
        return cls(np.asarray(ak.to_numpy(ak.flatten(array))), np.asarray(ak.num(array)))


@dataclass(frozen=True)
class Places:
    """Where the objects of a collection go in a tensor.

    The objects of each event are sorted stably by a key, NaN last; the first ones are kept, and the rest of the row is
    padding.
    """

    source: Optional[NDArray[np.int64]]  # the objects that are kept, in the order of the rows; None for all as they are
    target: NDArray[np.int64]  # their places in the rows, one row after the other
    shape: tuple[int, int]  # events, objects at most

    @classmethod
    def of(cls, counts: NDArray[np.int64], most: int, key: Optional[Array] = None, descending: bool = False) -> Places:
        """Find the places.

        Parameters
        ----------
        counts
            Number of objects of each event.
        most
            Largest number of objects that are kept in an event.
        key
            The objects of an event are sorted by it, shape (objects,); None leaves them as they are.
        descending
            Whether the largest comes first.
        """
        shape = (len(counts), most)
        event = np.repeat(np.arange(len(counts)), counts)
        source = np.arange(len(event))
        shift = np.arange(len(counts)) * most - (np.cumsum(counts) - counts)
        target = source + np.repeat(shift, counts)
        in_order = True
        if key is not None and len(key):
            # for integers (and bool) ~ reverses the order, without rounding and without overflow
            value = key if not descending else (np.negative if key.dtype.kind == "f" else np.invert)(key)
            # NanoAOD is mostly sorted already
            in_order = bool(np.all(np.greater_equal(value[1:], value[:-1]) | (event[1:] > event[:-1])))
            if not in_order:
                source = np.lexsort((value, event))
        if len(counts) and counts.max() > most:
            kept = target < (event + 1) * most
            return cls(source[kept], target[kept], shape)
        return cls(None if in_order else source, target, shape)

    def picked(self, values: Array) -> Array:
        """Values of the objects that are kept, in the order of the rows."""
        return values if self.source is None else values[self.source]

    def spread(self, picked: NDArray[N]) -> NDArray[N]:
        """The values that `picked` returned in rows, shape (events, most), with 0 for padding."""
        rows = np.zeros(self.shape, picked.dtype)
        rows.reshape(-1)[self.target] = picked
        return rows


def padded(
    fields: Sequence[Array], counts: NDArray[np.int64], most: int, key: Optional[Array] = None, descending: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Objects as a network reads them.

    Of fields of shape (objects,), with all else as in `Places.of`, it makes the values, float32, shape (events, most, fields), with 0 for
    padding, and the mask, float32, shape (events, most): 1 for an object, 0 for padding.
    """
    places = Places.of(counts, most, key, descending)
    events = len(counts)
    values = np.zeros((events * most, len(fields)), np.float32)
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which counts as missing
        for number, field in enumerate(fields):
            values[places.target, number] = places.picked(field)
    mask = places.spread(np.ones(len(places.target), np.float32))
    return values.reshape(events, most, len(fields)), mask
