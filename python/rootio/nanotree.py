"""A TTree of NanoAOD being written: flat branches, and collections with their counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.lists import Lists, offsets_of, same_lists
from MLTools.NanoML.rootio.rootfile import Branch
from MLTools.NanoML.rootio.roottree import RootTree

__all__ = ["NanoTree"]

_ROWS_PER_BASKET = 25_000
_BYTES_PENDING = 25_000_000


class NanoTree:
    """One tree of a file that is being written.

    Rows are collected and written in large baskets, because small ones are slow to read.

    Parameters
    ----------
    directory
        An `uproot.WritableDirectory`.
    name
        Of the tree, which is also its title.
    branches
        What the tree has. The jagged branches of one collection share its counter `nCOLLECTION`; a flat branch of
        that name says of which type it is and what its title is.
    """

    def __init__(self, directory: Any, name: str, branches: Mapping[str, Branch]) -> None:
        self._collections = _collections(branches)
        for branch in branches.values():
            if not branch.is_numeric:
                raise NanoMLError(f"{branch.name} is of type {branch.typename}, which cannot be written.")
        self._flat = {
            name: branch
            for name, branch in branches.items()
            if not branch.is_jagged and name[1:] not in self._collections
        }
        self._pending: list[tuple[dict[str, NDArray[Any]], dict[str, _Collection]]] = []
        self._rows = self._bytes = 0
        self.entries = 0
        cascading = directory._cascading
        cascading.add_tree = _adding(cascading, branches)
        try:
            self._tree = directory.mktree(
                name,
                self._types(),
                title=name,
                counter_name=lambda counted: "n" + counted,
                field_name=lambda outer, inner: inner if outer == "" else f"{outer}_{inner}",
            )
        finally:
            del cascading.add_tree

    @property
    def columns(self) -> list[str]:
        """The branches that `extend` takes: all but the counters of collections."""
        members = [branch.name for fields in self._collections.values() for branch in fields]
        return [*self._flat, *members]

    def _types(self) -> dict[str, Any]:
        types: dict[str, Any] = {
            name: np.dtype((branch.dtype, (branch.size,))) if branch.is_fixed else branch.dtype
            for name, branch in self._flat.items()
        }
        for name, members in self._collections.items():
            numbers = [ak.types.NumpyType(str(branch.dtype)) for branch in members]
            single = members[0].collection == members[0].name
            record = ak.types.RecordType(numbers, [branch.field for branch in members])
            types[name] = ak.types.ListType(numbers[0] if single else record)
        return types

    def extend(self, arrays: Mapping[str, Any]) -> None:
        """Add rows.

        Parameters
        ----------
        arrays
            Every one of `columns`, all of the same length: numpy and awkward arrays, and `Lists`.

        Raises
        ------
        NanoMLError
            Branches of one collection have different numbers of objects.
        """
        length = len(next(iter(arrays.values())))
        if length == 0:
            return
        flat = {name: _numpy(arrays[name]) for name in self._flat}
        lists = {
            name: _Collection.of(name, {branch.field: arrays[branch.name] for branch in members})
            for name, members in self._collections.items()
        }
        self._pending.append((flat, lists))
        self._rows += length
        self._bytes += sum(values.nbytes for values in flat.values())
        self._bytes += sum(values.nbytes for values in lists.values())
        if self._rows >= _ROWS_PER_BASKET or self._bytes > _BYTES_PENDING:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are pending."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        columns: dict[str, NDArray[Any] | Lists] = {
            name: np.concatenate([flat.pop(name) for flat, _ in pending]) for name in self._flat
        }
        for name, members in self._collections.items():
            joined = _Collection.joined([lists.pop(name) for _, lists in pending])
            columns["n" + name] = joined.counts
            fields = joined.fields()
            columns.update({branch.name: fields[branch.field] for branch in members})
        self._tree._cascading.fill(self._tree._file, columns)
        self.entries += self._rows
        self._rows = self._bytes = 0


def _numpy(values: Any) -> NDArray[Any]:
    return values if isinstance(values, np.ndarray) else np.asarray(ak.to_numpy(values))


def _collections(branches: Mapping[str, Branch]) -> dict[str, list[Branch]]:
    """The jagged branches by what their counters count."""
    found: dict[str, list[Branch]] = {}
    for branch in branches.values():
        if branch.is_jagged:
            found.setdefault(branch.collection or branch.name, []).append(branch)
    return found


@dataclass(frozen=True)
class _Collection:
    """The branches of a collection, with a list of numbers for each event.

    Attributes
    ----------
    counts
        Number of objects in each event.
    numbers
        Of each branch, by its field: those of the first event first.
    """

    counts: NDArray[np.int64]
    numbers: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, name: str, arrays: Mapping[str, Lists | ak.Array]) -> _Collection:
        """Of its branches, by their fields.

        Raises
        ------
        NanoMLError
            They have different numbers of objects.
        """
        lists = {
            field: values if isinstance(values, Lists) else Lists.of(values)
            for field, values in arrays.items()
        }
        offsets = next(iter(lists.values())).offsets
        for field, values in lists.items():
            if not same_lists(values.offsets, offsets):
                raise NanoMLError(
                    f"collection {name}: {name}_{field} has other numbers of objects than the rest."
                )
        numbers = {field: values.numbers for field, values in lists.items()}
        return cls(np.diff(np.asarray(offsets.data)), numbers)

    @classmethod
    def joined(cls, parts: Sequence[_Collection]) -> _Collection:
        """One after the other."""
        numbers = {
            field: np.concatenate([part.numbers[field] for part in parts]) for field in parts[0].numbers
        }
        return cls(np.concatenate([part.counts for part in parts]), numbers)

    @property
    def nbytes(self) -> int:
        return self.counts.nbytes + sum(numbers.nbytes for numbers in self.numbers.values())

    def fields(self) -> dict[str, Lists]:
        index = ak.index.Index64(offsets_of(self.counts))
        return {field: Lists(index, numbers) for field, numbers in self.numbers.items()}


def _adding(directory: Any, branches: Mapping[str, Branch]) -> Any:
    """What uproot calls to add a tree to a directory, with the titles and counters of `branches`."""

    def add_tree(sink: Any, name: str, title: str, types: Any, *arguments: Any) -> Any:
        tree = RootTree(branches, directory, name, title, types, directory._freesegments, *arguments)
        tree.write_anew(sink)
        return tree

    return add_tree
