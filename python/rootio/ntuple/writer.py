"""Writes RNTuples: by uproot's private classes, or its public functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import awkward as ak
import numpy as np

from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.lists import Array, Lists


class NTupleWriter:
    """An RNTuple that is being written: numbers, arrays of fixed size, lists, and the counters of collections.

    Each list is a field of its own, such as `Muon_pt`: ROOT, uproot and coffea then find what they find in a TTree.
    """

    def __init__(
        self,
        directory: Any,
        name: str,
        branches: Mapping[str, Branch],
        flat: Mapping[str, Branch],
        collections: Mapping[str, Sequence[Branch]],
        is_private: bool,
    ) -> None:
        counters = {
            f"n{each}": branches.get(f"n{each}", Branch(f"n{each}", "int32", "flat", "", None, ""))
            for each in collections
        }
        members = {branch.name: branch for each in collections.values() for branch in each}
        self._branches = {**counters, **flat, **members}
        form = ak.forms.RecordForm([_form(branch) for branch in self._branches.values()], list(self._branches))
        self._rows: Any = None
        if is_private:
            from MLTools.NanoML.rootio.ntuple.rows import new_rows

            self._rows, self._sink = new_rows(directory, name, form)
        else:
            self._ntuple = directory.mkrntuple(name, form)

    def fill(self, columns: Mapping[str, Array | Lists]) -> None:
        """Write a cluster, by the names of all branches with counters."""
        found = {name: _of_type(columns[name], branch) for name, branch in self._branches.items()}
        if self._rows is not None:
            self._rows.fill(self._sink, list(found.values()))
        else:
            layouts = [_layout(values, self._branches[name]) for name, values in found.items()]
            self._ntuple.extend(ak.Array(ak.contents.RecordArray(layouts, list(found))))


def _form(branch: Branch) -> ak.forms.Form:
    title = {"__doc__": branch.title} if branch.title else {}
    numbers = ak.forms.NumpyForm(str(branch.dtype))
    if branch.is_jagged:
        return ak.forms.ListOffsetForm("i64", numbers, parameters=title)
    if branch.is_fixed:
        return ak.forms.RegularForm(numbers, branch.size, parameters=title)
    return ak.forms.NumpyForm(str(branch.dtype), parameters=title)


def _of_type(values: Array | Lists, branch: Branch) -> Array | Lists:
    dtype = np.dtype(branch.dtype)
    if isinstance(values, Lists):
        return Lists(values.offsets, values.numbers.astype(dtype, copy=False))
    return values.astype(dtype, copy=False)


def _layout(values: Array | Lists, branch: Branch) -> ak.contents.Content:
    title = {"__doc__": branch.title} if branch.title else {}
    if isinstance(values, Lists):
        return ak.contents.ListOffsetArray(values.offsets, ak.contents.NumpyArray(values.numbers), parameters=title)
    if branch.is_fixed:
        return ak.contents.RegularArray(ak.contents.NumpyArray(values.reshape(-1)), branch.size, parameters=title)
    return ak.contents.NumpyArray(values, parameters=title)
