"""The description of an RNTuple, as ROOT's specification has it, and its pages: numbers of one column.

uproot makes several objects for each field and page, inflates by zlib and builds an awkward array, which takes four to fifteen times
as long for the 740 branches of NanoAOD. Here a list of pages is read when its column is. Some encodings of pages no NanoAOD has: they
are left to uproot.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.rootio.compression import decompressed
from MLTools.NanoML.rootio.lists import Array

_HEADER, _FOOTER, _PAGES = 1, 2, 3  # kinds of envelopes
_WORD = struct.Struct("<Q")
_SIZE = struct.Struct("<q")  # of a frame; negative for that of a list
_COUNT = struct.Struct("<I")
_FIELD = struct.Struct("<8xIHH")  # parent, role, flags
_COLUMN = struct.Struct("<H2xIHH")  # type, field, flags, number of the representation
_GROUP = struct.Struct("<16xIQiQ")  # clusters, bytes of their pages when decompressed; bytes, place
_CLUSTER = struct.Struct("<QQ")  # first entry, entries and flags
_REPEATED, _PROJECTED, _LATE = 1, 2, 1
_PAGE = np.dtype([("elements", "<i4"), ("size", "<i4"), ("seek", "<u8")])
_ENTRIES = (1 << 56) - 1

Get = Callable[[int, int], bytes]
"""Gives the bytes of a file: get(seek, size)."""


class FieldRecord(NamedTuple):
    """A field."""

    parent: int  # number of the field that it is in; its own at the top
    role: int  # 0: a leaf, 1: a collection, 2: a record
    name: str
    kind: str  # its C++ type
    title: str
    repetition: int  # length of an array of fixed size, or 0
    source: Optional[int]  # number of the field of which it is another name


class ColumnRecord(NamedTuple):
    """A column."""

    kind: int  # how its numbers are stored
    field: int  # number of the field that it belongs to
    representation: int  # not 0 if it is another way to store the numbers of a field
    first: int  # the first element that is stored, as those before are zero


class Cluster(NamedTuple):
    """A range of entries, and where in `content` the lists of the pages of its columns are."""

    first: int
    entries: int
    content: bytes
    places: list[int]

    def pages(self, column: int) -> NDArray[np.void]:
        """The pages of a column: numbers of elements and bytes, and places; none if it came later, or is stored in another way."""
        if column >= len(self.places):
            return np.empty(0, _PAGE)
        place = self.places[column] + _SIZE.size
        [count] = _COUNT.unpack_from(self.content, place)
        found = np.frombuffer(self.content, _PAGE, count, place + _COUNT.size)
        if (found["size"] < 0).any():
            raise ValueError("pages are not simply in the file")
        return found


@dataclass(frozen=True)
class Description:
    """The description of an RNTuple."""

    fields: list[FieldRecord]
    columns: list[ColumnRecord]
    clusters: list[Cluster]

    @classmethod
    def read(cls, members: Any, get: Get) -> Description:
        """From the members of uproot's RNTuple. Raises Exception if the file is damaged."""

        def envelope(kind: int, seek: int, size: int, full: int) -> bytes:
            return _envelope(kind, get(seek, size), size, full)

        header = envelope(_HEADER, *(members[f"f{name}Header"] for name in ("Seek", "NBytes", "Len")))
        footer = envelope(_FOOTER, *(members[f"f{name}Footer"] for name in ("Seek", "NBytes", "Len")))
        position = 2 * _WORD.size
        for _ in range(3):  # name, description, writer
            position += _COUNT.size + _COUNT.unpack_from(header, position)[0]
        fields, columns, _ = _schema(header, position)
        later, more, position = _schema(footer, 3 * _WORD.size + _SIZE.size)
        clusters = []
        for place in _frames(footer, position)[0]:
            _, full, size, seek = _GROUP.unpack_from(footer, place + _SIZE.size)
            clusters += _clusters(envelope(_PAGES, seek, size, full))
        return cls(fields + later, columns + more, clusters)


