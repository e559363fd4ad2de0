"""Reads the baskets of branches with one number or one list of numbers per event, which is all of NanoAOD.

That is several times as fast as uproot, which reads everything that ROOT can store. Whatever is not as expected raises an
exception: then uproot reads the branch, and decides whether the file is damaged.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.compression import Content, decompressed
from MLTools.NanoML.rootio.lists import Array, Lists, Values
from MLTools.NanoML.rootio.ttree import Branches, StoredBranch, TreeBranch

T = TypeVar("T")
Take = Callable[[int, int], bytes]
"""Gives the bytes of a file at some place: take(seek, size)."""

_KEY = struct.Struct(">ihiIh")  # bytes, version, bytes of the content, date, bytes of the key
_END_OF_KEY = struct.Struct(">iix")  # number of entries, where the last one ends
_STARTS = np.dtype(">i4")
_LARGE = 1 << 31


def from_descriptor(descriptor: int) -> Take:
    """Take from an open local file; fewer bytes at its end."""
    return lambda seek, size: os.pread(descriptor, size, seek)


@dataclass(frozen=True)
class PlainBranch:
    """A branch of numbers or of lists of numbers, and where its baskets are."""

    dtype: np.dtype[np.generic]  # type of the numbers in the file, big-endian
    counter: str | None  # the branch with the lengths of the lists; None without lists
    seek: NDArray[np.int64]  # where each basket begins
    size: NDArray[np.int64]  # its number of bytes
    entries: NDArray[np.int64]  # the first entry of each basket, and the number of entries

    @classmethod
    def of(cls, branch: TreeBranch) -> PlainBranch | None:
        """From a `StoredBranch` or an `uproot.TBranch`; None if it is not plain.

        Raises Exception if its baskets are not as expected.
        """
        if isinstance(branch, StoredBranch):
            if branch.dimensions:
                return None
            places = (each.astype(np.int64) for each in (branch.seek, branch.size, branch.entries))
            return cls(branch.dtype, branch.counter, *places)
        interpretation, counter = branch.interpretation, None
        if isinstance(interpretation, uproot.AsJagged) and interpretation.header_bytes == 0:
            counted_by = branch.count_branch  # uproot searches for it each time
            if counted_by is not None:
                interpretation, counter = interpretation.content, counted_by.name
        if type(interpretation) is not uproot.AsDtype or interpretation.inner_shape or branch.embedded_baskets:
            return None
        count = branch.num_baskets
        seek, size = (np.asarray(branch.member(name)[:count], np.int64) for name in ("fBasketSeek", "fBasketBytes"))
        entries = np.asarray(branch.entry_offsets, np.int64)
        if not count or len(entries) != count + 1:
            return None
        return cls(interpretation.from_dtype, counter, seek, size, entries)

    def pieces(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Where the baskets of a range of entries are, and their numbers of bytes."""
        if start >= stop:
            return []
        needed = slice(*self._baskets(start, stop))
        return list(zip(self.seek[needed].tolist(), self.size[needed].tolist()))

    def _baskets(self, start: int, stop: int) -> tuple[int, int]:
        """The first basket of a range of entries, and the one after the last."""
        first = int(self.entries.searchsorted(start, "right")) - 1
        return first, max(int(self.entries.searchsorted(stop)), first)

    def read(self, take: Take, start: int, stop: int, known: dict[str, Begins] | None = None) -> Array | Lists | None:
        """A range of entries in native byte order; None if the baskets do not say where lists end.

        `take` gives the `pieces`. In `known`, the beginnings of lists are shared with other branches of the same counter.
        Raises some exception if a basket is not as expected.
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
        known = {} if known is None else known
        begins = known.get(self.counter) if self.counter else None
        if begins is not None and not begins.fit(borders, baskets, self.dtype.itemsize):
            begins = None
        if self.counter and begins is None and not all(basket.has_lists for basket in baskets):
            return None
        values, offsets = self._content(baskets, begins)
        if self.counter is None:
            return values[start - borders[0] : stop - borders[0]]
        if begins is None:
            known[self.counter] = begins = Begins.of(borders[0], offsets, start, stop)
        return Lists(begins.index, values[begins.numbers])

    def _content(self, baskets: list[_Basket], begins: Begins | None) -> tuple[Array, NDArray[np.signedinteger]]:
        """The numbers of baskets, and where the list of each entry begins among them, and the last ends: `begins`, if known.

        One basket after the other, so that its content is still in the processor's cache, and its memory is used again.
        """
        itemsize = self.dtype.itemsize
        if any(basket.border % itemsize for basket in baskets):
            raise ValueError("a basket ends within a number")
        values = np.empty(sum(basket.border for basket in baskets) // itemsize, self.dtype.newbyteorder("="))
        wide = np.int32 if values.nbytes < _LARGE else np.int64  # the sums of short numbers take half the time
        entries = sum(basket.entries for basket in baskets) if self.counter else 0
        # new ones in bytes at first
        offsets: NDArray[np.signedinteger] = begins.offsets if begins else np.zeros(entries + 1, wide)
        position = last = 0
        for basket in baskets:
            content = basket.content()
            begin, position = position, position + basket.border
            numbers = np.frombuffer(content, self.dtype, basket.border // itemsize)
            values[begin // itemsize : position // itemsize] = numbers
            first, last = last, last + basket.entries
            if self.counter is None:
                if basket.border != basket.entries * itemsize:
                    raise ValueError("there is not one number for each entry")
            elif begins is None:
                starts = basket.starts(content)
                if len(starts) != basket.entries or (len(starts) and starts[0] != basket.key):
                    raise ValueError(f"there are not {basket.entries} lists")
                ends = offsets[first + 1 : last]
                ends[:] = starts[1:]
                ends += begin - basket.key
                offsets[last] = position
            elif basket.has_lists:
                wanted = offsets[first:last] * itemsize
                wanted += basket.key - offsets[first] * itemsize
                starts = basket.starts(content)
                if len(starts) != len(wanted) or (starts != wanted).any():
                    raise ValueError("the lists are not those of another branch with the same counter")
        if self.counter and begins is None:
            if (offsets[1:] < offsets[:-1]).any() or np.bitwise_or.reduce(offsets) % itemsize:
                raise ValueError("lists begin before others end, or within a number")
            offsets >>= itemsize.bit_length() - 1  # bytes to numbers; a size is a power of two
        return values, offsets


class PlainBranches:
    """The branches of a tree that are read here; on the least doubt, one is left to uproot.

    `objects` are those of the tree, as `PlainBranch.of` takes them.
    """

    def __init__(self, objects: Branches) -> None:
        self._objects = objects
        self._known: dict[str, PlainBranch | None] = {}

    def known(self, names: Iterable[str]) -> dict[str, PlainBranch]:
        """The branches of some names, as far as is known."""
        for name in names:
            if name not in self._known:
                self._known[name] = self._unless_in_doubt(name, PlainBranch.of, self._objects[name])
        return {name: branch for name in names if (branch := self._known[name]) is not None}

    def read(
        self,
        prepare: Callable[[Iterable[tuple[int, int]]], Take],
        names: Sequence[str],
        start: int,
        stop: int,
        pick: Callable[[Values], Values] = lambda values: values,
    ) -> dict[str, Values]:
        """A range of entries of each branch that is read here, as `pick` returns it; `prepare` takes pieces of the file."""
        plain = self.known(names)
        take = prepare(piece for branch in plain.values() for piece in branch.pieces(start, stop))
        begins: dict[str, Begins] = {}
        found = {}
        for name, branch in plain.items():
            array = self._unless_in_doubt(name, branch.read, take, start, stop, begins)
            if array is not None:
                found[name] = pick(array)
        return found

    def _unless_in_doubt(self, name: str, read: Callable[..., T | None], *arguments: object) -> T | None:
        """The result of `read`; None if it fails for whatever reason, and uproot reads the branch from now on."""
        try:
            return read(*arguments)
        except NanoMLError:  # no server gives the bytes
            raise
        except Exception:  # if uproot fails, too, its reason is the one to report
            self._known[name] = None
            return None


class Begins(NamedTuple):
    """Where the lists of a range of entries begin."""

    entry: int  # the first entry of the baskets
    offsets: NDArray[np.signedinteger]  # where the list of each entry of the baskets begins, and the last ends
    index: ak.index.Index64  # the same for the range alone, from 0, in awkward's form
    numbers: slice  # the numbers of the range among those of the baskets

    @classmethod
    def of(cls, entry: int, offsets: NDArray[np.signedinteger], start: int, stop: int) -> Begins:
        """For the range from `start` to `stop`."""
        ours = offsets[start - entry : stop - entry + 1]
        index = ak.index.Index64((ours - ours[0]).astype(np.int64, copy=False))
        return cls(entry, offsets, index, slice(int(ours[0]), int(ours[-1])))

    def fit(self, borders: Sequence[int], baskets: Sequence[_Basket], itemsize: int) -> bool:
        """Whether baskets with these first entries and this end have as many numbers as the lists."""
        if borders[0] != self.entry or borders[-1] - self.entry != len(self.offsets) - 1:
            return False
        ends = [int(self.offsets[border - self.entry]) for border in borders]
        return all(basket.border == (end - begin) * itemsize for basket, begin, end in zip(baskets, ends, ends[1:]))


class _Basket(NamedTuple):
    packed: memoryview  # its content, compressed if that made it shorter
    full: int  # bytes of the content, decompressed
    border: int  # how many of these are numbers; then the beginnings of the lists follow, if it has any
    key: int  # bytes before the content
    entries: int

    @property
    def has_lists(self) -> bool:
        """Whether it says where the lists begin."""
        return self.border < self.full

    def content(self) -> Content:
        """Its content, decompressed: bytes, or a view of them."""
        return self.packed if len(self.packed) == self.full else decompressed(self.packed, self.full)

    def starts(self, content: Content) -> NDArray[np.int32]:
        """Where the list of each entry begins, in bytes from the beginning of the key."""
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


def joined_baskets(ends: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most so many entries, from the first end to the last, and between these ends if possible."""
    start, end = ends[0], ends[-1]
    while start < end:
        reached = bisect_right(ends, start + most)
        reach = ends[reached - 1]
        if reach <= start:  # the next basket ends beyond
            reach = min(start + most, ends[reached])
        yield start, reach
        start = reach


def rows_at_once(bytes_per_row: float, memory: float) -> int:
    """Number of rows that fit into the memory [MB]; at least one."""
    # arrays take about twice the size in the file: lists have offsets, and writing makes a copy
    return max(1, int(memory * 1_000_000 / 2 / max(bytes_per_row, 1)))
