"""Does an ONNX file compute what the network computes? Tried where exports are known to go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Description
from MLTools.NanoML.model.trials import SIZES, Outcomes, Trial
from MLTools.NanoML.model.verification import where

__all__ = ["TOLERANCE", "check_parity"]

TOLERANCE = 1e-6
"""How much a probability may differ, unless float32 itself rounds by more; a target, relative to its size above 1."""


def check_parity(
    ensemble: nn.Module, trials: Sequence[Trial], outcomes: Outcomes, description: Description
) -> float:
    """Compare what ONNX Runtime gave with PyTorch, for every trial and size.

    Far outside the training events probabilities can react so strongly that float32 itself rounds by more than
    `TOLERANCE`. How much it does is measured with PyTorch in float64, and ten times that is allowed.

    Parameters
    ----------
    ensemble
        The networks: takes the tensors in order, returns the mean output and each network's.
    trials, outcomes
        What was given to ONNX Runtime, and what came.
    description
        Of the model.

    Returns
    -------
    The largest difference.

    Raises
    ------
    NanoMLError
        They differ by more than is allowed, in shape, or in being finite; or ONNX Runtime failed.
    """
    exact = deepcopy(ensemble).double()
    largest = 0.0
    for trial in trials:
        expected = _torch(ensemble, trial, description, np.float32)
        precise = _torch(exact, trial, description, np.float64)
        for number, name in enumerate(description.output_tensors):
            ours = expected[number]
            rounding = float(np.abs(ours - precise[number]).max(initial=0.0))
            size_of = max(1.0, float(np.abs(ours).max(initial=0.0)))
            allowed = max(TOLERANCE * size_of, 10 * rounding)
            for size in SIZES:
                told = (
                    f"the exported model differs from the network on {where(trial, size, description.level)}"
                )
                outcome = outcomes[trial.name, size]
                if isinstance(outcome, str):
                    raise NanoMLError(f"{told}: ONNX Runtime fails: {outcome}")
                difference = _difference(ours[:size], outcome[number], allowed, told, name, description.level)
                largest = max(largest, difference)
    return largest


def _torch(module: nn.Module, trial: Trial, description: Description, dtype: type[Any]) -> list[NDArray[Any]]:
    tensors = [torch.from_numpy(trial.feeds[name].astype(dtype)) for name in description.input_tensors]
    try:
        with torch.no_grad():
            return [output.numpy() for output in module(*tensors)]
    except Exception as problem:  # a network may be a user's own
        raise NanoMLError(
            f'the network fails on "{trial.name}", {max(SIZES)} {description.level}s: {str(problem).splitlines()[0]}'
        ) from problem


def _difference(
    ours: NDArray[Any], theirs: NDArray[Any], allowed: float, told: str, name: str, level: str
) -> float:
    """The largest difference of one output."""
    if ours.shape != theirs.shape:
        raise NanoMLError(f"{told}: {name} has the shape {theirs.shape} instead of {ours.shape}.")
    if not ours.size:
        return 0.0
    distance = np.abs(ours - theirs).reshape(len(ours), -1).max(axis=1)
    row = int(np.argmax(np.where(np.isfinite(distance), distance, np.inf)))
    if not distance[row] <= allowed:
        raise NanoMLError(
            f"{told}: {name} of {level} {row} is {theirs[row].ravel().tolist()} instead of {ours[row].ravel().tolist()}; "
            f"a difference of {allowed:.1g} is allowed."
        )
    return float(distance[row])
