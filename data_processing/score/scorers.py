"""What scores the events of a file: a model on its branches, or one that has its selection inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import RATIOS, Model
from MLTools.NanoML.model.entries import Outside
from MLTools.NanoML.model.inside import decide
from MLTools.NanoML.model.model import ScoreColumn
from MLTools.NanoML.model.shifts import ShiftedScores, object_counts, shifted_inputs
from MLTools.NanoML.nanoaod.accounting import is_simulation
from MLTools.NanoML.nanoaod.fileaccounting import SELECTED
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch, flat_branch
from MLTools.NanoML.rootio.lists import Arrays, Picker
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Selection, load_selection
from MLTools.NanoML.terminal.progress import say_once


def _branch_of(column: ScoreColumn) -> Branch:
    shape = "jagged" if column.collection else "flat"
    return Branch(column.name, column.dtype, shape, column.title, column.collection, "")


def bytes_per_event(scorer: Scorer | Decider) -> int:
    """Size of an event's tensors, and of the branches that are made of it."""
    model, made = scorer.model, scorer.made
    objects = sum(tensor.max * (len(tensor.columns) + 1) for tensor in model.objects)
    return 4 * (len(model.columns) + objects + len(made))


def _check_branches(model: Model, file: RootFile, names: Sequence[str]) -> None:
    """Make sure that a file has what a model reads, in the right form."""
    collection = model.description.collection
    collections = {name: tensor.collection for tensor in model.objects for name in tensor.branches}
    for name in names:
        branch = file.branch(name)
        wanted = collections.get(name) or (collection if branch.is_jagged else None)
        if wanted is None and not branch.is_flat:
            raise NanoMLError(
                f"{file.path}: model {model.name} reads {name} as one number per event, but it is of type {branch.typename}."
            )
        if wanted is not None and not (branch.is_jagged and branch.collection == wanted):
            raise NanoMLError(
                f"{file.path}: model {model.name} reads {name} as a number for each object of {wanted}, "
                f"but it is of type {branch.typename}{f', of {branch.collection}' if branch.collection else ''}."
            )
    if collection is not None and not any(file.branch(name).is_jagged for name in names):
        raise NanoMLError(
            f"{file.path}: model {model.name} is of objects of {collection}, but none of its inputs is a branch of {collection} here."
        )


