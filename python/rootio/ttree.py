"""The branches of a TTree, from its bytes in the file.

For each of the thousand branches of NanoAOD, few of which are ever used, uproot makes dozens of objects, which takes longer
than reading some of them. Here it is one object, with what is needed to describe a branch and to find its baskets.
The format is that of ROOT 6; what is not numbers or lists of numbers is left to uproot.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Any, Union

import numpy as np
import uproot
from numpy.typing import NDArray

_TREE, _BRANCH, _LEAF, _ARRAY = 20, 13, 2, 3  # versions of the classes
_COUNTED, _IS_CLASS, _NEW_CLASS = 0x4000_0000, 0x8000_0000, 0xFFFF_FFFF
_MAP_OFFSET = 2  # between the position of an object and its reference number
_REFERENCED, _MEMBERWISE = (0x10, 0x4000)  # bits of a TObject and of a version after which unknown things follow
_HEADER = struct.Struct(">IH")  # bytes that follow, version
_TOBJECT = struct.Struct(">H4xI")  # version, bits
_INT = struct.Struct(">i")
_TAG = struct.Struct(">I")
_LONG = struct.Struct(">q")
_ENTRIES = struct.Struct(">qqqqqdiiiiIqqqqqq")  # of the tree; the number of cluster ranges is the 11th
_NAMED = struct.Struct(">IHH4xI")  # before a name: bytes that follow, version; version and bits of its TObject
_FILL = struct.Struct(">iiiiq")  # of a branch; the fourth is the number of baskets
# of a branch: offset, room for baskets, split level, entries, first entry, bytes, compressed bytes; then two arrays,
# each with the bytes that follow, version, version and bits of its TObject, bytes of its name, how many it has
_SIZES = struct.Struct(">iIiqqqq" + 2 * "IHH4xIBi4x")
_EMPTY = _COUNTED | 21  # bytes that follow in an array of nothing
# of a leaf: numbers, bytes of each, offset, is range, is unsigned, what counts them
_LENGTHS = struct.Struct(">iii??I")
_TYPES = {"O": "?", "B": ">i1", "S": ">i2", "I": ">i4", "L": ">i8", "G": ">i8", "F": ">f4", "D": ">f8"}
_DIMENSION = re.compile(r"\[([0-9]+)\]")


@dataclass(frozen=True)
class StoredBranch:
    """A branch of numbers in the file."""

    name: str
    title: str
    dtype: np.dtype[np.generic]  # type of the numbers in the file, big-endian
    dimensions: tuple[int, ...]  # of an array for each event, or for each element of a list; empty for a number
    counter: str | None  # the branch with the lengths of the lists; None without lists
    uncompressed_bytes: int  # of all baskets
    seek: NDArray[np.int64]  # where each basket begins
    size: NDArray[np.int64]  # its number of bytes
    entries: NDArray[np.int64]  # the first entry of each basket, and the number of entries

    @property
    def entry_offsets(self) -> list[int]:
        """`entries`, as in uproot's branches."""
        return self.entries.tolist()


TreeBranch = Union[StoredBranch, uproot.TBranch]
Branches = Mapping[str, TreeBranch]  # by their names, as they are in the file


class StoredBranches(Branches):
    """The branches of a TTree by their names, each read when it is first asked for, as most never are.

    `content` is the decompressed tree, behind a key of a length that reference numbers include; `others` gives a branch that
    `StoredBranch` cannot describe, by its name. An OtherTreeError says that not even the branches are known.
    """

    def __init__(self, content: bytes, key_length: int, others: Callable[[str], uproot.TBranch]) -> None:
        self._content, self._key_length, self._others = content, key_length, others
        try:
            self.entries, self._places = _Parser(content, key_length).tree()
        except _ERRORS as problem:
            raise OtherTreeError from problem
        self._names, self._begins = list(self._places), [begin for begin, _ in self._places.values()]
        self._leaves: dict[str, int] = {}  # their places, by the names of branches
        self._known: dict[str, TreeBranch] = {}

    def __getitem__(self, name: str) -> TreeBranch:
        if name not in self._known:
            place = self._places[name]
            try:
                self._known[name] = self._stored(name, *place)
            except _ERRORS:
                self._known[name] = self._others(name)
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _stored(self, name: str, begin: int, end: int) -> StoredBranch:
        branch, leaf, counted_by = _Parser(self._content, self._key_length, begin).branch(end)
        if branch.name != name:
            raise OtherTreeError
        self._leaves[name] = leaf
        if not counted_by:
            return branch
        if not self._begins[0] <= counted_by < begin:  # the counter is no branch before this one
            raise OtherTreeError
        counter = self._names[bisect_right(self._begins, counted_by) - 1]
        if not isinstance(self[counter], StoredBranch) or self._leaves[counter] != counted_by:
            raise OtherTreeError
        return replace(branch, counter=counter)


@cache
def _dtype(kind: str, is_unsigned: bool) -> np.dtype[np.generic]:
    return np.dtype(_TYPES[kind].replace("i", "u") if is_unsigned else _TYPES[kind])


class OtherTreeError(Exception):
    """The bytes are not as expected."""


_ERRORS = (OtherTreeError, struct.error, LookupError, ValueError)


