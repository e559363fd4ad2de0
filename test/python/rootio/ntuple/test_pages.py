from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from MLTools.NanoML.rootio.ntuple import pages


def encoded(values: NDArray[Any], kind: int) -> bytes:
    """As the specification says, number by number."""
    if kind == 0:
        bits = sum(int(value) << place for place, value in enumerate(values))
        return bits.to_bytes(-(-len(values) // 8), "little")
    if kind in pages.PLAIN:
        return values.tobytes()
    size, modulus = values.dtype.itemsize, 1 << 8 * values.dtype.itemsize
    if kind in pages.DELTA:
        whole = [int(value) for value in values]
        numbers = [(value - before) % modulus for before, value in zip([0, *whole], whole)]
    elif kind in pages.ZIGZAG:
        numbers = [2 * int(value) if value >= 0 else -2 * int(value) - 1 for value in values]
    else:
        numbers = [int(value) for value in values.view(f"u{size}")]
    return bytes((number >> 8 * byte) & 255 for byte in range(size) for number in numbers)


@given(st.data(), st.sampled_from(sorted(pages.TYPES)))
def test_pages_of_every_kind_are_decoded(data: st.DataObject, kind: int) -> None:
    dtype = np.dtype(pages.TYPES[kind])
    values = data.draw(arrays(dtype, st.integers(0, 40)))
    raw = encoded(values, kind)
    found = pages.numbers_of(raw, (0, len(raw)), len(values), kind)
    assert pages.bytes_of(values, kind) == raw
    assert found.dtype == dtype
    assert found.tobytes() == values.tobytes()
