"""What one model gives for the events of one file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.padding import Jagged
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.rootio.picking import Picker
from MLTools.NanoML.rootio.rootfile import Branch, RootFile
from MLTools.NanoML.selection import Selection, load_selection

__all__ = ["Scores"]


class Scores:
    """Scores the events of a file by a model.

    If the file lacks columns that a selection makes, the selection is run here. Events that do not pass it have no
    score: that is NaN, which no cut accepts and no histogram shows, and the branch NAME_selected tells them apart.

    Parameters
    ----------
    model
        The model.
    file
        The file.
    parameter
        Value of the model's parameter.
    base
        Directory that a selection's file is relative to.

    Attributes
    ----------
    made
        The branches that scoring makes.
    reads
        The branches that must be read for it.

    Raises
    ------
    NanoMLError
        The file lacks what the model reads, or has it in another form, or has a branch of a score's name.
    """

    def __init__(self, model: Model, file: RootFile, parameter: Optional[float], base: str) -> None:
        model.check_parameter(parameter)
        self.model, self._parameter = model, parameter
        self._selection = _selection_to_run(model, file, base)
        of_selection = self._selection.columns if self._selection else {}
        self._branches = [name for name in model.reads if name not in of_selection]
        _check_branches(model, file, self._branches)
        self._names = self._selection.resolve(list(file.branches), file.path) if self._selection else {}
        self._collections = {
            asked: file.branches[name].collection or ""
            for asked, name in self._names.items()
            if file.branches[name].is_jagged
        }
        self.reads = [*versions.IDENTIFIERS, *self._branches, *self._names.values()]
        self.made = {branch.name: branch for branch in self._made()}
        clash = next((name for name in self.made if name in file.branches), None)
        if clash is not None:
            raise NanoMLError(
                f"{file.path}: has a branch {clash} already. Score the file that it was made from, or export the model under "
                "another name."
            )

    @property
    def bytes_per_event(self) -> int:
        """Size of an event's tensors."""
        objects = sum(tensor.max * (len(tensor.columns) + 1) for tensor in self.model.objects)
        return 4 * (len(self.model.columns) + objects)

    def _made(self) -> list[Branch]:
        model, name = self.model, self.model.name
        description = model.description
        prefix, shape = (f"{description.collection}_", "jagged") if description.collection else ("", "flat")
        what = "probability of class" if description.kind == "classes" else "estimate of"
        at = ""
        if description.parameter:
            at = f" at {description.parameter.column} = {self._parameter:g}"
        found = [
            Branch(
                f"{prefix}{name}_{output}",
                "float32",
                shape,
                f"{what} {output} by {name}{at}",
                description.collection,
                "",
            )
            for output in model.outputs
        ]
        fold = "fold of the event: the network that scored it has not seen this fold in training"
        found.append(Branch(f"{name}_fold", "int32", "flat", fold, None, ""))
        if self._selection is not None:
            passed = f"the event passes {self._selection.name}; else its scores are NaN"
            found.append(Branch(f"{name}_selected", "bool", "flat", passed, None, ""))
        return found

    def of(self, arrays: Mapping[str, ak.Array]) -> dict[str, Any]:
        """The branches of a range of events, given all of `reads`."""
        run, block, event = (np.asarray(ak.to_numpy(arrays[name])) for name in versions.IDENTIFIERS)
        fold = fold_of(run, block, event, self.model.folds)
        columns: dict[str, Any] = {name: _plain(arrays[name]) for name in self._branches}
        passed: Optional[NDArray[np.bool_]] = None
        if self._selection is not None:
            chosen = {asked: arrays[name] for asked, name in self._names.items()}
            selected = self._selection.apply(chosen, self._collections, np.ones(len(fold)))
            pick = Picker(selected.rows)
            columns = {**{name: pick(values) for name, values in columns.items()}, **selected.columns}
            passed = np.zeros(len(fold), bool)
            passed[selected.rows] = True
        scores = self._scores(arrays, columns, fold, passed)
        rest = [fold.astype(np.int32), *([] if passed is None else [passed])]
        return dict(zip(self.made, [*scores, *rest]))

    def _scores(
        self,
        arrays: Mapping[str, ak.Array],
        columns: Mapping[str, Any],
        fold: NDArray[np.int64],
        passed: Optional[NDArray[np.bool_]],
    ) -> list[Any]:
        """A branch for each output."""
        counts = self._counts(arrays)
        if counts is not None:
            fold = np.repeat(fold, counts)
            passed = None if passed is None else np.repeat(passed, counts)
        scores = self.model.scores(columns, fold if passed is None else fold[passed], self._parameter)
        if passed is not None:
            found = scores
            scores = np.full((len(passed), found.shape[1]), np.nan, np.float32)
            scores[passed] = found
        flat = [np.ascontiguousarray(values) for values in scores.T]
        return flat if counts is None else [ak.unflatten(values, counts) for values in flat]

    def _counts(self, arrays: Mapping[str, ak.Array]) -> Optional[NDArray[np.int64]]:
        """Numbers of objects, for a model of objects."""
        if self.model.description.collection is None:
            return None
        return next(Jagged.of(arrays[name]).counts for name in self._branches if arrays[name].ndim > 1)


def _plain(array: ak.Array) -> Any:
    return array if array.ndim > 1 else np.asarray(ak.to_numpy(array))


def _selection_to_run(model: Model, file: RootFile, base: str) -> Optional[Selection]:
    """The selection whose columns the model reads and the file lacks; None where it has them."""
    missing = {
        name: spec
        for name, spec in model.selection_columns.items()
        if versions.resolve(name, file.branches) is None
    }
    if not missing:
        return None
    name, spec = next(iter(missing.items()))
    told = f"{file.path}: model {model.name} reads {name}, a column of selection {spec}, which the file lacks"
    first = f"Skim the file with it first (nanoml skim --selection {spec} ...), then score the skim."
    try:
        selection = load_selection(spec, base)
    except NanoMLError as problem:
        raise NanoMLError(f"{told}, and which cannot be run here: {problem} {first}") from None
    unknown = [name for name in missing if name not in selection.columns]
    if unknown:
        raise NanoMLError(
            f"{told}, and which does not make {unknown[0]} any more. Skim with the version that the model was trained on."
        )
    return selection


def _check_branches(model: Model, file: RootFile, names: list[str]) -> None:
    """Make sure that a file has what a model reads, in the right form."""
    collection = model.description.collection
    collections = {name: tensor.collection for tensor in model.objects for name in tensor.branches}
    for name in names:
        branch = file.branch(name)
        if name in collections:
            _check_list(model, file, branch, name, collections[name])
        elif collection is not None and branch.is_jagged:
            _check_list(model, file, branch, name, collection)
        elif not branch.is_flat:
            raise NanoMLError(
                f"{file.path}: model {model.name} reads {name} as one number per event, but it is of type {branch.typename}."
            )
    if collection is not None and not any(file.branch(name).is_jagged for name in names):
        raise NanoMLError(
            f"{file.path}: model {model.name} is of objects of {collection}, but none of its inputs is a branch of {collection} here."
        )


def _check_list(model: Model, file: RootFile, branch: Branch, name: str, collection: str) -> None:
    if not branch.is_jagged or branch.collection != collection:
        raise NanoMLError(
            f"{file.path}: model {model.name} reads {name} as a number for each object of {collection}, "
            f"but it is of type {branch.typename}{f', of {branch.collection}' if branch.collection else ''}."
        )
