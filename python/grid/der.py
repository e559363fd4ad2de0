"""The pieces of a DER-encoded structure, as ASN.1 has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

__all__ = ["GENERALIZED_TIME", "OBJECT", "OCTETS", "SEQUENCE", "SET", "Element", "elements"]

OCTETS, OBJECT, GENERALIZED_TIME, SEQUENCE, SET = 0x04, 0x06, 0x18, 0x30, 0x31
_LONG = 0x80
_CONSTRUCTED = 0x20


@dataclass(frozen=True)
class Element:
    """A piece: what it is, and its content.

    Attributes
    ----------
    tag
        The byte that tells its type.
    content
        Its bytes, without tag and length.
    """

    tag: int
    content: bytes

    @property
    def children(self) -> list[Element]:
        """The pieces that it is made of; none of one that is not.

        Raises
        ------
        ValueError
            It is damaged.
        """
        return list(elements(self.content)) if self.tag & _CONSTRUCTED else []

    @property
    def time(self) -> datetime:
        """The moment that a GENERALIZED_TIME tells.

        Raises
        ------
        ValueError
            It tells none.
        """
        if self.tag != GENERALIZED_TIME:
            raise ValueError("no time")
        found = datetime.strptime(self.content.decode("ascii"), "%Y%m%d%H%M%SZ")
        return found.replace(tzinfo=timezone.utc)

    @property
    def oid(self) -> str:
        """The number of an OBJECT, as in "2.5.29.15"."""
        numbers, number = [], 0
        for byte in self.content:
            number = number << 7 | byte & 0x7F
            if not byte & _LONG:
                numbers.append(number)
                number = 0
        head, *rest = numbers or [0]
        first = min(head // 40, 2)
        return ".".join(map(str, (first, head - 40 * first, *rest)))

    @property
    def text(self) -> str:
        """Its content as text."""
        return self.content.decode("utf-8", "replace")


def elements(data: bytes) -> Iterator[Element]:
    """The pieces that follow each other in bytes.

    Raises
    ------
    ValueError
        They end in the middle of a piece.
    """
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise ValueError("ends early")
        tag, length, at = data[at], data[at + 1], at + 2
        if length & _LONG:
            size = length & ~_LONG
            if not 1 <= size <= 4 or at + size > len(data):
                raise ValueError("ends early")
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        if at + length > len(data):
            raise ValueError("ends early")
        yield Element(tag, data[at : at + length])
        at += length
