"""A TTree of NanoAOD being written: flat branches, and collections with their counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import awkward as ak
import numpy as np
import uproot.writing._cascadetree  # uproot has no public way to give titles, or the types of counters
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootfile import Branch

__all__ = ["NanoTree"]

_ROWS_PER_BASKET = 50_000
_BYTES_PENDING = 50_000_000
_COUNTER = np.dtype("int32")  # as NanoAOD has it since version 12


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
        self._pending: list[dict[str, Any]] = []
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
            Every one of `columns`, all of the same length.

        Raises
        ------
        NanoMLError
            Branches of one collection have different numbers of objects.
        """
        length = len(next(iter(arrays.values())))
        if length == 0:
            return
        self._pending.append({name: arrays[name] for name in self.columns})
        self._rows += length
        self._bytes += sum(array.nbytes for array in self._pending[-1].values())
        if self._rows >= _ROWS_PER_BASKET or self._bytes > _BYTES_PENDING:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are pending."""
        if not self._pending:
            return
        joined = {name: _joined([part[name] for part in self._pending]) for name in self.columns}
        self._pending = []
        rows: dict[str, Any] = {name: np.asarray(ak.to_numpy(joined[name])) for name in self._flat}
        for name, members in self._collections.items():
            arrays = {branch.field: joined[branch.name] for branch in members}
            rows["n" + name] = _counts(name, arrays)
            single = members[0].collection == members[0].name
            rows[name] = arrays[members[0].field] if single else arrays
        # of a dict, uproot takes a flat Muon_sumPt beside the collection Muon for one field too many
        self._tree.extend(MappingProxyType(rows))
        self.entries += self._rows
        self._rows = self._bytes = 0


def _collections(branches: Mapping[str, Branch]) -> dict[str, list[Branch]]:
    """The jagged branches by what their counters count."""
    found: dict[str, list[Branch]] = {}
    for branch in branches.values():
        if branch.is_jagged:
            found.setdefault(branch.collection or branch.name, []).append(branch)
    return found


def _joined(parts: Sequence[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else ak.concatenate(parts)


def _counts(name: str, arrays: Mapping[str, ak.Array]) -> NDArray[np.int64]:
    """Number of objects in each event, of which the branches of a collection must agree."""
    counts: NDArray[np.int64] | None = None
    for field, array in arrays.items():
        found = np.asarray(ak.num(array))
        if counts is not None and not np.array_equal(counts, found):
            raise NanoMLError(
                f"collection {name}: {name}_{field} has other numbers of objects than the rest."
            )
        counts = found
    assert counts is not None
    return counts


def _adding(directory: Any, branches: Mapping[str, Branch]) -> Any:
    """What uproot calls to add a tree to a directory, with the titles and counters of `branches`."""

    class Described(uproot.writing._cascadetree.Tree):  # type: ignore[misc]
        def _branch_np(
            self, name: str, of: Any, dtype: Any, counter: Any = None, kind: str = "normal"
        ) -> Any:
            described = branches.get(name)
            if kind == "counter":
                dtype = np.dtype(described.dtype) if described is not None else _COUNTER
            datum = super()._branch_np(name, of, dtype, counter=counter, kind=kind)
            if described is not None:
                datum["fTitle"] = described.title
            return datum

    def add_tree(sink: Any, name: str, title: str, types: Any, *arguments: Any) -> Any:
        tree = Described(directory, name, title, types, directory._freesegments, *arguments)
        tree.write_anew(sink)
        return tree

    return add_tree
