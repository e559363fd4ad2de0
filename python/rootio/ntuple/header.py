"""What describes an RNTuple: header, footer and lists of pages, as ROOT's specification has them.

uproot makes several objects for each field and page, which takes four times as long for the 740 branches of NanoAOD. Here a
list of pages is read when its column is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.rootio.compression import decompressed

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

    def pages(self, column: int) -> NDArray[Any]:
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
    """What describes an RNTuple."""

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
