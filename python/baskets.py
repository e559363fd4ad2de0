"""Reads the baskets of plain branches.

uproot finds them and says what is in them; for branches of one number or one list of numbers per event, which is all of
NanoAOD, the rest takes few lines, and these are several times as fast as a reader of all that ROOT can store.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from MLTools.NanoML.lists import Lists
from MLTools.NanoML.ttree import StoredBranch

__all__ = ["Begins", "PlainBranch", "Take", "from_descriptor"]

Take = Callable[[int, int], bytes]
"""Gives what is in a file at some place, as many bytes as asked for: take(seek, size)."""

Begins = tuple[NDArray[Any], ak.index.Index64]
"""Where lists begin, and the last ends: in numbers that are quick to compare, and as awkward has it."""

_KEY = struct.Struct(">ihiIh")  # bytes, version, bytes of the content, date, bytes of the key
_LAST = struct.Struct(">i")  # where the last entry ends, before the last byte of the key
_BLOCK = struct.Struct(
    "<2sxHBHB"
)  # header of a compressed block: codec, method, its bytes, and decompressed (24 bits each)
_LARGE = 1 << 31
_CHECKSUM = {b"L4": 8}  # bytes between the header and the data


class _Zstd(threading.local):
    """Decompresses what ROOT calls ZS: where there is the package zstandard, without setting up its tables each time."""

    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError:
            self.decompress: Callable[[Any, int], Any] = uproot.ZSTD(1).decompress
        else:
            self.decompress = zstandard.ZstdDecompressor().decompress


def _inflating() -> Callable[[Any, int], Any]:
    """What decompresses what ROOT calls ZL: where there is the package isal, twice as fast."""
    try:
        from isal import isal_zlib
    except ImportError:
        zlib: Callable[[Any, int], Any] = uproot.ZLIB(1).decompress
        return zlib
    return lambda block, full: isal_zlib.decompress(block, bufsize=full)


_zstd = _Zstd()
_CODECS: dict[bytes, Callable[[Any, int], Any]] = {
    b"ZL": _inflating(),
    b"XZ": uproot.LZMA(1).decompress,
    b"L4": uproot.LZ4(1).decompress,
    b"ZS": lambda block, full: _zstd.decompress(block, full),
}


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

    def read(
        self, take: Take, start: int, stop: int, known: dict[int, Begins] | None = None
    ) -> NDArray[Any] | Lists | None:
        """Entries of the branch, in native byte order.

        Parameters
        ----------
        take
            Gives the `pieces`.
        start, stop
            Range of entries.
        known
            Where the lists of other branches begin, by how many numbers they have in all: branches of one collection
            then share this, which they need to keep only once, and which is seen to be equal at once.

        Returns
        -------
        The entries; None if the baskets do not say where the lists end.

        Raises
        ------
        ValueError
            A basket is damaged.
        """
        if start >= stop:
            nothing = np.empty(0, self.dtype.newbyteorder("="))
            return Lists(ak.index.Index64(np.zeros(1, np.int64)), nothing) if self.is_jagged else nothing
        first, last = self._baskets(start, stop)
        baskets = [_Basket.at(take(seek, size), seek, size) for seek, size in self.pieces(start, stop)]
        if self.is_jagged and not all(basket.has_lists for basket in baskets):
            return None
        borders = (self.entries[first : last + 1] - self.entries[first]).tolist()
        values, offsets = self._content(baskets, borders)
        offset = int(self.entries[first])
        if not self.is_jagged:
            return values[start - offset : stop - offset]
        offsets = offsets[start - offset : stop - offset + 1]
        numbers = values[offsets[0] : offsets[-1]]
        if offsets[0]:
            offsets = offsets - offsets[0]
        known = {} if known is None else known
        same, index = known.get(len(numbers), (None, None))
        if same is None or not np.array_equal(same, offsets):
            index = ak.index.Index64(offsets.astype(np.int64))
            known[len(numbers)] = offsets, index
        return Lists(index, numbers)

    def _content(self, baskets: list[_Basket], borders: list[int]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The numbers of baskets, and where among them the list of each entry begins, and the last ends."""
        size = self.dtype.itemsize
        total = sum(basket.border // size for basket in baskets)
        if not self.is_jagged and total != borders[-1]:
            raise ValueError(f"{total} numbers for {borders[-1]} entries")
        values = np.empty(total, self.dtype.newbyteorder("="))
        wide = np.int32 if total * size < _LARGE else np.int64  # short numbers are added up in half the time
        offsets = np.zeros(borders[-1] + 1 if self.is_jagged else 1, wide)
        position = 0
        # each basket is done with before the next: what was decompressed is near to the processor, its memory used again
        for basket, begin, end in zip(baskets, borders, borders[1:]):
            content = basket.content()
            length = basket.border // size
            values[position : position + length] = np.frombuffer(content, self.dtype, length)
            if self.is_jagged:
                starts = basket.starts(content)
                if len(starts) != end - begin:
                    raise ValueError(f"{len(starts)} lists for {end - begin} entries")
                ends = offsets[begin + 1 : end + 1]
                ends[:-1] = starts[1:]
                ends[:-1] += position * size - basket.key
                ends[-1:] = (position + length) * size
            position += length
        offsets >>= size.bit_length() - 1  # bytes to numbers; a size is a power of two
        return values, offsets


@dataclass(frozen=True)
class _Basket:
    """A basket as it is in the file.

    Attributes
    ----------
    packed
        What it contains, compressed if that made it shorter.
    full
        How many bytes these are, decompressed.
    border
        How many of them are numbers; then come the lists, if it has any.
    key
        How many bytes stood before.
    """

    packed: memoryview
    full: int
    border: int
    key: int

    @classmethod
    def at(cls, raw: bytes, seek: int, size: int) -> _Basket:
        if len(raw) != size:
            raise ValueError(
                f"the file ends at byte {seek + len(raw)}, in a basket that ends at {seek + size}"
            )
        bytes_, _, full, _, key = _KEY.unpack_from(raw)
        if bytes_ != size or not _KEY.size < key <= size:
            raise ValueError(f"no basket at byte {seek}")
        border = _LAST.unpack_from(raw, key - _LAST.size - 1)[0] - key
        if not 0 <= border <= full:
            raise ValueError(f"no basket at byte {seek}")
        return cls(memoryview(raw)[key:], full, border, key)

    @property
    def has_lists(self) -> bool:
        """Whether it says where the lists begin."""
        return self.border < self.full

    def content(self) -> memoryview:
        """What it contains, decompressed."""
        return self.packed if len(self.packed) == self.full else _decompressed(self.packed, self.full)

    def starts(self, content: memoryview) -> NDArray[np.int32]:
        """Where the list of each entry begins, in bytes, `key` too far."""
        stored = np.frombuffer(content, ">i4", (self.full - self.border) // 4, self.border)
        return stored[1:-1]  # the first says how many there are


def _decompressed(content: memoryview, full: int) -> memoryview:
    parts = []
    position = total = 0
    while total < full:
        begin = position + _BLOCK.size
        codec = bytes(content[position : position + 2])
        if begin > len(content) or codec not in _CODECS:
            raise ValueError(f"unknown compression {codec!r}")
        _, packed, more_packed, unpacked, more_unpacked = _BLOCK.unpack_from(content, position)
        packed, unpacked = packed + (more_packed << 16), unpacked + (more_unpacked << 16)
        position = begin + packed
        part = memoryview(_CODECS[codec](content[begin + _CHECKSUM.get(codec, 0) : position], unpacked))
        if len(part) != unpacked:
            raise ValueError(f"{len(part)} bytes where {unpacked} should be")
        parts.append(part)
        total += unpacked
    return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
