"""The content of a NanoAOD file in short form, to compare what was written with what was read."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.histograms import bins_of, is_histogram
from MLTools.NanoML.rootio.lists import Lists, plain
from MLTools.NanoML.rootio.rootfile import PROVENANCE, RootFile, rows_at_once
from MLTools.NanoML.terminal.progress import progress

TREES = ("Runs", "LuminosityBlocks")
"""The trees that are merged beside the events."""


class Checksums:
    """Checksums of the columns of a tree, computed from chunks of rows.

    They do not depend on where a chunk ends, but on everything else: values, their types and order, lengths of lists.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._sums: dict[tuple[str, int, str], int] = {}

    def add(self, arrays: Mapping[str, Any], length: int) -> None:
        """Add all columns of a chunk of `length` rows."""
        self.rows += length
        for name, array in arrays.items():
            for number, part in enumerate(_parts(array)):
                key = (name, number, part.dtype.str)
                self._sums[key] = zlib.crc32(part.data, self._sums.get(key, 0))

    def differing(self, other: Checksums) -> list[str]:
        """Names of the columns that differ, sorted."""
        keys = {*self._sums, *other._sums}
        return sorted({key[0] for key in keys if self._sums.get(key) != other._sums.get(key)})


@dataclass
class FileContent:
    """What a file contains, but for the numbers of its trees."""

    # checksums of `Events`, and of those of `TREES` that it has
    trees: dict[str, Checksums] = field(default_factory=dict)
    strings: dict[str, str] = field(default_factory=dict)  # texts by name, without the record
    # numbers in the bins of histograms, by name
    histograms: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    accounting: Accounting = field(default_factory=Accounting)  # of its record; none without a record

    @classmethod
    def of(cls, file: RootFile, memory: float) -> FileContent:
        """Read all of a file, with chunks of events of up to `memory` MB; its trees must have numbers and lists only."""
        names, sums = _without_counters(file.branches), Checksums()
        with progress("check", file.entries, is_share=True) as bar:
            for start, stop in file.ranges(names, rows_at_once(file.bytes_per_event(names), memory)):
                sums.add(file.read_plain(names, start, stop), stop - start)
                bar.advance(stop - start)
        found = cls({"Events": sums})
        for name, kind in file.keys.items():
            if name in TREES:
                arrays = file.other_tree(name, _without_counters(file.branches_of(name))) or {}
                found.trees[name] = Checksums()
                found.trees[name].add(arrays, len(next(iter(arrays.values()), ())))
            elif kind == "TObjString":
                found.strings[name] = file.string(name) or ""
            elif is_histogram(kind):
                found.histograms[name] = bins_of(file.object(name))
        record = Provenance.of(file)
        if record is not None:
            found.accounting = record.accounting
        return found

    def differing(self, other: FileContent) -> list[str]:
        """What differs, in words."""
        found = []
        for name in {**self.trees, **other.trees}:
            one, two = self.trees.get(name, Checksums()), other.trees.get(name, Checksums())
            if one.rows != two.rows:
                found.append(f"rows of {name} ({one.rows} and {two.rows})")
            else:
                found += [f"{name}/{column}" for column in one.differing(two)]
        strings = self.strings.keys() | other.strings.keys()
        found += sorted(name for name in strings if self.strings.get(name) != other.strings.get(name))
        bins = self.histograms.keys() | other.histograms.keys()
        found += sorted(name for name in bins if not _same(self.histograms.get(name), other.histograms.get(name)))
        return found if self.accounting == other.accounting else [*found, f"the record {PROVENANCE}"]


def _without_counters(branches: Mapping[str, Branch]) -> list[str]:
    counters = {f"n{branch.collection}" for branch in branches.values() if branch.is_jagged}
    return [name for name in branches if name not in counters]


def _same(one: list[NDArray[Any]] | None, other: list[NDArray[Any]] | None) -> bool:
    return (
        one is not None
        and other is not None
        and len(one) == len(other)
        and all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other))
    )


def _parts(values: Any) -> Iterator[NDArray[Any]]:
    """The numbers of a column; for lists, their lengths first."""
    found = plain(values)
    if isinstance(found, Lists):
        yield np.diff(np.asarray(found.offsets.data))
        found = found.numbers
    yield np.ascontiguousarray(found)