class _Parser:
    """Reads the bytes of a tree, from the position `at`."""

    def __init__(self, content: bytes, key_length: int, at: int = 0) -> None:
        self._content, self._key_length, self._at = content, key_length, at

    def tree(self) -> tuple[int, dict[str, tuple[int, int]]]:
        """The number of entries, and where each branch begins and ends."""
        self._enter(_TREE, len(self._content))
        self._named()
        for _ in range(3):  # TAttLine, TAttFill, TAttMarker
            self._skip()
        entries, *_, ranges = self._take(_ENTRIES)[:11]
        self._at += 2 * (1 + 8 * ranges)
        self._skip()  # TIOFeatures
        found = {}
        for _ in range(self._array()):
            end = self._object("TBranch")[0]
            begin, self._at = self._at, self._at + _HEADER.size + _NAMED.size
            name = self._string()
            if end < self._at or name in found:
                raise OtherTreeError
            found[name] = begin, end
            self._at = end
        return entries, found

    def branch(self, end: int) -> tuple[StoredBranch, int, int]:
        """A branch, still without its counter; where its leaf is, and where that of its counter, or 0."""
        self._enter(_BRANCH, end)
        name, title = self._named()
        self._skip()  # TAttFill
        *_, baskets, _ = self._take(_FILL)
        self._skip()  # TIOFeatures
        _, room, _, entries, _, uncompressed, _, *arrays = self._take(_SIZES)
        branches, leaves = arrays[:6], arrays[6:]
        for _, version, object_version, bits, unnamed, _ in (branches, leaves):
            if version != _ARRAY or object_version != 1 or bits & _REFERENCED or unnamed:
                raise OtherTreeError
        if branches[0] != _EMPTY or branches[5] or leaves[5] != 1 or baskets >= room:
            raise OtherTreeError
        leaves_end = self._at - _EMPTY + leaves[0]
        leaf = self._at
        dtype, dimensions, counted_by = self._leaf()
        if self._at != leaves_end:
            raise OtherTreeError
        self._skip()  # baskets in memory
        content = self._content
        sizes, starts, seek = self._at + 1, self._at + 2 + 4 * room, self._at + 3 + 12 * room
        last = _LONG.unpack_from(content, starts + 8 * baskets)[0]
        self._at = seek + 8 * room
        if last != entries or self._string():  # some baskets are in memory, or in another file
            raise OtherTreeError
        branch = StoredBranch(
            name,
            title,
            dtype,
            dimensions,
            None,
            uncompressed,
            np.frombuffer(content, ">i8", baskets, seek),
            np.frombuffer(content, ">i4", baskets, sizes),
            np.frombuffer(content, ">i8", baskets + 1, starts),
        )
        if self._at != end:
            raise OtherTreeError
        return branch, leaf, counted_by

    def _leaf(self) -> tuple[np.dtype[np.generic], tuple[int, ...], int]:
        end, kind = self._object("TLeaf")
        kind = kind[5:]
        self._enter(1, end)
        common_end = self._enter(_LEAF)
        title = self._named()[1]
        numbers, _, _, _, is_unsigned, counted_by = self._take(_LENGTHS)
        if self._at != common_end or kind not in _TYPES or counted_by & _COUNTED:
            raise OtherTreeError
        dimensions = tuple(map(int, _DIMENSION.findall(title))) if "[" in title else ()
        dtype = _dtype(kind, is_unsigned)
        self._at += 2 * dtype.itemsize  # the smallest and the largest number
        if numbers != prod(dimensions) or self._at != end:
            raise OtherTreeError
        return dtype, dimensions, self._place(counted_by) if counted_by else 0

    def _place(self, reference: int) -> int:
        """Where the object with a reference number begins."""
        return reference - self._key_length - _MAP_OFFSET

    def _take(self, form: struct.Struct) -> tuple[Any, ...]:
        found = form.unpack_from(self._content, self._at)
        self._at += form.size
        return found

    def _enter(self, version: int, expected_end: int | None = None) -> int:
        """Enter an object of a class of this version; return where it ends."""
        follow, found = self._take(_HEADER)
        end: int = self._at - 2 + (follow & ~_COUNTED)
        if found != version or not follow & _COUNTED or expected_end not in (None, end):
            raise OtherTreeError
        return end

    def _skip(self) -> None:
        follow, version = self._take(_HEADER)
        if not follow & _COUNTED or version & _MEMBERWISE:
            raise OtherTreeError
        self._at += (follow & ~_COUNTED) - 2

    def _string(self) -> str:
        length = self._content[self._at]
        self._at += 1
        if length == 255:
            length = self._take(_TAG)[0]
        self._at += length
        return self._content[self._at - length : self._at].decode(errors="surrogateescape")

    def _named(self) -> tuple[str, str]:
        begin = self._at + _TAG.size
        follow, *versions, bits = self._take(_NAMED)
        name, title = self._string(), self._string()
        if follow != (self._at - begin) | _COUNTED or versions != [1, 1] or bits & _REFERENCED:
            raise OtherTreeError
        return name, title

    def _array(self) -> int:
        """Enter a TObjArray; return its length."""
        self._enter(_ARRAY)
        version, bits = self._take(_TOBJECT)
        if version != 1 or bits & _REFERENCED:
            raise OtherTreeError
        self._string()
        number: int = self._take(_INT)[0]
        self._at += _INT.size
        return number

    def _object(self, kind: str) -> tuple[int, str]:
        """Enter an object whose class begins with `kind`; return where it ends, and its class."""
        count = self._take(_TAG)[0]
        if not count & _COUNTED:
            raise OtherTreeError
        end: int = self._at + (count & ~_COUNTED)
        place = self._at
        tag = self._take(_TAG)[0]
        if tag != _NEW_CLASS:
            place = self._place(tag & ~_IS_CLASS)
        name = self._class(place)
        if tag == _NEW_CLASS:
            self._at += len(name) + 1
        if not name.startswith(kind) or (kind == "TBranch" != name):
            raise OtherTreeError
        return end, name

    def _class(self, place: int) -> str:
        """The name of the class that an object introduces at a place."""
        name = place + _TAG.size
        if self._content[place:name] != _NEW_CLASS.to_bytes(4, "big"):
            raise OtherTreeError
        return self._content[name : self._content.index(b"\0", name)].decode()
