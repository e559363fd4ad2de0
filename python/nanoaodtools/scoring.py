"""The scores of a model as columns of a selection that keeps all events."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Sequence
from typing import Any, Optional

import awkward as ak
import numpy as np

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.shifts import ShiftedScores, object_counts, shifted_inputs
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.nanoaodtools.output import ListColumn
from MLTools.NanoML.selection import Cutflow, Events, Selection


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
        The model cannot be loaded, or its parameter is missing.
    """

    def __init__(self, model: str | os.PathLike[str], parameter: Optional[float] = None) -> None:
        self.model, self.parameter = Model(model), parameter
        self.model.check_parameter(parameter)
        self._give(ShiftedScores(self.model, parameter))

    def _give(self, scores: ShiftedScores) -> None:
        self._scores = scores
        # every model has its own
        names = [*versions.IDENTIFIERS, *self.model.reads, *scores.reads]
        self.branches = tuple(dict.fromkeys(names))  # type: ignore[misc]
        self.columns = {  # type: ignore[misc]
            each.name: ListColumn(each.dtype, each.title, each.collection) for each in scores.columns
        }

    def under(self, shifts: Sequence[str], numbers: Collection[str]) -> Scoring:
        """The same with scores under shifts, where there are other values of inputs; parameters as of `shifted_inputs`."""
        found = copy.copy(self)
        found._give(ShiftedScores(self.model, self.parameter, shifted_inputs(self.model.reads, shifts, numbers)))
        return found

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
        if self.model.description.collection is not None:
            counts = object_counts(columns)
            found = {name: ak.unflatten(np.ascontiguousarray(values), counts) for name, values in found.items()}
        return events, {**found, f"{self.model.name}_fold": fold}

    def _column(self, name: str, values: Any, length: int) -> Any:
        """The values of a column; lists are as the model gave them."""
        return values if isinstance(values, ak.Array) else super()._column(name, values, length)
