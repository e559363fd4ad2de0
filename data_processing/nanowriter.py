"""Writes NanoAOD: a TTree of flat branches and of collections with their counters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.rootfile import PROVENANCE, Branch

__all__ = ["NanoWriter", "compression_of"]

_ALGORITHMS = {"ZSTD": uproot.ZSTD, "LZMA": uproot.LZMA, "ZLIB": uproot.ZLIB, "LZ4": uproot.LZ4}
_ROWS_PER_BASKET = 50_000


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


def _jagged(content: str) -> Any:
    # older uproot takes a type in words for a numpy type and fails: give it the type itself
    return ak.types.from_datashape(f"var * {content}", highlevel=False)


class NanoWriter:
    """Writes a ROOT file with a tree `Events`, and copies of other trees.

    Rows are collected and written in large baskets, because small ones are slow to read.

    Parameters
    ----------
    path
        The file to be written; it must not be in use.
    branches
        What the tree has. Jagged branches of one collection share its counter `nCOLLECTION`.
    compression
        As in `compression_of`.
    """

    def __init__(self, path: Path, branches: Mapping[str, Branch], compression: str) -> None:
        self._file = uproot.recreate(path, compression=compression_of(compression))
        self._branches = dict(branches)
        self._pending: list[dict[str, ak.Array]] = []
        self._rows = 0
        self.entries = 0
        self._tree = self._file.mktree(
            "Events",
            self._types(),
            title="Events",
            counter_name=lambda counted: "n" + counted,
            field_name=lambda outer, inner: inner if outer == "" else f"{outer}_{inner}",
        )

    def __enter__(self) -> NanoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _collections(self) -> dict[str, list[Branch]]:
        found: dict[str, list[Branch]] = {}
        for branch in self._branches.values():
            if branch.is_jagged and branch.collection is not None and branch.collection != branch.name:
                found.setdefault(branch.collection, []).append(branch)
        return found

    def _types(self) -> dict[str, Any]:
        collections = self._collections()
        grouped = {branch.name for members in collections.values() for branch in members}
        types: dict[str, Any] = {}
        for branch in self._branches.values():
            if branch.name not in grouped:
                types[branch.name] = _jagged(str(branch.dtype)) if branch.is_jagged else branch.dtype
        for name, members in collections.items():
            fields = ", ".join(f'"{branch.field}": {branch.dtype}' for branch in members)
            types[name] = _jagged(f"{{{fields}}}")
        return types

    def extend(self, arrays: Mapping[str, Any]) -> None:
        """Add rows.

        Parameters
        ----------
        arrays
            Every branch, all of the same length.
        """
        length = len(next(iter(arrays.values())))
        if length == 0:
            return
        self._pending.append({name: ak.Array(arrays[name]) for name in self._branches})
        self._rows += length
        if self._rows >= _ROWS_PER_BASKET:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        joined = {
            name: ak.concatenate([part[name] for part in self._pending])
            if len(self._pending) > 1
            else self._pending[0][name]
            for name in self._branches
        }
        self._pending = []
        self.entries += self._rows
        self._rows = 0
        self._tree.extend(self._zipped(joined))

    def _zipped(self, arrays: dict[str, ak.Array]) -> dict[str, Any]:
        rows: dict[str, Any] = {}
        grouped: set[str] = set()
        for name, members in self._collections().items():
            rows[name] = ak.zip({branch.field: arrays[branch.name] for branch in members})
            grouped.update(branch.name for branch in members)
        for name, array in arrays.items():
            if name not in grouped:
                rows[name] = array if self._branches[name].is_jagged else np.asarray(ak.to_numpy(array))
        return rows

    def copy_tree(self, name: str, arrays: Mapping[str, ak.Array]) -> bool:
        """Write another, small tree; False if it has branches that cannot be written."""
        types: dict[str, Any] = {}
        jagged = {key for key, array in arrays.items() if array.ndim > 1}
        for key, array in arrays.items():
            if array.ndim > 2:
                return False
            try:
                kind = str(np.asarray(ak.to_numpy(ak.flatten(array) if key in jagged else array)).dtype)
            except (ValueError, TypeError):
                return False
            if np.dtype(kind).kind not in "biuf":
                return False
            types[key] = _jagged(kind) if key in jagged else kind
        for key in jagged:  # its counter is written with it
            types.pop("n" + key, None)
        if not types:
            return False
        tree = self._file.mktree(name, types, title=name, counter_name=lambda counted: "n" + counted)
        tree.extend({key: arrays[key] for key in types})
        return True

    def write_string(self, key: str, text: str) -> None:
        """Write a TObjString."""
        self._file[key] = text

    def finish(self, provenance: str | None = None) -> None:
        """Write what is pending, and the record of where the file comes from."""
        self._flush()
        if provenance is not None:
            self.write_string(PROVENANCE, provenance)
