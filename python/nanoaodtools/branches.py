"""The branches that a selection reads in nanoAOD-tools, of the file and of modules before it, and those that it adds.

Among the latter are the scores of a model, as columns of a selection that keeps all events.
"""

from __future__ import annotations

import copy
import os
from array import array
from collections import ChainMap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional, cast

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.entries import Outside, domain_lines
from MLTools.NanoML.model.shifts import ShiftedScores, object_counts, shifted_inputs
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch, flat_branch
from MLTools.NanoML.rootio.lists import Arrays
from MLTools.NanoML.selection import Column, Cutflow, Events, Selected, Selection

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


class Inputs:
    """The selection with its branches: those that earlier modules have declared come before those of the file.

    Modules may also give each event attributes that exist nowhere else, which are taken for their branches.
    """

    def __init__(
        self, selection: Selection, path: str, branches: Mapping[str, Branch], earlier: Mapping[str, Made]
    ) -> None:
        self._selection, self._path, self._earlier = selection, path, earlier
        self._available = list(dict.fromkeys([*branches, *earlier]))
        self._undeclared = [
            name
            for name in selection.branches
            if not versions.is_glob(name)
            and name not in selection.optional
            and versions.resolve(name, self._available) is None
        ]
        made = {name: self._branch(name, each.counter) for name, each in earlier.items()}
        made.update({name: self._branch(name, None) for name in self._undeclared})
        self._bound = selection.bind(ChainMap(made, cast("dict[str, Branch]", branches)), path)
        self.from_modules = [name for name in self._bound.branches if name in made]
        self.from_file = [name for name in self._bound.branches if name not in made]

    def _branch(self, name: str, counter: Optional[str]) -> Branch:
        if counter is None:
            return flat_branch(name, "")
        return Branch(name, "", "jagged", "", versions.collection_of(name, counter, self._available), "")

    def apply(self, arrays: Arrays, weights: NDArray[np.float64]) -> Selected:
        """Evaluate the selection; whether an undeclared attribute is a list shows in `arrays` only."""
        lists = {
            name: versions.collection_of(name, None, self._available)
            for name in self._undeclared
            if arrays[name].ndim > 1
        }
        bound = replace(self._bound, collections={**self._bound.collections, **lists})
        return bound.apply(arrays, weights)

    def made(self, event: Any) -> dict[str, ak.Array]:
        """The values that earlier modules made for an event, in the types of their branches, as arrays of length one."""
        return {name: self._value(event, name) for name in self.from_modules}

    def _value(self, event: Any, name: str) -> ak.Array:
        try:
            value = getattr(event, name)
        except (RuntimeError, AttributeError):
            value = None
        if value is None:
            if name in self._undeclared:
                self._selection.resolve(self._available, self._path)  # says what is missing
            raise NanoMLError(
                f"{self._path}: selection {self._selection.name} reads {name}, which an earlier module declares, "
                f"but did not fill for event {event._entry}."
            )
        dtype = self._earlier[name].dtype if name in self._earlier else None
        if np.isscalar(value):
            return ak.Array(np.array([value], dtype))
        # ROOT gives numbers of eight bits as characters
        numbers = np.array([ord(one) if isinstance(one, str) else one for one in value], dtype)
        return ak.unflatten(numbers, [len(numbers)])


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

    def __call__(self, values: Sequence[object]) -> None:
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


class Scoring(Selection):
    """Gives every event, or every object, the scores of a model, from the network that has not seen it in training.

    Events that were selected with shifts have scores under those under which an input may differ. Raises NanoMLError if
    the model cannot be loaded, has its selection inside, or its parameter is missing.
    """

    def __init__(self, model: str | os.PathLike[str], parameter: Optional[float] = None) -> None:
        self.model, self.parameter, self.outside = Model(model), parameter, Outside()
        self.model.check_parameter(parameter)
        if self.model.description.inside is not None:
            raise NanoMLError(
                f"{self.model.path}: has the selection {self.model.description.inside.name} inside. In nanoAOD-tools the selection is a "
                "module of its own: take the model without it, which lies beside this one. `nanoml score` takes both."
            )
        self._give(ShiftedScores(self.model, parameter))

    def _give(self, scores: ShiftedScores) -> None:
        self._scores = scores
        # every model has its own
        names = [*versions.IDENTIFIERS, *self.model.reads, *scores.reads]
        self.branches = tuple(dict.fromkeys(names))  # type: ignore[misc]
        columns = {each.name: Column(each.dtype, each.title) for each in scores.columns}
        collection = self.model.description.collection
        if collection is not None:
            of_objects = [each.name for each in scores.columns if each.collection]
            fields = {name[len(collection) + 1 :]: columns.pop(name) for name in of_objects}
            self.collections = {collection: fields}  # type: ignore[misc]
        self.columns = columns  # type: ignore[misc]

    def under(self, shifts: Sequence[str], known: Collection[str]) -> Scoring:
        """The same with scores under shifts, where there are other values of inputs; parameters as of `shifted_inputs`."""
        found = copy.copy(self)
        found.__dict__.pop("made", None)
        found._give(
            ShiftedScores(self.model, self.parameter, shifted_inputs(self.model, self.model.reads, shifts, known))
        )
        return found

    def count(self, reached: NDArray[np.bool_]) -> None:
        """Count which of the events that were scored last lie outside of the model's domain: those that are asked for."""
        self.outside.add(self.model.description.domain, self._scores.outside[np.repeat(reached, self._rows)])

    def told(self) -> list[str]:
        """Say how many of the events that were counted lie outside, and forget them."""
        about, found, self.outside = self.model.description, self.outside, Outside()
        return [*domain_lines(about.name, about.level, about.domain, {"": found})]

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model.name

    def resolve(self, available: Sequence[str], path: str) -> dict[str, str]:
        """As for any selection, but with its own message for missing branches."""
        missing = [name for name in self.branches if versions.resolve(name, available) is None]
        if not missing:
            return super().resolve(available, path)
        made = self.model.selection_columns
        first = next((name for name in missing if name in made), None)
        hint = versions.did_you_mean(missing[0], available)
        if first:
            hint = f" {first} is a column of selection {made[first]}: let it run before, in the same pass, or score its skim."
        raise NanoMLError(
            f"{path}: model {self.name} reads {', '.join(missing)}, which the file lacks and no module before makes.{hint}"
        )

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        """All events, with their scores."""
        run, block, event = (np.asarray(events[name]) for name in versions.IDENTIFIERS)
        fold = fold_of(run, block, event, self.model.folds)
        columns = {name: events[name] for name in self.model.reads}
        found: dict[str, Any] = dict(self._scores(columns, {name: events[name] for name in self._scores.reads}, fold))
        collection = self.model.description.collection
        if collection is not None:
            counts = object_counts(columns)
            lists = {name: ak.unflatten(np.ascontiguousarray(values), counts) for name, values in found.items()}
            found = {collection: {name[len(collection) + 1 :]: values for name, values in lists.items()}}
        self._rows = np.ones(len(fold), np.int64) if collection is None else counts
        return events, {**found, f"{self.model.name}_fold": fold}