class Decider:
    """Decides on the events of a file by a model with its selection inside, and scores those that pass.

    The branches have the names that they have in cmsRun: NAME_passed, NAME_cuts, NAME_failed and NAME_corrected, NAME_CLASS and
    NAME_DISCRIMINANT, and the selection's columns and collections under their own names. Scores of events that do not pass are
    NaN; columns are 0 there, and collections empty.

    `values` has the values of the model's parameter (None without one) by what the names of their scores end with. It is an error
    if the file lacks a branch, or if the selection is that of data, and these are simulated events, or the other way round.
    `reads` are the branches that must be read, `made` those that are made, and `outside` counts the events that pass.
    """

    runs_selection = False  # it stands in the model, all of it

    def __init__(self, model: Model, file: RootFile, values: Mapping[str, Optional[float]]) -> None:
        self.model, self._values, self._path, self.outside = model, values, file.path, Outside()
        inside = model.description.inside
        assert inside is not None
        self._inside = inside
        is_data = inside.dataset.get("is_data")
        if is_data is not None and is_data == is_simulation(file):
            kind, other = ("data", "simulated events") if is_data else ("simulation", "data")
            raise NanoMLError(
                f"{file.path}: model {model.path} has the selection of {kind} inside, but these are {other}: take the other one."
            )
        self._branches = [name for name in model.reads if versions.resolve(name, file.branches) is not None]
        missing = [name for name in model.reads if name not in self._branches and name not in inside.defaults]
        if missing:
            raise NanoMLError(
                f"{file.path}: has no branch {missing[0]}, which the selection inside {model.path} reads."
                f"{versions.did_you_mean(missing[0], file.branches)} It reads NanoAOD before any skim."
            )
        _check_branches(model, file, self._branches)
        self.reads = [*versions.IDENTIFIERS, *self._branches]
        self.made = {each.name: each for each in self._made()}
        if inside.corrected:
            say_once(
                f"uncorrected {model.path}",
                f"{file.path}: {model.name} wants corrected values of {', '.join(inside.corrected)}. Those of the file are taken as "
                f"they are, and {model.name}_corrected is false.",
            )

    def _made(self) -> list[Branch]:
        name, inside = self.model.name, self._inside
        found = [
            flat_branch(f"{name}_passed", "bool", f"the event passes {inside.name}"),
            flat_branch(f"{name}_cuts", "uint8", "number of cuts that the event passes, one after the other"),
            flat_branch(
                f"{name}_failed",
                "uint8",
                "if not 0, nothing is known of the event: 1, the selection has no result; 2, there are too many objects",
            ),
        ]
        if inside.corrected:
            found.append(flat_branch(f"{name}_corrected", "bool", "the selection has read corrected objects"))
        for ending, value in self._values.items():
            found += map(_branch_of, self.model.score_columns(value, ending))
        found += [flat_branch(each.name, np.dtype(each.dtype).name, each.title) for each in inside.columns]
        for collection in inside.collections:
            for each in collection.fields:
                dtype, member = np.dtype(each.dtype).name, f"{collection.name}_{each.name}"
                found.append(Branch(member, dtype, "jagged", each.title, collection.name, ""))
        return found

    def score(self, arrays: Arrays, counted: NDArray[np.bool_]) -> dict[str, object]:
        """The branches made for a range of events, given all of `reads`, and which of them count in `outside`."""
        run, block, event = (np.asarray(ak.to_numpy(arrays[name])) for name in versions.IDENTIFIERS)
        fold = fold_of(run, block, event, self.model.folds)
        columns = {name: arrays[name] for name in self._branches}
        name = self.model.name
        found: dict[str, object] = {f"{name}_fold": fold.astype(np.int32)}
        for ending, value in self._values.items():
            decisions = decide(self.model, columns, fold, value)
            self.outside.add(self.model.description.domain, decisions.outside[counted[decisions.passed]])
            scores = [each.name for each in self.model.score_columns(value, ending)[:-1]]
            found.update(zip(scores, decisions.scores.T))
        found[f"{name}_passed"], found[f"{name}_failed"] = decisions.passed, decisions.failed
        found[f"{name}_cuts"] = sum(decisions.cuts.values(), np.zeros(len(fold), np.uint8))
        found[f"{name}_corrected"] = np.zeros(len(fold), bool)
        found.update(decisions.columns)
        found.update(decisions.collections)
        if decisions.failed.any():
            say_once(
                f"failed {self._path}",
                f"{self._path}: {self.model.name} cannot decide on some events, see {name}_failed. More objects than there is room "
                "for need a larger export.room.",
            )
        return {each: found[each] for each in self.made}


