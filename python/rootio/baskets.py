"""Reads the baskets of branches with one number or one list of numbers per event, which is all of NanoAOD.

This takes few lines, and they are several times as fast as uproot, which reads all that ROOT can store. Whatever is not as
expected raises an exception: uproot then reads the branch, and decides whether the file is damaged.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from MLTools.NanoML.rootio.lists import Lists
from MLTools.NanoML.rootio.ttree import StoredBranch

__all__ = ["Begins", "PlainBranch", "Take", "from_descriptor"]

Take = Callable[[int, int], bytes]
"""Gives what is in a file at some place, as many bytes as asked for: take(seek, size)."""

_KEY = struct.Struct(">ihiIh")  # bytes, version, bytes of the content, date, bytes of the key
_END_OF_KEY = struct.Struct(">iix")  # number of entries, where the last one ends
# header of a compressed block: codec, method, its bytes, and decompressed (24 bits each)
_BLOCK = struct.Struct("<2sxHBHB")
_STARTS = np.dtype(">i4")
_LARGE = 1 << 31


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


def _lz4(block: memoryview, full: int) -> Any:
    """Decompress what ROOT calls L4: its checksum comes before the data."""
    import xxhash  # uproot needs it for LZ4, too

    checksum, data = block[:8], block[8:]
    if xxhash.xxh64_digest(data) != checksum:
        raise ValueError("the checksum is wrong")
    return _decompress_lz4(data, full)


_zstd = _Zstd()
_decompress_lz4: Callable[[Any, int], Any] = uproot.LZ4(1).decompress
_CODECS: dict[bytes, Callable[[Any, int], Any]] = {
    b"ZL": _inflating(),
    b"XZ": uproot.LZMA(1).decompress,
    b"L4": _lz4,
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
    counter
        The branch that says how long the list of each event is; None without a list.
    seek
        Where each basket begins.
    size
        How many bytes each has.
    entries
        The entry that each begins with, and the number of entries.
    """

    dtype: np.dtype[Any]
    counter: str | None
    seek: NDArray[np.int64]
    size: NDArray[np.int64]
    entries: NDArray[np.int64]

    @classmethod
    def of(cls, branch: Any) -> PlainBranch | None:
        """What is known of a `StoredBranch` or an `uproot.TBranch`; None if it is not plain.

        Raises
        ------
        Exception
            Its baskets are not as expected.
        """
        if isinstance(branch, StoredBranch):
            if branch.dimensions:
                return None
            places = (each.astype(np.int64) for each in (branch.seek, branch.size, branch.entries))
            return cls(branch.dtype, branch.counter, *places)
        interpretation, counter = branch.interpretation, None
        if isinstance(interpretation, uproot.AsJagged) and interpretation.header_bytes == 0:
            counted_by = branch.count_branch  # uproot looks for it each time
            if counted_by is not None:
                interpretation, counter = interpretation.content, counted_by.name
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
        return cls(interpretation.from_dtype, counter, seek, size, entries)

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
        self, take: Take, start: int, stop: int, known: dict[str, Begins] | None = None
    ) -> NDArray[Any] | Lists | None:
        """Entries of the branch, in native byte order.

        Parameters
        ----------
        take
            Gives the `pieces`.
        start, stop
            Range of entries.
        known
            Where the lists of other branches begin in the same range, by their counters. Branches of one counter have lists
            of the same lengths: to work that out once is enough, and it is kept in the memory once.

        Returns
        -------
        The entries; None if the baskets do not say where the lists end.

        Raises
        ------
        Exception
            A basket is not as expected.
        """
        if start >= stop:
            nothing = np.empty(0, self.dtype.newbyteorder("="))
            return Lists(ak.index.Index64(np.zeros(1, np.int64)), nothing) if self.counter else nothing
        first, last = self._baskets(start, stop)
        borders: list[int] = self.entries[first : last + 1].tolist()
        if not borders[0] <= start < stop <= borders[-1]:
            raise ValueError("the baskets do not have all entries")
        baskets = [
            _basket(take(*piece), *piece, end - begin)
            for piece, begin, end in zip(self.pieces(start, stop), borders, borders[1:])
        ]
        if self.counter is None:
            return self._flat(baskets)[start - borders[0] : stop - borders[0]]
        known = {} if known is None else known
        begins = known.get(self.counter)
        if begins is not None and begins.fit(borders, baskets, self.dtype.itemsize):
            values = self._numbers(baskets, begins.offsets)
        elif all(basket.has_lists for basket in baskets):
            values, offsets = self._lists(baskets)
            known[self.counter] = begins = Begins.of(borders[0], offsets, start, stop)
        else:
            return None
        return Lists(begins.index, values[begins.numbers])

    def _flat(self, baskets: list[_Basket]) -> NDArray[Any]:
        if any(basket.border != basket.entries * self.dtype.itemsize for basket in baskets):
            raise ValueError("there is not one number for each entry")
        values = self._room(baskets)
        for _ in self._filled(values, baskets):
            pass
        return values

    def _numbers(self, baskets: list[_Basket], offsets: NDArray[Any]) -> NDArray[Any]:
        """The numbers of baskets whose lists should begin at `offsets`."""
        values, position = self._room(baskets), 0
        for basket, content in self._filled(values, baskets):
            end = position + basket.entries
            if basket.has_lists:
                wanted = offsets[position:end] * self.dtype.itemsize
                wanted += basket.key - offsets[position] * self.dtype.itemsize
                starts = basket.starts(content)
                if len(starts) != len(wanted) or (starts != wanted).any():
                    raise ValueError("the lists are not those of another branch with the same counter")
            position = end
        return values

    def _room(self, baskets: list[_Basket]) -> NDArray[Any]:
        if any(basket.border % self.dtype.itemsize for basket in baskets):
            raise ValueError("a basket ends within a number")
        total = sum(basket.border for basket in baskets) // self.dtype.itemsize
        return np.empty(total, self.dtype.newbyteorder("="))

    def _filled(self, values: NDArray[Any], baskets: list[_Basket]) -> Iterator[tuple[_Basket, Any]]:
        """Fill in the numbers of each basket; what all of it is, decompressed.

        Each is done with before the next: what was decompressed is near to the processor, and its memory is used again.
        """
        position = 0
        for basket in baskets:
            content = basket.content()
            end = position + basket.border // self.dtype.itemsize
            values[position:end] = np.frombuffer(content, self.dtype, end - position)
            position = end
            yield basket, content

    def _lists(self, baskets: list[_Basket]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The numbers of baskets, and where among them the list of each entry begins, and the last ends."""
        values, position, begin = self._room(baskets), 0, 0
        wide = np.int32 if values.nbytes < _LARGE else np.int64  # short numbers are added up in half the time
        offsets: NDArray[Any] = np.zeros(sum(basket.entries for basket in baskets) + 1, wide)
        for basket, content in self._filled(values, baskets):
            end = begin + basket.entries
            starts = basket.starts(content)
            if len(starts) != basket.entries or (len(starts) and starts[0] != basket.key):
                raise ValueError(f"there are not {basket.entries} lists")
            ends = offsets[begin + 1 : end]
            ends[:] = starts[1:]
            ends += position - basket.key
            position += basket.border
            offsets[end] = position
            begin = end
        if (offsets[1:] < offsets[:-1]).any() or np.bitwise_or.reduce(offsets) % self.dtype.itemsize:
            raise ValueError("lists begin before others end, or within a number")
        offsets >>= self.dtype.itemsize.bit_length() - 1  # bytes to numbers; a size is a power of two
        return values, offsets


class Begins(NamedTuple):
    """Where the lists of a range of entries begin.

    Attributes
    ----------
    entry
        The first of the baskets that the range is in.
    offsets
        Where the list of each entry of these baskets begins, and the last ends.
    index
        The same of the range alone, from 0, as awkward has it.
    numbers
        Those of the range, among the numbers of the baskets.
    """

    entry: int
    offsets: NDArray[Any]
    index: ak.index.Index64
    numbers: slice

    @classmethod
    def of(cls, entry: int, offsets: NDArray[Any], start: int, stop: int) -> Begins:
        """Of the range from `start` to `stop`."""
        ours = offsets[start - entry : stop - entry + 1]
        index = ak.index.Index64((ours - ours[0]).astype(np.int64, copy=False))
        return cls(entry, offsets, index, slice(int(ours[0]), int(ours[-1])))

    def fit(self, borders: Sequence[int], baskets: Sequence[_Basket], itemsize: int) -> bool:
        """Whether baskets with these first entries, and this end, have as many numbers as the lists have."""
        if borders[0] != self.entry or borders[-1] - self.entry != len(self.offsets) - 1:
            return False
        ends = [int(self.offsets[border - self.entry]) for border in borders]
        return all(
            basket.border == (end - begin) * itemsize for basket, begin, end in zip(baskets, ends, ends[1:])
        )


class _Basket(NamedTuple):
    """A basket as it is in the file.

    Attributes
    ----------
    packed
        What it contains, compressed if that made it shorter.
    full
        How many bytes these are, decompressed.
    border
        How many of them are numbers; after these come the beginnings of the lists, if it has any.
    key
        How many bytes come before.
    entries
        How many entries it has.
    """

    packed: memoryview
    full: int
    border: int
    key: int
    entries: int

    @property
    def has_lists(self) -> bool:
        """Whether it says where the lists begin."""
        return self.border < self.full

    def content(self) -> Any:
        """What it contains, decompressed: bytes, or a view of them."""
        return self.packed if len(self.packed) == self.full else _decompressed(self.packed, self.full)

    def starts(self, content: Any) -> NDArray[np.int32]:
        """Where the list of each entry begins, in bytes, `key` too far."""
        stored = np.frombuffer(content, _STARTS, offset=self.border)
        return stored[1:-1]  # the first says how many there are


def _basket(raw: bytes, seek: int, size: int, entries: int) -> _Basket:
    if len(raw) != size:
        raise ValueError(f"the file ends at byte {seek + len(raw)}, in a basket that ends at {seek + size}")
    bytes_, _, full, _, key = _KEY.unpack_from(raw)
    if bytes_ != size or not _KEY.size + _END_OF_KEY.size <= key <= size:
        raise ValueError(f"no basket at byte {seek}")
    counted, end = _END_OF_KEY.unpack_from(raw, key - _END_OF_KEY.size)
    if counted != entries or not 0 <= end - key <= full:
        raise ValueError(f"no basket of {entries} entries at byte {seek}")
    return _Basket(memoryview(raw)[key:], full, end - key, key, entries)


def _decompressed(content: memoryview, full: int) -> Any:
    parts = []
    position = total = 0
    while position < len(content):
        codec, packed, more_packed, unpacked, more_unpacked = _BLOCK.unpack_from(content, position)
        decompress = _CODECS.get(codec)
        if decompress is None:
            raise ValueError(f"unknown compression {codec!r}")
        begin = position + _BLOCK.size
        position = begin + packed + (more_packed << 16)
        unpacked += more_unpacked << 16
        part = decompress(content[begin:position], unpacked)
        if len(part) != unpacked:
            raise ValueError(f"{len(part)} bytes where {unpacked} should be")
        parts.append(part)
        total += unpacked
    if position != len(content) or total != full:
        raise ValueError(f"{total} bytes where {full} should be")
    return parts[0] if len(parts) == 1 else b"".join(parts)
