"""The branches of a TTree, from its bytes in the file.

For each of the thousand branches of NanoAOD, few of which are ever used, uproot makes dozens of objects, which takes longer
than reading some of them. Here it is one object, with what is needed to describe a branch and to find its baskets.
The format is that of ROOT 6; a tree with anything but numbers and lists of numbers is left to uproot.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np
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
    dtype: np.dtype[Any]  # type of the numbers in the file, big-endian
    dimensions: tuple[int, ...]  # of an array for each event, or for each element of a list; empty for a number
    counter: str | None  # the branch with the lengths of the lists; None without lists
    uncompressed_bytes: int  # of all baskets
    seek: NDArray[np.int64]  # where each basket begins
    size: NDArray[np.int64]  # its number of bytes
    entries: NDArray[np.int64]  # the first entry of each basket, and the number of entries

    @property
    def entry_offsets(self) -> list[int]:
        """`entries`, as in uproot's branches."""
        found: list[int] = self.entries.tolist()
        return found


def stored_branches(content: bytes, key_length: int) -> tuple[int, Mapping[str, StoredBranch]] | None:
    """The number of entries of a TTree, and its branches; None if `StoredBranch` cannot describe all of them.

    `content` is the decompressed tree, `key_length` the length of the key before it, which reference numbers include.
    """
    try:
        return _TreeParser(content, key_length).tree()
    except (_OtherError, struct.error, LookupError, ValueError):
        return None


@cache
def _dtype(kind: str, is_unsigned: bool) -> np.dtype[Any]:
    return np.dtype(_TYPES[kind].replace("i", "u") if is_unsigned else _TYPES[kind])


class _OtherError(Exception):
    """The bytes are not as expected."""


class _TreeParser:
    """Reads the bytes of a tree; `_at` is its position."""

    def __init__(self, content: bytes, key_length: int) -> None:
        self._content, self._key_length, self._at = content, key_length, 0
        self._classes: dict[int, str] = {}
        self._leaves: dict[int, str] = {}

    def tree(self) -> tuple[int, dict[str, StoredBranch]]:
        self._enter(_TREE, len(self._content))
        self._named()
        for _ in range(3):  # TAttLine, TAttFill, TAttMarker
            self._skip()
        entries, *_, ranges = self._take(_ENTRIES)[:11]
        self._at += 2 * (1 + 8 * ranges)
        self._skip()  # TIOFeatures
        found = {}
        for _ in range(self._array()):
            end = self._object("TBranch")
            branch = self._branch(end)
            if self._at != end or branch.name in found:
                raise _OtherError
            found[branch.name] = branch
        return entries, found

    def _branch(self, end: int) -> StoredBranch:
        self._enter(_BRANCH, end)
        name, title = self._named()
        self._skip()  # TAttFill
        *_, baskets, _ = self._take(_FILL)
        self._skip()  # TIOFeatures
        _, room, _, entries, _, uncompressed, _, *arrays = self._take(_SIZES)
        branches, leaves = arrays[:6], arrays[6:]
        for _, version, object_version, bits, unnamed, _ in (branches, leaves):
            if version != _ARRAY or object_version != 1 or bits & _REFERENCED or unnamed:
                raise _OtherError
        if branches[0] != _EMPTY or branches[5] or leaves[5] != 1 or baskets >= room:
            raise _OtherError
        leaves_end = self._at - _EMPTY + leaves[0]
        dtype, dimensions, counter = self._leaf(name)
        if self._at != leaves_end:
            raise _OtherError
        self._skip()  # baskets in memory
        content = self._content
        sizes, starts, seek = self._at + 1, self._at + 2 + 4 * room, self._at + 3 + 12 * room
        last = _LONG.unpack_from(content, starts + 8 * baskets)[0]
        self._at = seek + 8 * room
        if last != entries or self._string():  # some baskets are in memory, or in another file
            raise _OtherError
        return StoredBranch(
            name,
            title,
            dtype,
            dimensions,
            counter,
            uncompressed,
            np.frombuffer(content, ">i8", baskets, seek),
            np.frombuffer(content, ">i4", baskets, sizes),
            np.frombuffer(content, ">i8", baskets + 1, starts),
        )

    def _leaf(self, branch: str) -> tuple[np.dtype[Any], tuple[int, ...], str | None]:
        place = self._place()
        end = self._object("TLeaf")
        kind = self._last_class[5:]
        self._enter(1, end)
        common_end = self._enter(_LEAF)
        title = self._named()[1]
        numbers, _, _, _, is_unsigned, counted_by = self._take(_LENGTHS)
        if self._at != common_end or kind not in _TYPES or counted_by & _COUNTED:
            raise _OtherError  # the last: the counter comes later
        self._leaves[place] = branch
        dimensions = tuple(map(int, _DIMENSION.findall(title))) if "[" in title else ()
        counter = self._leaves[counted_by] if counted_by else None
        dtype = _dtype(kind, is_unsigned)
        self._at += 2 * dtype.itemsize  # the smallest and the largest number
        if numbers != prod(dimensions) or self._at != end:
            raise _OtherError
        return dtype, dimensions, counter

    def _place(self) -> int:
        """Reference number of the object that begins here."""
        return self._at + self._key_length + _MAP_OFFSET

    def _take(self, form: struct.Struct) -> tuple[Any, ...]:
        found = form.unpack_from(self._content, self._at)
        self._at += form.size
        return found

    def _enter(self, version: int, expected_end: int | None = None) -> int:
        """Enter an object of a class of this version; return where it ends."""
        follow, found = self._take(_HEADER)
        end: int = self._at - 2 + (follow & ~_COUNTED)
        if found != version or not follow & _COUNTED or expected_end not in (None, end):
            raise _OtherError
        return end

    def _skip(self) -> None:
        follow, version = self._take(_HEADER)
        if not follow & _COUNTED or version & _MEMBERWISE:
            raise _OtherError
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
            raise _OtherError
        return name, title

    def _array(self) -> int:
        """Enter a TObjArray; return its length."""
        self._enter(_ARRAY)
        version, bits = self._take(_TOBJECT)
        if version != 1 or bits & _REFERENCED:
            raise _OtherError
        self._string()
        number: int = self._take(_INT)[0]
        self._at += _INT.size
        return number

    def _object(self, kind: str) -> int:
        """Enter an object whose class begins with `kind`; return where it ends."""
        count = self._take(_TAG)[0]
        if not count & _COUNTED:
            raise _OtherError
        end: int = self._at + (count & ~_COUNTED)
        place = self._place()
        tag = self._take(_TAG)[0]
        if tag == _NEW_CLASS:
            stop = self._content.index(b"\0", self._at)
            self._classes[place | _IS_CLASS] = self._content[self._at : stop].decode()
            self._at, tag = stop + 1, place | _IS_CLASS
        self._last_class = self._classes[tag]
        if not self._last_class.startswith(kind) or (kind == "TBranch" != self._last_class):
            raise _OtherError
        return end
