"""A model as a module of nanoAOD-tools: `nano_postproc.py OUT IN.root -I MLTools.NanoML.score model.onnx`.

The names after the module are models, or a model with the value of its parameter: `model.onnx:mass=600`. In a script it
is `PostProcessor(..., modules=[score("model.onnx")()])`; and a line in a file of one's own gives it a name there::

    wprime = score("model.onnx", 600)

The inputs of the model may be in the file, or be made by earlier selections and modules. The scores are computed for many
events at once, as selections are (see `MLTools.NanoML.nanoaodtools`). All events pass. A model of objects makes lists with the
counter of the collection, Electron_MODEL_CLASS.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Optional

import awkward as ak
import numpy as np

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.padding import Jagged
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.nanoaodtools import PostprocModule, postproc_module
from MLTools.NanoML.nanoaodtools.module import UnknownNameError, answer_names
from MLTools.NanoML.nanoaodtools.output import ListColumn
from MLTools.NanoML.selection import Cutflow, Events, Selection

__all__ = ["Scoring", "score"]


class Scoring(Selection):
    """Gives every event, or every object, the scores of a model, from the network that has not seen it in training.

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
        # every model has its own
        self.branches = tuple(dict.fromkeys([*versions.IDENTIFIERS, *self.model.reads]))  # type: ignore[misc]
        self.columns = {  # type: ignore[misc]
            each.name: ListColumn(each.dtype, each.title, each.collection)
            for each in self.model.score_columns(parameter)
        }

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
        if self.model.description.collection is None:
            scores = self.model.scores(columns, fold, self.parameter)
            return events, dict(zip(self.columns, [*scores.T, fold]))
        counts = next(Jagged.of(values).counts for values in columns.values() if values.ndim > 1)
        scores = self.model.scores(columns, np.repeat(fold, counts), self.parameter)
        lists = [ak.unflatten(np.ascontiguousarray(values), counts) for values in scores.T]
        return events, dict(zip(self.columns, [*lists, fold]))

    def _column(self, name: str, values: Any, length: int) -> Any:
        """The values of a column; lists are as the model gave them."""
        return values if isinstance(values, ak.Array) else super()._column(name, values, length)


def score(model: str | os.PathLike[str], parameter: Optional[float] = None) -> Callable[[], PostprocModule]:
    """A function that makes a module of nanoAOD-tools with the scores of a model; parameters as in `Scoring`."""
    return postproc_module(lambda: Scoring(model, parameter))


def _score_of_name(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    path, _, given = name.partition(":")
    _, _, value = given.partition("=")
    try:
        parameter = float(value) if given else None
    except ValueError:
        parameter = None
    if not path.endswith(".onnx") or (given and parameter is None):
        raise UnknownNameError(
            f"{name}: is not a model. After -I {__name__} write model.onnx, or model.onnx:mass=600 for one with a parameter."
        )
    return score(path, parameter)


answer_names(globals(), _score_of_name)
