"""Deflates by Intel's ISA-L, where there is the package isal; in CMSSW there is none.

Once in some thousand blocks, and only while other threads work, ISA-L finds other repetitions in the same content: that is
inflated to the same, but whoever compares files must compare what they contain, and not their bytes.
"""

from __future__ import annotations

from typing import Any, Optional

import uproot

try:
    from isal import isal_zlib
except ImportError:
    isal_zlib = None  # type: ignore[assignment]

__all__ = ["Zlib", "fast_deflate"]

_OF_ISAL = 2
"""Level of ISA-L that leaves 1 to 2 % more of NanoAOD than zlib's level 5 does, in a tenth of its time."""
_LAST = 5
"""Highest of zlib's levels that it takes the place of."""


def fast_deflate(content: Any, level: int) -> Optional[bytes]:
    """Bytes that zlib inflates; None if ISA-L is not installed.

    Parameters
    ----------
    content
        Anything that has bytes.
    level
        Of ISA-L, 0 to 3.
    """
    if isal_zlib is None:
        return None
    # not by its `compress`, which starts from what is left in memory: other bytes come out more often
    fast = isal_zlib.compressobj(level)
    return bytes(fast.compress(content) + fast.flush())


class Zlib(uproot.ZLIB):  # type: ignore[misc]
    """As uproot's, and up to level 5 by ISA-L."""

    @property
    def code_pair(self) -> tuple[int, int]:
        """Number of the algorithm, and level; uproot knows it of its own classes alone."""
        pair: tuple[int, int] = uproot.ZLIB(self.level).code_pair
        return pair

    def compress(self, data: Any) -> bytes:
        """Compress a block."""
        fast = fast_deflate(data, _OF_ISAL) if self.level <= _LAST else None
        return super().compress(data) if fast is None else fast