class Scorer:
    """Scores the events of a file by a model.

    If the file lacks columns that a selection makes, the selection is run here, under no shift. Events that do not pass it
    have no score: it is NaN, which no cut accepts and no histogram shows, and the branch NAME_selected tells them apart.

    If the file, by its record, was skimmed with shifts of objects, there are scores NAME_CLASS_jesUp and NAME_DISCRIMINANT_jesUp
    for each shift under which one of the model's inputs differs. As in any column of a skim, they are those of the nominal inputs
    for an event that is not selected under the shift, and without such a branch the scores are the same. A model of objects has
    scores of the nominal objects.

    At several values of the model's parameter there are scores NAME_CLASS_mass600 for each: `values` has them by these endings.

    It is an error if the file lacks what the model reads, or has it in another form, or has a branch of a score's name.
    `reads` are the branches that must be read, `made` those that scoring makes, and `outside` counts nominal events, or their objects.
    """

    def __init__(
        self, model: Model, file: RootFile, record: Provenance | None, values: Mapping[str, float | None], base: str
    ) -> None:
        self.model, self.outside = model, Outside()
        selection = _selection_to_run(model, file, base)
        of_selection = selection.made.always if selection else {}
        self._branches = [name for name in model.reads if name not in of_selection]
        _check_branches(model, file, self._branches)
        self._bound = selection.bind(file.branches, file.path) if selection else None
        self.runs_selection = selection is not None
        # a head has what shifts make of densities
        shifts = record.shifts if record and not any(it.name == RATIOS for it in model.description.heads) else ()
        shifted = shifted_inputs(model, self._branches, shifts, file.branches)
        self._scores = [ShiftedScores(model, value, shifted, ending) for ending, value in values.items()]
        of_bound = self._bound.branches if self._bound else ()
        # others pass under shifts alone, and may lie outside nominally
        self._nominal = [SELECTED] if record and record.shifts and SELECTED in file.branches else []
        self.reads = [*versions.IDENTIFIERS, *self._branches, *self._scores[0].reads, *of_bound, *self._nominal]
        self.made = {each.name: _branch_of(each) for scores in self._scores for each in scores.columns}
        if selection is not None:
            name, title = f"{model.name}_selected", f"the event passes {selection.name}; else its scores are NaN"
            self.made[name] = flat_branch(name, "bool", title)

    def score(self, arrays: Arrays, counted: NDArray[np.bool_]) -> dict[str, object]:
        """The branches made for a range of events, given all of `reads`, and which of them count in `outside`."""
        run, block, event = (np.asarray(ak.to_numpy(arrays[name])) for name in versions.IDENTIFIERS)
        fold = fold_of(run, block, event, self.model.folds)
        columns: dict[str, object] = {name: _plain(arrays[name]) for name in self._branches}
        others = {name: _plain(arrays[name]) for name in self._scores[0].reads}
        passed = np.ones(len(fold), bool)
        counts = None if self.model.description.collection is None else object_counts(columns)
        if self._bound is not None:
            selected = self._bound.apply(arrays, np.ones(len(fold)), plain=True)
            pick = Picker(selected.rows)
            columns = {**{name: pick(values) for name, values in columns.items()}, **selected.columns}
            others = {name: pick(values) for name, values in others.items()}
            passed[:] = False
            passed[selected.rows] = True
        found: dict[str, object] = {f"{self.model.name}_fold": fold.astype(np.int32)}
        found[f"{self.model.name}_selected"] = passed  # only written if there is a selection
        nominal = np.all([_plain(arrays[name]) for name in self._nominal], axis=0) & counted & passed
        of_rows = nominal[passed] if counts is None else np.repeat(nominal[passed], counts[passed])
        for each in self._scores:
            for name, scores in each(columns, others, fold[passed]).items():
                found[name] = _spread(scores, passed, counts)
            self.outside.add(self.model.description.domain, each.outside[of_rows])
        return {name: found[name] for name in self.made}


def _plain(array: ak.Array) -> Any:
    """Numbers as a numpy array; lists as they are."""
    return array if array.ndim > 1 else np.asarray(ak.to_numpy(array))


def _spread(scores: NDArray[np.float32], passed: NDArray[np.bool_], counts: NDArray[np.int64] | None) -> Any:
    """The scores of all events, which are NaN where these did not pass; lists, if there are `counts`."""
    places = passed if counts is None else np.repeat(passed, counts)
    values = np.full(len(places), np.nan, np.float32)
    values[places] = scores
    return values if counts is None else ak.unflatten(values, counts)


def _selection_to_run(model: Model, file: RootFile, base: str) -> Optional[Selection]:
    """The selection whose columns the model reads and the file lacks; None if it has them."""
    missing = {
        name: spec for name, spec in model.selection_columns.items() if versions.resolve(name, file.branches) is None
    }
    if not missing:
        return None
    name, spec = next(iter(missing.items()))
    problem = f"{file.path}: model {model.name} reads {name}, which the file lacks. Its selection, {spec},"
    try:
        selection = load_selection(spec, base)
    except NanoMLError as reason:
        raise NanoMLError(
            f"{problem} cannot be run here: {reason} "
            f"Skim the file with it first (nanoml skim --selection {spec} ...), then score the skim."
        ) from None
    unknown = [name for name in missing if name not in selection.made.always]
    if unknown:
        raise NanoMLError(
            f"{problem} no longer makes {unknown[0]}. Skim with the version that the model was trained on."
        )
    return selection
