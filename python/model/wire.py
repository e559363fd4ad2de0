"""The encoding of protobuf messages, in which ONNX files are written (protobuf.dev/programming-guides/encoding).

It is for machines without the package `onnx`: neither CMSSW nor those who only score need it.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Optional, Union

__all__ = ["Content", "fields", "message", "number", "text"]

Content = Union[bytes, mmap.mmap]

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MOST = 10  # bytes of a number


def fields(
    content: Content, begin: int = 0, end: Optional[int] = None
) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message that is in `content` from `begin` to `end`.

    Yields
    ------
    Of each its number, where it starts, where its value begins and where that ends.

    Raises
    ------
    ValueError
        That is no message, or it is cut off.
    """
    here, end = begin, len(content) if end is None else end
    while here < end:
        start = here
        key, here = _varint(content, here)
        wire = key & 7
        if wire == _LENGTH:
            size, here = _varint(content, here)
        elif wire == _VARINT:
            size = _varint(content, here)[1] - here
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"there is no field type {wire}")
        stop = here + size
        if stop > end:
            raise ValueError(f"field {key >> 3} ends {stop - end:,} bytes after the end")
        yield key >> 3, start, here, stop
        here = stop


def _varint(content: Content, here: int) -> tuple[int, int]:
    """A number, and where it ends."""
    try:
        value = content[here]
        here += 1
        if value < 0x80:  # most are
            return value, here
        value &= 0x7F
        for shift in range(7, 7 * _MOST, 7):
            byte = content[here]
            here += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, here
    except IndexError:
        raise ValueError("it ends within a number") from None
    raise ValueError(f"a number has more than {_MOST} bytes")


def number(content: Content, begin: int) -> int:
    """The number whose value begins there."""
    return _varint(content, begin)[0]


def text(content: Content, begin: int, end: int) -> str:
    """The string whose value is there; what is no text in it is replaced."""
    return content[begin:end].decode("utf-8", "replace")


def message(number: int, *parts: bytes) -> bytes:
    """A field with a message (or a string) that consists of `parts`."""
    size = sum(map(len, parts))
    return b"".join((_encoded(number << 3 | _LENGTH), _encoded(size), *parts))


def _encoded(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*found, value))
