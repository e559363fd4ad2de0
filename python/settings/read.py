"""The section `read`: reading files over the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union

__all__ = ["LOSS", "Read"]

LOSS = {
    "pattern": r"[0-9]+|(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*%",
    "form": 'a number of files, or a percentage such as "1 %"',
}
"""What may be said of a loss."""

_SERVER = {"pattern": r"x?roots?://[^/\s]+/*", "form": "a server such as root://cms-xrd-global.cern.ch/"}


@dataclass(frozen=True)
class Read:
    """Reading files over the network."""

    redirectors: list[str] = field(
        default_factory=lambda: [
            "root://cms-xrd-global.cern.ch/",
            "root://xrootd-cms.infn.it/",
            "root://cmsxrootd.fnal.gov/",
        ],
        metadata={
            "doc": "Servers that know where the files of CMS are. A file with a logical name, /store/..., that cannot be "
            "read from its own server is asked for at each of them, in this order.",
            "items": _SERVER,
            "minItems": 1,
            "uniqueItems": True,
        },
    )
    tries: int = field(default=3, metadata={"doc": "How often each server is tried, at most.", "minimum": 1})
    timeout: int = field(
        default=60, metadata={"doc": "How long a server may not answer [s].", "minimum": 1, "maximum": 3600}
    )
    copy: bool = field(
        default=False,
        metadata={"doc": "True to copy each file to a temporary directory first, and to read it there."},
    )
    max_missing_files: Union[str, int] = field(
        default=0,
        metadata={
            "doc": "How many files of a dataset may be left out because they cannot be read: a number, or a percentage.",
            **LOSS,
            "minimum": 0,
            "examples": [3, "1 %"],
        },
    )