def _envelope(kind: int, raw: bytes, size: int, full: int) -> bytes:
    import xxhash  # it comes with an uproot that reads RNTuples

    content = bytes(decompressed(memoryview(raw), full)) if size != full else raw
    [word] = _WORD.unpack_from(content)
    if word & 0xFFFF != kind or word >> 16 != full or len(content) != full:
        raise ValueError(f"no envelope of kind {kind} and {full} bytes")
    if xxhash.xxh3_64_intdigest(content[:-8]) != _WORD.unpack_from(content, full - 8)[0]:
        raise ValueError("a checksum is wrong")
    if kind != _PAGES and _WORD.unpack_from(content, _WORD.size)[0]:
        raise ValueError("it has features that are not known")
    return content


def _frames(content: bytes, position: int) -> tuple[list[int], int]:
    """Where the frames of a list begin, and where the list ends."""
    [size] = _SIZE.unpack_from(content, position)
    [count] = _COUNT.unpack_from(content, position + _SIZE.size)
    end, place, found = position - size, position + _SIZE.size + _COUNT.size, []
    for _ in range(count):
        found.append(place)
        place += abs(_SIZE.unpack_from(content, place)[0])
    if not position < place <= end <= len(content):
        raise ValueError("a list ends before its frames do")
    return found, end


def _schema(content: bytes, position: int) -> tuple[list[FieldRecord], list[ColumnRecord], int]:
    """Fields and columns, and where their description ends."""
    places, position = _frames(content, position)
    fields = [_field(content, place + _SIZE.size) for place in places]
    places, position = _frames(content, position)
    columns = [_column(content, place + _SIZE.size) for place in places]
    for _ in range(2):  # names of columns for aliases, and types
        _, position = _frames(content, position)
    return fields, columns, position


def _field(content: bytes, position: int) -> FieldRecord:
    parent, role, flags = _FIELD.unpack_from(content, position)
    position += _FIELD.size
    texts = []
    for _ in range(4):  # name, type, alias of the type, title
        [length] = _COUNT.unpack_from(content, position)
        begin = position + _COUNT.size
        position = begin + length
        texts.append(content[begin:position].decode())
    repetition, source = 0, None
    if flags & _REPEATED:
        [repetition] = _WORD.unpack_from(content, position)
        position += _WORD.size
    if flags & _PROJECTED:
        [source] = _COUNT.unpack_from(content, position)
    return FieldRecord(parent, role, texts[0], texts[1], texts[3], repetition, source)


def _column(content: bytes, position: int) -> ColumnRecord:
    kind, field, flags, representation = _COLUMN.unpack_from(content, position)
    first = _WORD.unpack_from(content, position + _COLUMN.size)[0] if flags & _LATE else 0
    return ColumnRecord(kind, field, representation, first)


def _clusters(content: bytes) -> list[Cluster]:
    summaries, position = _frames(content, 2 * _WORD.size)
    lists, _ = _frames(content, position)
    found = []
    for summary, place in zip(summaries, lists):
        first, entries = _CLUSTER.unpack_from(content, summary + _SIZE.size)
        found.append(Cluster(first, entries & _ENTRIES, content, _frames(content, place)[0]))
    return found


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


def numbers_of(raw: bytes, place: tuple[int, int], elements: int, kind: int) -> Array:
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


def bytes_of(values: Array, kind: int) -> bytes:
    """A page with these numbers, before it is compressed."""
    dtype = np.dtype(TYPES[kind])
    if kind == BITS:
        return np.packbits(values.astype(np.bool_, copy=False), bitorder="little").tobytes()
    numbers = values.astype(dtype, copy=False)
    if kind in PLAIN:
        return numbers.tobytes()
    if kind in DELTA:
        numbers = np.diff(numbers, prepend=dtype.type(0))
    if kind in ZIGZAG:
        numbers = (numbers << 1) ^ (numbers >> (8 * dtype.itemsize - 1))
    return np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, dtype.itemsize).T.tobytes()


def _unsplit(rows: NDArray[np.uint8]) -> NDArray[np.integer]:
    """Unsigned integers from their bytes, row by row from the lowest; their halves are joined, which a processor does fast."""
    if len(rows) == 1:
        return rows[0]
    half = len(rows) // 2
    numbers = _unsplit(rows[half:]).astype(f"u{len(rows)}")
    numbers <<= numbers.dtype.type(4 * len(rows))
    numbers |= _unsplit(rows[:half])
    return numbers
