"""Compression of the blocks of ROOT files, by the fastest package that is installed.

Intel's ISA-L, in the package isal, does what zlib does in a tenth of the time; CMSSW does not have it. Once in some thousand
blocks, and only while other threads work, it deflates the same content in another way. The inflated content is the same, but
whoever compares files must compare what they contain, and not their bytes.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from typing import Any, Optional, Union

import uproot

from MLTools.NanoML.errors import ConfigError

try:
    from isal import isal_zlib
except ImportError:
    isal_zlib = None  # type: ignore[assignment]

Content = Union[bytes, bytearray, memoryview]
_Decompress = Callable[[memoryview, int], Content]

_ISAL_LEVEL = 2  # leaves 1 to 2 % more of NanoAOD than zlib's level 5 does
_LAST_FAST = 5  # the highest level of zlib in whose place ISA-L is used
# header of a compressed block: codec, method, its bytes, and decompressed (24 bits each)
_BLOCK = struct.Struct("<2sxHBHB")


def fast_deflate(content: Content, level: int) -> Optional[bytes]:
    """Deflate a buffer by ISA-L, with its level 0 to 3; None if it is not installed."""
    if isal_zlib is None:
        return None
    # not by its `compress`, which begins with what is left in memory: then the bytes differ more often
    fast = isal_zlib.compressobj(level)
    return bytes(fast.compress(content) + fast.flush())


class Zlib(uproot.ZLIB):  # type: ignore[misc]
    """uproot's compression by zlib, which up to level 5 is done by ISA-L."""

    @property
    def code_pair(self) -> tuple[int, int]:
        """Number of the algorithm, and level; uproot knows it for its own classes only."""
        return uproot.ZLIB(self.level).code_pair

    def compress(self, data: Content) -> bytes:
        """Compress a block."""
        fast = fast_deflate(data, _ISAL_LEVEL) if self.level <= _LAST_FAST else None
        return super().compress(data) if fast is None else fast


_ALGORITHMS = {"ZSTD": uproot.ZSTD, "LZMA": uproot.LZMA, "ZLIB": Zlib, "LZ4": uproot.LZ4}


def compression_of(text: str) -> Any:
    """Uproot's compression for "ALGORITHM:LEVEL", as in ZLIB:5.

    Raises ConfigError if there is no such algorithm or level, or the package that it needs is not installed.
    """
    algorithm, _, level = text.partition(":")
    try:
        found = _ALGORITHMS[algorithm.upper()](int(level))
        found.compress(b"try")
    except (KeyError, ValueError):
        raise ConfigError(
            f'compression "{text}": write ALGORITHM:LEVEL, as in ZLIB:5. Known: {", ".join(_ALGORITHMS)}.'
        ) from None
    except ImportError:
        needs = {"ZSTD": "zstandard", "LZ4": "lz4 and xxhash"}.get(algorithm.upper(), algorithm)
        raise ConfigError(f'compression "{text}": needs the Python package {needs}. ZLIB and LZMA need none.') from None
    return found


def decompressed(content: memoryview, full: int) -> Content:
    """The content of compressed blocks, `full` bytes.

    Raises Exception if they are damaged, or their package is not installed.
    """
    parts = []
    position = total = 0
    while position < len(content):
        codec, packed, more_packed, unpacked, more_unpacked = _BLOCK.unpack_from(content, position)
        decompress = _CODECS.get(codec)
        if decompress is None:
            raise ValueError(f"unknown compression {codec!r}")
        begin = position + _BLOCK.size
        position = begin + packed + (more_packed << 16)
        unpacked += more_unpacked << 16
        part = decompress(content[begin:position], unpacked)
        if len(part) != unpacked:
            raise ValueError(f"{len(part)} bytes where {unpacked} should be")
        parts.append(part)
        total += unpacked
    if position != len(content) or total != full:
        raise ValueError(f"{total} bytes where {full} should be")
    return parts[0] if len(parts) == 1 else b"".join(parts)


class _Zstd(threading.local):
    """Decompresses by the package zstandard, if it is there, without setting up its tables for each block."""

    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError:
            self.decompress: _Decompress = uproot.ZSTD(1).decompress
        else:
            self.decompress = zstandard.ZstdDecompressor().decompress


def inflate(content: Content, full: int) -> Content:
    """Inflate a buffer to `full` bytes, by ISA-L if it is installed.

    Raises Exception if it is damaged.
    """
    return (
        uproot.ZLIB(1).decompress(content, full) if isal_zlib is None else isal_zlib.decompress(content, bufsize=full)
    )


def _xz(block: memoryview, full: int) -> Content:
    import lzma  # takes two thirds of the time of cramjam, which newer uproot uses

    return lzma.decompress(block, lzma.FORMAT_XZ)


def _lz4(block: memoryview, full: int) -> Content:
    import xxhash  # uproot needs it for LZ4, too

    checksum, data = block[:8], block[8:]
    if xxhash.xxh64_digest(data) != checksum:
        raise ValueError("the checksum is wrong")
    return _decompress_lz4(data, full)


_zstd = _Zstd()
_decompress_lz4: _Decompress = uproot.LZ4(1).decompress
_CODECS: dict[bytes, _Decompress] = {
    b"ZL": inflate,
    b"XZ": _xz,
    b"L4": _lz4,
    b"ZS": lambda block, full: _zstd.decompress(block, full),
}
