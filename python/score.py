"""A model as a module of nanoAOD-tools: `nano_postproc.py OUT IN.root -I MLTools.NanoML.score model.onnx`.

The names after the module are models, or a model with the value of its parameter: `model.onnx:mass=600`. In a script it
is `PostProcessor(..., modules=[score("model.onnx")()])`; and a line in a file of one's own gives it a name there::

    wprime = score("model.onnx", 600)

What the model reads may be in the file, or be made by selections and modules before it. It is computed for many events
at once, as selections are (see `MLTools.NanoML.nanoaodtools`). All events pass. A model of objects makes lists with the
counter of the collection, Electron_MODEL_CLASS.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Optional

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaodtools import PostprocModule, postproc_module
from MLTools.NanoML.nanoaodtools.scoring import Scoring

__all__ = ["Scoring", "score"]


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
