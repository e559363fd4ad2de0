"""What a model with its selection inside makes of the events of a file: the decision, the selection's columns, and scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import awkward as ak
import numpy as np

from data_processing.score.columns import branch_of, bytes_per_event, check_branches
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.inside import decide
from MLTools.NanoML.nanoaod.accounting import is_simulation
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.terminal.progress import say_once


class Decider:
    """Decides on the events of a file by a model with its selection inside, and scores those that pass.

    The branches have the names that they have in cmsRun: NAME_passed, NAME_cuts, NAME_failed and NAME_corrected, NAME_CLASS and
    NAME_DISCRIMINANT, and the selection's columns and collections under their own names. Scores of events that do not pass are
    NaN; columns are 0 there, and collections empty.

    Parameters
    ----------
    model
        The model.
    file
        The file.
    values
        The values of its parameter (None for a model without one), by what the names of their scores end with.

    Attributes
    ----------
    reads
        The branches that must be read.
    made
        Those that are made.

    Raises
    ------
    NanoMLError
        The file lacks a branch, or the selection is that of data, and these are simulated events, or the other way round.
    """

    def __init__(self, model: Model, file: RootFile, values: Mapping[str, Optional[float]]) -> None:
        self.model, self._values, self._path = model, values, file.path
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
        check_branches(model, file, self._branches)
        self.reads = [*versions.IDENTIFIERS, *self._branches]
        self.made = {each.name: each for each in self._made()}
        if inside.corrected:
            say_once(
                f"uncorrected {model.path}",
                f"{file.path}: {model.name} wants corrected values of {', '.join(inside.corrected)}. Those of the file are taken as "
                f"they are, and {model.name}_corrected is false.",
            )

    @property
    def bytes_per_event(self) -> int:
        """Size of an event's tensors and of what is made."""
        return bytes_per_event(self.model, self.made)

    def _made(self) -> list[Branch]:
        name, inside = self.model.name, self._inside
        found = [
            _flat(f"{name}_passed", "bool", f"the event passes {inside.name}"),
            _flat(f"{name}_cuts", "uint8", "number of cuts that the event passes, one after the other"),
            _flat(
                f"{name}_failed",
                "uint8",
                "if not 0, nothing is known of the event: 1, the selection has no result; 2, there are too many objects",
            ),
        ]
        if inside.corrected:
            found.append(_flat(f"{name}_corrected", "bool", "the selection has read corrected objects"))
        for ending, value in self._values.items():
            found += map(branch_of, self.model.score_columns(value, ending))
        found += [_flat(each.name, np.dtype(each.dtype).name, each.title) for each in inside.columns]
        for collection in inside.collections:
            for field in collection.fields:
                dtype, member = np.dtype(field.dtype).name, f"{collection.name}_{field.name}"
                found.append(Branch(member, dtype, "jagged", field.title, collection.name, ""))
        return found

    def score(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """The branches made for a range of events, given all of `reads`."""
        run, block, event = (np.asarray(ak.to_numpy(arrays[name])) for name in versions.IDENTIFIERS)
        fold = fold_of(run, block, event, self.model.folds)
        columns = {name: arrays[name] for name in self._branches}
        name = self.model.name
        found: dict[str, Any] = {f"{name}_fold": fold.astype(np.int32)}
        for ending, value in self._values.items():
            decisions = decide(self.model, columns, fold, value)
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


def _flat(name: str, dtype: str, title: str) -> Branch:
    return Branch(name, dtype, "flat", title, None, "")
