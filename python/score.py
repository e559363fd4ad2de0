"""A model as a module of nanoAOD-tools: `nano_postproc.py OUT IN.root -I MLTools.NanoML.score model.onnx`.

The names after the module are models, or a model with the value of its parameter: `model.onnx:mass=600`. In a script it
is `PostProcessor(..., modules=[score("model.onnx")()])`; and a line in a file of one's own gives it a name there::

    wprime = score("model.onnx", 600)

What the model reads may be in the file, or be made by selections and modules before it. It is computed for many events
at once, as selections are (see `MLTools.NanoML.nanoaodtools`). All events pass.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np

from MLTools.NanoML import nanoaod
from MLTools.NanoML.cutflow import Cutflow
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.events import Events
from MLTools.NanoML.folds import fold_of
from MLTools.NanoML.model import Model
from MLTools.NanoML.nanoaodtools import PostprocModule, postproc_module
from MLTools.NanoML.selection import Column, Selection

__all__ = ["Scoring", "score"]


class Scoring(Selection):
    """Gives every event the scores of a model, by the network that has not seen it; none is cut away.

    Parameters
    ----------
    model
        The ONNX file.
    parameter
        Value of the model's parameter.

    Raises
    ------
    NanoMLError
        The model cannot be loaded, its parameter is missing, or it scores objects.
    """

    def __init__(self, model: str | os.PathLike[str], parameter: Optional[float] = None) -> None:
        self.model, self.parameter = Model(model), parameter
        self.model.check_parameter(parameter)
        description, name = self.model.description, self.model.name
        if description.collection is not None:
            raise NanoMLError(
                f"{self.model.path}: scores every object of {description.collection}, but a module of nanoAOD-tools made of "
                "it has one number for each event. Use `nanoml score`."
            )
        # every model has its own
        self.branches = tuple(dict.fromkeys([*nanoaod.IDENTIFIERS, *self.model.reads]))  # type: ignore[misc]
        what = "probability of class" if description.kind == "classes" else "estimate of"
        at = f" at {description.parameter.column} = {parameter:g}" if description.parameter else ""
        self.columns = {  # type: ignore[misc]
            **{
                f"{name}_{output}": Column("f4", f"{what} {output} by {name}{at}")
                for output in description.outputs
            },
            f"{name}_fold": Column(
                "i4", "fold of the event: the network that scored it has not seen this fold in training"
            ),
        }

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model.name

    def resolve(self, available: Sequence[str], path: str) -> dict[str, str]:
        """As any selection's, with a message of its own."""
        missing = [name for name in self.branches if nanoaod.resolve(name, available) is None]
        if not missing:
            return super().resolve(available, path)
        made = self.model.selection_columns
        first = next((name for name in missing if name in made), None)
        hint = (
            f" {first} is a column of selection {made[first]}: let it run before, in the same pass, or score its skim."
            if first
            else nanoaod.did_you_mean(missing[0], available)
        )
        raise NanoMLError(
            f"{path}: model {self.name} reads {', '.join(missing)}, which the file lacks and no module before makes.{hint}"
        )

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        """All events, with their scores."""
        run, block, event = (np.asarray(events[name]) for name in nanoaod.IDENTIFIERS)
        fold = fold_of(run, block, event, self.model.folds)
        columns = {name: events[name] for name in self.model.reads}
        scores = self.model.scores(columns, fold, self.parameter)
        return events, dict(zip(self.columns, [*scores.T, fold]))


def score(model: str | os.PathLike[str], parameter: Optional[float] = None) -> Callable[[], PostprocModule]:
    """What makes a module of nanoAOD-tools that scores by a model; parameters as of `Scoring`."""
    return postproc_module(lambda: Scoring(model, parameter))


class _NotAModelError(NanoMLError, AttributeError):
    """A name that is neither here nor a model."""


class _AnyName(str):
    """A name that equals every other: nano_postproc.py ignores in silence what `dir` of a module has not."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)


def __dir__() -> list[str]:
    return [_AnyName(name) if name == "__name__" else name for name in globals()]


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    path, _, given = name.partition(":")
    _, _, value = given.partition("=")
    try:
        parameter = float(value) if given else None
    except ValueError:
        parameter = None
    if not path.endswith(".onnx") or (given and parameter is None):
        raise _NotAModelError(
            f"{name}: is no model. After -I {__name__} write model.onnx, or model.onnx:mass=600 for one with a parameter."
        )
    return score(path, parameter)
