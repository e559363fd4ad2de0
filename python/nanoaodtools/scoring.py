"""The scores of a model as columns of a selection that keeps all events."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Sequence
from typing import Any, Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.entries import Outside, domain_lines
from MLTools.NanoML.model.shifts import ShiftedScores, object_counts, shifted_inputs
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.selection import Column, Cutflow, Events, Selection


class Scoring(Selection):
    """Gives every event, or every object, the scores of a model, from the network that has not seen it in training.

    Events that were selected with shifts have scores under those under which an input may differ.

    Parameters
    ----------
    model
        The ONNX file.
    parameter
        Value of the model's parameter.

    Raises
    ------
    NanoMLError
        The model cannot be loaded, has its selection inside, or its parameter is missing.
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
        hint = (
            f" {first} is a column of selection {made[first]}: let it run before, in the same pass, or score its skim."
            if first
            else versions.did_you_mean(missing[0], available)
        )
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
