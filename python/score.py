"""A model as a module of nanoAOD-tools: `nano_postproc.py OUT IN.root -I MLTools.NanoML.score model.onnx`.

The names after the module are models, or a model with the value of its parameter: `model.onnx:mass=600`. In a script it
is `PostProcessor(..., modules=[score("model.onnx")()])`; and a line in a file of one's own gives it a name there::

    wprime = score("model.onnx", 600)

The inputs of the model may be in the file, or be made by earlier selections and modules. The scores are computed for many
events at once, as selections are (see `MLTools.NanoML.nanoaodtools`): MODEL_CLASS for each class and MODEL_DISCRIMINANT for
each discriminant. All events pass. A model of objects makes lists with the counter of the collection, Electron_MODEL_CLASS. If
inputs have values under shifts of objects, so have the scores: MODEL_CLASS_jesUp.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Optional

from MLTools.NanoML.nanoaodtools import PostprocModule, postproc_module
from MLTools.NanoML.nanoaodtools.branches import Scoring
from MLTools.NanoML.nanoaodtools.module import UnknownNameError, answer_names

__all__ = ["score"]


def score(model: str | os.PathLike[str], parameter: Optional[float] = None) -> Callable[[], PostprocModule]:
    """A function that makes a module of nanoAOD-tools with the scores of a model.

    Every event, or every object, gets those of the network that has not seen it in training.

    Parameters
    ----------
    model
        The ONNX file. It is read when the function is called: NanoMLError if it cannot be, or the parameter is missing.
    parameter
        Value of the model's parameter.
    """
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
