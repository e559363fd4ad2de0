"""Decompresses the baskets of some branches with uproot, and does nothing else with them: no skim can do less.

    python bench/skim_baskets.py FILE PATTERN...

uproot opens the file, finds the branches and says where their baskets are. Each basket is read from the file and
decompressed by what uproot itself uses; its numbers are neither interpreted nor kept. uproot's own `TBranch.basket` takes
half as long again, since it also makes an object of each basket.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence

import numpy as np
import uproot

_KEY = struct.Struct(">4x2xi4xh")  # of a basket: bytes of its content, and of the key


class _Source:
    """What uproot asks of a file to report errors."""

    def __init__(self, file_path: str) -> None:
        self.file_path = file_path


def decompress(path: str, patterns: Sequence[str]) -> int:
    """Decompress all baskets of the branches of the tree Events that match patterns; return their number of bytes."""
    total, source = 0, _Source(path)
    with uproot.open(path) as file, open(path, "rb") as stream:
        events = file["Events"]
        for name in events.keys(filter_name=list(patterns)):
            branch = events[name]
            places = (
                branch.member(member)[: branch.num_baskets].tolist() for member in ("fBasketSeek", "fBasketBytes")
            )
            for seek, size in zip(*places):
                raw = os.pread(stream.fileno(), size, seek)
                full, key = _KEY.unpack_from(raw)
                total += full
                if full > size - key:  # else it is not compressed
                    chunk = uproot.source.chunk.Chunk.wrap(source, np.frombuffer(raw, np.uint8))
                    uproot.compression.decompress(chunk, uproot.source.cursor.Cursor(key), {}, size - key, full)
    return total


if __name__ == "__main__":
    sys.stdout.write(f"{decompress(sys.argv[1], sys.argv[2:])} bytes\n")
