"""What the catalogue answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Optional

__all__ = ["Entry", "FileInfo", "NoAnswerError", "RefusedError", "Site", "count", "file_of"]

_ADLER = re.compile("[0-9a-fA-F]{1,8}")
_LFN = re.compile(r"/store/[A-Za-z0-9._/=+:,-]+")


class RefusedError(Exception):
    """The answer is that there is none: the question is wrong, or one may not ask it."""


class NoAnswerError(Exception):
    """There is no answer now.

    Attributes
    ----------
    may_pass
        Whether the same question may be answered a moment later.
    """

    def __init__(self, text: str, may_pass: bool = True) -> None:
        super().__init__(text)
        self.may_pass = may_pass


@dataclass(frozen=True)
class Entry:
    """A dataset.

    Attributes
    ----------
    name
        /PRIMARY/PROCESSED/TIER.
    status
        VALID, PRODUCTION, INVALID, DEPRECATED or DELETED.
    """

    name: str
    status: str


@dataclass(frozen=True)
class FileInfo:
    """A file of events, and what is known of it before it is read.

    Attributes
    ----------
    name
        Path or URL to read it by; in answers of the catalogue, its logical name (/store/...).
    events
        How many there are in it.
    size
        In bytes.
    adler32
        Checksum of its content, eight hexadecimal digits.
    valid
        False if the catalogue says that it must not be used.
    sites
        Sites that have all of its dataset on disk.
    block
        The part of its dataset that it belongs to.
    """

    name: str
    events: Optional[int] = None
    size: Optional[int] = None
    adler32: Optional[str] = None
    valid: bool = True
    sites: tuple[str, ...] = ()
    block: str = ""


@dataclass(frozen=True)
class Site:
    """A place that has a dataset.

    Attributes
    ----------
    name
        As in T2_DE_DESY.
    kind
        "DISK" or "TAPE".
    share
        How much of the dataset it has [%].
    """

    name: str
    kind: str
    share: float

    @property
    def has_all(self) -> bool:
        """Whether all of the dataset can be read there at once."""
        return self.kind == "DISK" and self.share >= 100


def file_of(name: Any, events: Any, size: Any, adler32: Any, block: Any, valid: Any) -> FileInfo:
    """A file of the catalogue, if that is what was sent.

    Raises
    ------
    NoAnswerError
        It is none.
    """
    if not (isinstance(name, str) and _LFN.fullmatch(name)):
        raise NoAnswerError(f"the answer has a file without a proper name ({name!r})")
    return FileInfo(
        name,
        count(events),
        count(size),
        adler32.lower().zfill(8) if isinstance(adler32, str) and _ADLER.fullmatch(adler32) else None,
        valid not in (0, False),
        (),
        block if isinstance(block, str) else "",
    )


def count(value: Any) -> Optional[int]:
    """A whole number; some versions of dasgoclient write 1200000 as 1.2e+06."""
    return int(value) if isinstance(value, (int, float)) and value >= 0 and value == int(value) else None
