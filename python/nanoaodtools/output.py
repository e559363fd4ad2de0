"""The columns of a selection as branches in the output of nanoAOD-tools."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.selection import Column, Selection

# numpy's name of a type, nanoAOD-tools' letter for it, ROOT's name
_TYPES = (
    ("bool", "O", "Bool_t"),
    ("int8", "B", "Char_t"),
    ("uint8", "b", "UChar_t"),
    ("int16", "S", "Short_t"),
    ("uint16", "s", "UShort_t"),
    ("int32", "I", "Int_t"),
    ("uint32", "i", "UInt_t"),
    ("int64", "L", "Long64_t"),
    ("uint64", "l", "ULong64_t"),
    ("float32", "F", "Float_t"),
    ("float64", "D", "Double_t"),
)
LETTERS = {dtype: (letter, root) for dtype, letter, root in _TYPES}
_DTYPES = {root: dtype for dtype, _, root in _TYPES}
# types unknown to ROOT or to an older nanoAOD-tools, with the next wider one
_WIDER = {"float16": "float32", "int16": "int32", "uint16": "uint32"}


@dataclass(frozen=True)
class Made:
    """A branch that a module makes."""

    dtype: str  # numpy name of its type in the output
    counter: Optional[str]  # its counter, if it is a list for each event
    branch: Any  # nanoAOD-tools' object for it; None without output


def declared(output_tree: Any) -> dict[str, Made]:
    """The branches that modules have declared so far; none without output."""
    if output_tree is None:
        return {}
    return {
        name: Made(_DTYPES[branch.branch.FindLeaf(name).GetTypeName()], branch.lenVar, branch)
        for name, branch in output_tree._branches.items()
    }


def declare(selection: Selection, output_tree: Any) -> dict[str, Made]:
    """Declare all columns that a selection may make, in their own types or the next wider ones that exist."""
    made = {}
    for name, column in selection.made.described.items():
        dtype = np.dtype(column.dtype).name
        if output_tree is None:
            made[name] = Made(dtype, _counter(column), None)
            continue
        tried = (_branch(selection, output_tree, name, column, each) for each in (dtype, _WIDER.get(dtype, "")))
        found = next(filter(None, tried), None)
        if found is None:
            raise NanoMLError(
                f"{selection.where()}: column {name} is of type {dtype}, which nanoAOD-tools cannot write."
            )
        made[name] = found
    return made


def _branch(selection: Selection, output_tree: Any, name: str, column: Column, dtype: str) -> Optional[Made]:
    """Declare a column in one type; None if there is no such type."""
    if dtype not in LETTERS:
        return None
    letter, root = LETTERS[dtype]
    existing = output_tree.tree().GetBranch(name)
    leaf = existing.FindLeaf(name) if existing else None
    counter = _counter(column)
    if leaf:
        count = leaf.GetLeafCount()
        same = count.GetName() == counter if count else counter is None and leaf.GetLen() == 1
        if leaf.GetTypeName() != root or not same:
            of = f"a list with the counter {counter}, " if counter else ""
            raise NanoMLError(
                f"{selection.where()}: column {name} is {of}of type {dtype}, but there is a branch of this name already, "
                f"{leaf.GetTitle()} of type {leaf.GetTypeName()}. Give the column another name, or the same type."
            )
    counted = {"lenVar": counter} if counter else {}
    try:
        return Made(dtype, counter, output_tree.branch(name, letter, title=column.title, **counted))
    except KeyError:  # an older nanoAOD-tools does not know the letter
        return None


def _counter(column: Column) -> Optional[str]:
    return f"n{column.collection}" if column.collection else None


class Filler:
    """Sets the values of a selection's columns for an event, so that they are written and later modules see them.

    nanoAOD-tools' `fillBranch` does so for one column; for all columns together that would take longer than the selection.
    """

    def __init__(self, made: Mapping[str, Made], input_tree: Any, output_tree: Any) -> None:
        self._made, self._input, self._output = made, input_tree, output_tree
        self._names = list(made)
        # index of a column, and the buffer from which it is filled
        self._direct: Optional[list[tuple[int, array[Any]]]] = None
        self._slow: list[tuple[int, str]] = []

    def __call__(self, values: Sequence[Any]) -> None:
        """Set the columns' values, in their order."""
        if self._direct is None:
            self._direct = self._find()
        for number, buffer in self._direct:
            buffer[0] = values[number]
        for number, name in self._slow:
            self._output.fillBranch(name, values[number])
        self._input._extrabranches.update(zip(self._names, values))

    def _find(self) -> list[tuple[int, array[Any]]]:
        """The buffers of columns that are one number and that no module after this one has declared anew."""
        direct = []
        for number, (name, made) in enumerate(self._made.items()):
            if made.branch is None:  # without output
                continue
            buffer = getattr(made.branch, "buff", None)
            is_ours = self._output._branches.get(name) is made.branch
            if is_ours and made.counter is None and isinstance(buffer, array):
                direct.append((number, buffer))
            else:
                self._slow.append((number, name))
        return direct
