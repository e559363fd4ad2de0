"""Writes an RNTuple by uproot's public functions, with the names that NanoAOD has in a TTree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.lists import Lists
from MLTools.NanoML.rootio.ntuple.reader import check_version


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
    ) -> None:
        check_version(f"{name} is to be an RNTuple")
        counters = {
            f"n{each}": branches.get(f"n{each}", Branch(f"n{each}", "int32", "flat", "", None, ""))
            for each in collections
        }
        members = {branch.name: branch for each in collections.values() for branch in each}
        self._branches = {**counters, **flat, **members}
        forms = [_form(branch) for branch in self._branches.values()]
        self._ntuple = directory.mkrntuple(name, ak.forms.RecordForm(forms, list(self._branches)))

    def fill(self, columns: Mapping[str, NDArray[Any] | Lists]) -> None:
        """Write a cluster, by the names of all branches with counters."""
        layouts = [_layout(columns[name], branch) for name, branch in self._branches.items()]
        self._ntuple.extend(ak.Array(ak.contents.RecordArray(layouts, list(self._branches))))


def _form(branch: Branch) -> ak.forms.Form:
    title = {"__doc__": branch.title} if branch.title else {}
    if branch.is_jagged:
        return ak.forms.ListOffsetForm("i64", ak.forms.NumpyForm(str(branch.dtype)), parameters=title)
    shape = (branch.size,) if branch.is_fixed else ()
    return ak.forms.NumpyForm(str(branch.dtype), shape, parameters=title)


def _layout(values: NDArray[Any] | Lists, branch: Branch) -> ak.contents.Content:
    title = {"__doc__": branch.title} if branch.title else {}
    if isinstance(values, Lists):
        return ak.contents.ListOffsetArray(values.offsets, _numbers(values.numbers, branch), parameters=title)
    return _numbers(values, branch, title)


def _numbers(values: NDArray[Any], branch: Branch, title: Any = None) -> ak.contents.NumpyArray:
    return ak.contents.NumpyArray(values.astype(np.dtype(branch.dtype), copy=False), parameters=title)
