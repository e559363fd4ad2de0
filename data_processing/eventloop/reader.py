"""Reads a file for modules: a chunk at a time, and of it only the branches that modules have asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.rootio.lists import offsets_of
from MLTools.NanoML.rootio.rootfile import RootFile

__all__ = ["Block", "Column", "MissingBranchError", "Reader"]


class MissingBranchError(NanoMLError, AttributeError, RuntimeError):
    """A file has no branch of a name.

    An AttributeError, so that `hasattr` and `getattr` with a default work, and a RuntimeError, which is what
    nanoAOD-tools raises.
    """


class Column(NamedTuple):
    """A branch in a chunk.

    Attributes
    ----------
    values
        The numbers of all events, one after the other; of shape (events, size) for arrays of fixed size.
    offsets
        Where each event's begin, and the last one's end; None for one value per event.
    """

    values: NDArray[Any]
    offsets: Optional[NDArray[np.int64]]


class Reader:
    """The branches of one file, chunk by chunk.

    What was asked for in one chunk is read at once in the next.

    Parameters
    ----------
    file
        The file.
    """

    def __init__(self, file: RootFile) -> None:
        self.file = file
        self.length = 0
        self._start = self._stop = 0
        self._rows: Optional[NDArray[np.int64]] = None
        self._columns: dict[str, Column] = {}
        self._asked: dict[str, None] = {}
        self._counters = {
            f"n{branch.collection}": branch.name for branch in file.branches.values() if branch.is_jagged
        }

    def open(self, start: int, stop: int, rows: Optional[NDArray[np.int64]] = None) -> None:
        """Go to a chunk.

        Parameters
        ----------
        start, stop
            Range of entries.
        rows
            Positions in the range, int64, of the events to look at; None for all.
        """
        self._start, self._stop, self._rows = start, stop, rows
        self.length = stop - start if rows is None else len(rows)
        self._columns = {}
        self._read(self._asked)

    def close(self) -> None:
        """Forget the chunk."""
        self._columns = {}

    def column(self, name: str) -> Column:
        """A branch, for the events to look at.

        Raises
        ------
        MissingBranchError
            The file lacks it.
        NanoMLError
            It is not of numbers, or the file cannot be read.
        """
        if name not in self._columns:
            self._asked[name] = None
            self._read([name])
        return self._columns[name]

    def has(self, name: str) -> bool:
        """Whether the file has a branch, or a collection of which it is the counter."""
        return versions.resolve(name, self.file.branches) is not None or name in self._counters

    def _read(self, names: Iterable[str]) -> None:
        """Read branches; a counter that the file lacks is the number of its collection's objects."""
        found = {name: versions.resolve(name, self.file.branches) for name in names}
        counted = {name: self._counters[name] for name in names if not found[name] and name in self._counters}
        wanted = {name: actual for name, actual in {**found, **counted}.items() if actual}
        for name in found:
            if name not in wanted:
                self._asked.pop(name, None)
                hint = versions.did_you_mean(name, self.file.branches)
                raise MissingBranchError(f"{self.file.path}: has no branch {name}.{hint}")
        arrays = self.file.read(set(wanted.values()), self._start, self._stop)
        if self._rows is not None:
            arrays = {name: array[self._rows] for name, array in arrays.items()}
        for name, actual in wanted.items():
            column = _column(arrays[actual])
            if name in counted and column.offsets is not None:
                column = Column(np.diff(column.offsets), None)
            self._columns[name] = column


def _column(array: ak.Array) -> Column:
    if array.ndim == 1 or isinstance(ak.type(array).content, ak.types.RegularType):
        return Column(ak.to_numpy(array), None)
    return Column(ak.to_numpy(ak.flatten(array)), offsets_of(ak.to_numpy(ak.num(array))))


class Block:
    """Some consecutive events of a chunk, as plain Python numbers.

    Parameters
    ----------
    reader
        Where they are read.
    first, last
        Range of the positions, among the events to look at.
    special
        Names that may mean something other than the file's branch: what modules make. May grow.

    Attributes
    ----------
    jagged
        Branches with a list per event that are not special: the numbers, and where each event's begin.
    """

    __slots__ = ("_columns", "_first", "_last", "_reader", "jagged", "special")

    def __init__(self, reader: Reader, first: int, last: int, special: set[str]) -> None:
        self._reader, self._first, self._last, self.special = reader, first, last, special
        self._columns: dict[str, tuple[list[Any], Optional[list[int]]]] = {}
        self.jagged: dict[str, tuple[list[Any], list[int]]] = {}

    def value(self, name: str, position: int) -> Any:
        """What an event has in a branch: a number or a list.

        Raises
        ------
        MissingBranchError
            The file lacks it.
        """
        values, starts = self._columns.get(name) or self._load(name)
        return values[position] if starts is None else values[starts[position] : starts[position + 1]]

    def mark(self, name: str) -> None:
        """Say that a name is special from now on."""
        self.special.add(name)
        self.jagged.pop(name, None)

    def _load(self, name: str) -> tuple[list[Any], Optional[list[int]]]:
        values, offsets = self._reader.column(name)
        if offsets is None:
            self._columns[name] = values[self._first : self._last].tolist(), None
        else:
            own = offsets[self._first : self._last + 1]
            starts = (own - own[0]).tolist()
            numbers = values[own[0] : own[-1]].tolist()
            self._columns[name] = numbers, starts
            if name not in self.special:
                self.jagged[name] = numbers, starts
        return self._columns[name]
