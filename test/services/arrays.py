"""Whether arrays are the same, bit for bit: types, where lists begin, and numbers, NaN and -0 included."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np

from MLTools.NanoML.rootio.lists import Lists

__all__ = ["parts", "same"]


def parts(values: Any) -> list[tuple[Any, ...]]:
    """Types, shapes and bytes of the numbers, and of where lists begin, of a numpy or awkward array, or of `Lists`."""
    if isinstance(values, ak.Array):
        values = Lists.of(values) if values.ndim > 1 and values.layout.is_list else ak.to_numpy(values)
    arrays = [values.offsets.data, values.numbers] if isinstance(values, Lists) else [values]
    return [(array.dtype, array.shape, np.asarray(array).tobytes()) for array in arrays]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return parts(one) == parts(other)
