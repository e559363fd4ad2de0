"""Reads the baskets of plain branches.

uproot finds them and says what is in them; for branches of one number or one list of numbers per event, which is all of
NanoAOD, the rest takes few lines, and these are several times as fast as a reader of all that ROOT can store.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from MLTools.NanoML.ttree import StoredBranch

__all__ = ["PlainBranch", "Take", "from_descriptor"]

Take = Callable[[int, int], bytes]
"""Gives what is in a file at some place, as many bytes as asked for: take(seek, size)."""

_KEY = struct.Struct(">ihiIh")  # bytes, version, bytes of the content, date, bytes of the key
_BASKET = struct.Struct(">Hiiii")  # version, buffer size, entry size, entries, where the last entry ends
_BLOCK = 9  # bytes of the header of a compressed block
_CODECS = {b"ZL": uproot.ZLIB(1), b"XZ": uproot.LZMA(1), b"L4": uproot.LZ4(1), b"ZS": uproot.ZSTD(1)}
_CHECKSUM = {b"L4": 8}  # bytes between the header and the data


def from_descriptor(descriptor: int) -> Take:
    """Take from an open local file; at its end come fewer bytes."""
    return lambda seek, size: os.pread(descriptor, size, seek)


@dataclass(frozen=True)
class PlainBranch:
    """A branch of numbers, or of lists of numbers, and where its baskets are.

    Attributes
    ----------
    dtype
        Of the numbers in the file: of big-endian order.
    is_jagged
        Whether it has a list for each event.
    seek
        Where each basket begins.
    size
        How many bytes each has.
    entries
        The entry that each begins with, and the number of entries.
    """

    dtype: np.dtype[Any]
    is_jagged: bool
    seek: NDArray[np.int64]
    size: NDArray[np.int64]
    entries: NDArray[np.int64]

    @classmethod
    def of(cls, branch: Any) -> PlainBranch | None:
        """What is known of a `StoredBranch` or an `uproot.TBranch`; None if it is not plain."""
        if isinstance(branch, StoredBranch):
            if branch.dimensions:
                return None
            is_jagged = branch.counter is not None
            places = (each.astype(np.int64) for each in (branch.seek, branch.size, branch.entries))
            return cls(branch.dtype, is_jagged, *places)
        interpretation, is_jagged = branch.interpretation, False
        if isinstance(interpretation, uproot.AsJagged) and interpretation.header_bytes == 0:
            interpretation, is_jagged = interpretation.content, True
        if (
            type(interpretation) is not uproot.AsDtype
            or interpretation.inner_shape
            or branch.embedded_baskets
        ):
            return None
        count = branch.num_baskets
        seek, size = (
            np.asarray(branch.member(name)[:count], np.int64) for name in ("fBasketSeek", "fBasketBytes")
        )
        entries = np.asarray(branch.entry_offsets, np.int64)
        if not count or len(entries) != count + 1:
            return None
        return cls(interpretation.from_dtype, is_jagged, seek, size, entries)

    def pieces(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Where the baskets of a range of entries are, and how many bytes they have."""
        if start >= stop:
            return []
        needed = slice(*self._baskets(start, stop))
        return list(zip(self.seek[needed].tolist(), self.size[needed].tolist()))

    def _baskets(self, start: int, stop: int) -> tuple[int, int]:
        """The first and one beyond the last basket of a range of entries."""
        first = int(self.entries.searchsorted(start, "right")) - 1
        return first, max(int(self.entries.searchsorted(stop)), first)

    def read(self, take: Take, start: int, stop: int) -> ak.Array | None:
        """Entries of the branch, in native byte order.

        Parameters
        ----------
        take
            Gives the `pieces`.
        start, stop
            Range of entries.

        Returns
        -------
        The entries; None if the baskets do not say where the lists end.

        Raises
        ------
        ValueError
            A basket is damaged.
        """
        if start >= stop:
            nothing = ak.contents.NumpyArray(np.empty(0, self.dtype.newbyteorder("=")))
            lists = ak.contents.ListOffsetArray(ak.index.Index64(np.zeros(1, np.int64)), nothing)
            return ak.Array(lists if self.is_jagged else nothing)
        first, last = self._baskets(start, stop)
        baskets = [_Basket.read(take, seek, size) for seek, size in self.pieces(start, stop)]
        lengths = np.diff(self.entries[first : last + 1]).tolist()
        offset = int(self.entries[first])
        if not self.is_jagged:
            values = self._numbers([basket.data for basket in baskets])
            if len(values) != sum(lengths):
                raise ValueError(f"{len(values)} numbers for {sum(lengths)} entries")
            return ak.Array(values[start - offset : stop - offset])
        if any(basket.starts is None for basket in baskets):
            return None
        values = self._numbers([basket.data for basket in baskets])
        offsets = self._offsets(baskets, lengths)[start - offset : stop - offset + 1]
        content = ak.contents.NumpyArray(values[offsets[0] : offsets[-1]])
        return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets - offsets[0]), content))

    def _numbers(self, parts: list[memoryview]) -> NDArray[Any]:
        size = self.dtype.itemsize
        values = np.empty(sum(len(part) for part in parts) // size, self.dtype.newbyteorder("="))
        position = 0
        for part in parts:
            length = len(part) // size
            values[position : position + length] = np.frombuffer(part, self.dtype, length)
            position += length
        return values

    def _offsets(self, baskets: list[_Basket], lengths: list[int]) -> NDArray[np.int64]:
        """Where the list of each entry begins among the numbers, and the last ends."""
        size = self.dtype.itemsize
        offsets = np.zeros(sum(lengths) + 1, np.int64)
        entry, position = 0, 0
        for basket, length in zip(baskets, lengths):
            assert basket.starts is not None
            if len(basket.starts) != length:
                raise ValueError(f"{len(basket.starts)} lists for {length} entries")
            ends = offsets[entry + 1 : entry + length + 1]
            np.add(basket.starts[1:], position - basket.key, out=ends[:-1])
            entry, position = entry + length, position + len(basket.data) // size * size
            ends[-1:] = position
        offsets >>= size.bit_length() - 1  # bytes to numbers; a size is a power of two
        return offsets


@dataclass(frozen=True)
class _Basket:
    data: memoryview
    starts: NDArray[np.int32] | None  # where each entry's list begins, `key` bytes too far
    key: int

    @classmethod
    def read(cls, take: Take, seek: int, size: int) -> _Basket:
        raw = take(seek, size)
        if len(raw) != size:
            raise ValueError(
                f"the file ends at byte {seek + len(raw)}, in a basket that ends at {seek + size}"
            )
        bytes_, _, full, _, key = _KEY.unpack_from(raw)
        if bytes_ != size or not _KEY.size < key <= size:
            raise ValueError(f"no basket at byte {seek}")
        *_, last = _BASKET.unpack_from(raw, key - _BASKET.size - 1)
        content = memoryview(raw)[key:]
        if len(content) != full:
            content = _decompressed(content, full)
        border = last - key
        if not 0 <= border <= full:
            raise ValueError(f"no basket at byte {seek}")
        if border == full:
            return cls(content, None, key)
        stored = np.frombuffer(content, ">i4", offset=border, count=(full - border) // 4)
        return cls(content[:border], stored[1:-1], key)  # the first says how many there are


def _decompressed(content: memoryview, full: int) -> memoryview:
    parts = []
    position = total = 0
    while total < full:
        header = bytes(content[position : position + _BLOCK])
        codec = header[:2]
        if len(header) < _BLOCK or codec not in _CODECS:
            raise ValueError(f"unknown compression {codec!r}")
        packed, unpacked = int.from_bytes(header[3:6], "little"), int.from_bytes(header[6:9], "little")
        checksum = _CHECKSUM.get(codec, 0)
        block = content[position + _BLOCK + checksum : position + _BLOCK + packed]
        part = memoryview(_CODECS[codec].decompress(block, unpacked))
        if len(part) != unpacked:
            raise ValueError(f"{len(part)} bytes where {unpacked} should be")
        parts.append(part)
        position += _BLOCK + packed
        total += unpacked
    return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
