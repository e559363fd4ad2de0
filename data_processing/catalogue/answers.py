"""What the catalogue answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Optional

from data_processing.datasets.files import FileInfo

_ADLER = re.compile("[0-9a-fA-F]{1,8}")
_LFN = re.compile(r"/store/[A-Za-z0-9._/=+:,-]+")


class RefusedError(Exception):
    """The catalogue refuses the question: it is wrong, or one may not ask it."""


class NoAnswerError(Exception):
    """There is no answer now; `may_pass` says whether there may be one a moment later."""

    def __init__(self, text: str, may_pass: bool = True) -> None:
        super().__init__(text)
        self.may_pass = may_pass


@dataclass(frozen=True)
class CatalogueEntry:
    """A dataset, /PRIMARY/PROCESSED/TIER, and its status: VALID, PRODUCTION, INVALID, DEPRECATED or DELETED."""

    name: str
    status: str


@dataclass(frozen=True)
class DatasetReplica:
    """What a site, such as T2_DE_DESY, has of a dataset: on "DISK" or "TAPE", and how much of it [%]."""

    name: str
    kind: str
    share: float

    @property
    def has_all(self) -> bool:
        """Whether all of the dataset can be read there at once."""
        return self.kind == "DISK" and self.share >= 100


@dataclass(frozen=True)
class FileList:
    """The valid files of a dataset, in the order of their names.

    Attributes
    ----------
    files
        Under their logical names.
    invalid
        Number of other files, which must not be used.
    sites
        Where the dataset is; None if that is not known.
    date
        When the catalogue said so.
    source
        Who was asked.
    """

    files: Sequence[FileInfo]
    invalid: int
    sites: Optional[Sequence[DatasetReplica]]
    date: datetime
    source: str


def file_of(name: Any, events: Any, size: Any, adler32: Any, block: Any, valid: Any) -> FileInfo:
    """A file of the catalogue; NoAnswerError if what was sent is not one."""
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
