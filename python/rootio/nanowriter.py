"""Writes NanoAOD files."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uproot

from MLTools.NanoML.contracts.provenance import RECORD_BRANCHES, Provenance
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.rootio.deflate import Zlib
from MLTools.NanoML.rootio.nanotree import NanoTree
from MLTools.NanoML.rootio.rootfile import PROVENANCE, Branch

__all__ = ["NanoWriter", "compression_of"]

_ALGORITHMS = {"ZSTD": uproot.ZSTD, "LZMA": uproot.LZMA, "ZLIB": Zlib, "LZ4": uproot.LZ4}


def compression_of(text: str) -> Any:
    """Uproot's compression for "ALGORITHM:LEVEL", as in ZLIB:5.

    Raises
    ------
    ConfigError
        There is no such algorithm or level, or the package that it needs is not installed.
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
        raise ConfigError(
            f'compression "{text}": needs the Python package {needs}. ZLIB and LZMA need none.'
        ) from None
    return found


class NanoWriter:
    """Writes a ROOT file with a tree `Events`, and copies of other trees.

    Parameters
    ----------
    path
        The file to be written; it must not be in use.
    branches
        What `Events` has, as in `NanoTree`.
    compression
        As in `compression_of`.
    """

    def __init__(self, path: Path, branches: Mapping[str, Branch], compression: str) -> None:
        codec = compression_of(compression)
        stream = open(path, "w+b")  # noqa: SIM115
        try:
            self._file = uproot.recreate(stream, compression=codec)
        except BaseException:
            # left open on a full disk, it would fail once more when Python collects it, with a traceback on the terminal
            with contextlib.suppress(OSError):
                stream.close()
            raise
        self.events = NanoTree(self._file, "Events", branches)

    def __enter__(self) -> NanoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write_tree(self, name: str, branches: Mapping[str, Branch], arrays: Mapping[str, Any]) -> None:
        """Write another, small tree."""
        tree = NanoTree(self._file, name, branches)
        tree.extend(arrays)
        tree.flush()

    def write_object(self, name: str, content: Any) -> None:
        """Write a string, or a histogram that uproot has read."""
        self._file[name] = content

    def finish(self, record: Provenance | None = None) -> None:
        """Write what is pending, and the record of where the file comes from."""
        self.events.flush()
        if record is not None:
            self.write_tree(PROVENANCE, RECORD_BRANCHES, record.rows())
