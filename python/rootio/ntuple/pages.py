"""The pages of RNTuples: numbers of one column, some of whose encodings no NanoAOD has, so that they are left to uproot.

uproot's public functions take fifteen times as long, with the headers: they make several objects for each page, inflate by
zlib, and build an awkward array.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.rootio.compression import decompressed

# how a column is stored, by the number of its type
BITS = 0x00
PLAIN = dict(
    zip(
        (*range(0x03, 0x0B), 0x0C, 0x0D, 0x0E, 0x0F),
        ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "u4", "u8"),
    )
)
SPLIT = {0x12: "u2", 0x14: "u4", 0x16: "u8", 0x18: "f4", 0x19: "f8"}  # all first bytes, then all second ones, ...
ZIGZAG = {0x11: "i2", 0x13: "i4", 0x15: "i8"}  # split, and the sign is the last bit
DELTA = {0x1A: "u4", 0x1B: "u8"}  # split, and each but the first of a page is a difference
TYPES = {BITS: "?", **PLAIN, **SPLIT, **ZIGZAG, **DELTA}
"""numpy's names of the types, by the numbers of all encodings that are known."""
SORTED = {**dict(zip(range(0x05, 0x0B), range(0x11, 0x17))), 0x0C: 0x18, 0x0D: 0x19, 0x0E: 0x1A, 0x0F: 0x1B}
"""Encodings of plain numbers, and those that ROOT compresses instead, whose bytes are sorted by their places."""


def numbers_of(raw: bytes, place: tuple[int, int], elements: int, kind: int) -> NDArray[Any]:
    """The elements of a page: its bytes, its place and size in the file, its number of elements, and the type of its column.

    Raises Exception if it is damaged.
    """
    if len(raw) != place[1]:
        raise ValueError(f"the file ends at byte {place[0] + len(raw)}, in a page that ends at {sum(place)}")
    dtype = np.dtype(TYPES[kind])
    full = -(-elements // 8) if kind == BITS else elements * dtype.itemsize
    content = raw if len(raw) == full else decompressed(memoryview(raw), full)
    if kind == BITS:
        bits = np.unpackbits(np.frombuffer(content, np.uint8), count=elements, bitorder="little")
        return bits.view(np.bool_)
    if kind in PLAIN:
        return np.frombuffer(content, dtype)
    numbers = _unsplit(np.frombuffer(content, np.uint8).reshape(dtype.itemsize, elements))
    if kind in ZIGZAG:
        numbers = (numbers >> 1) ^ -(numbers & 1)
    if kind in DELTA:
        np.cumsum(numbers, out=numbers)
    return numbers.view(dtype)


def bytes_of(values: NDArray[Any], kind: int) -> bytes:
    """A page with these numbers, before it is compressed."""
    dtype = np.dtype(TYPES[kind])
    if kind == BITS:
        return np.packbits(values, bitorder="little").tobytes()
    numbers = values.astype(dtype, copy=False)
    if kind in PLAIN:
        return numbers.tobytes()
    if kind in DELTA:
        numbers = np.diff(numbers, prepend=dtype.type(0))
    if kind in ZIGZAG:
        numbers = (numbers << 1) ^ (numbers >> (8 * dtype.itemsize - 1))
    return np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, dtype.itemsize).T.tobytes()


def _unsplit(rows: NDArray[np.uint8]) -> NDArray[Any]:
    """Unsigned integers from their bytes, row by row from the lowest; their halves are joined, which a processor does fast."""
    if len(rows) == 1:
        return rows[0]
    half = len(rows) // 2
    numbers = _unsplit(rows[half:]).astype(f"u{len(rows)}")
    numbers <<= numbers.dtype.type(4 * len(rows))
    numbers |= _unsplit(rows[:half])
    return numbers
