"""Does an ONNX file compute what the network computes? Tested where exports are known to go wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ML_processing.models import Ensemble
from ML_processing.training.directory import Training, one_thread
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Description
from MLTools.NanoML.model.trials import SIZES, Outcomes, Trial
from MLTools.NanoML.model.verification import where

TOLERANCE = 1e-6
"""How much a probability or a discriminant may differ, unless float32 itself rounds by more; a target, relative to its size above 1."""

Sample = dict[str, NDArray[np.float32]]


def networks_of(training: Training) -> Ensemble:
    """The networks of a training as one module on tensors."""
    about = training.description
    task: Literal["classification", "regression"] = "regression" if about.targets else "classification"
    return Ensemble(training.networks, training.shape, task, about.discriminants, about.classes).eval()


def sample_of(training: Training) -> Sample:
    """A few real events of a training, as tensors; values that are not finite are 0."""
    found = {
        name: np.nan_to_num(np.array(values, np.float32), posinf=0, neginf=0)
        for name, values in training.description.sample.items()
    }
    return {name: found[name] for name in training.shape.tensors}


class TrainedNetworks:
    """The networks that `nanoml verify` compares with, as a module on tensors, and real events as tensors."""

    def __init__(self, module: nn.Module, sample: Mapping[str, NDArray[np.float32]]) -> None:
        self._module, self._sample = module, sample

    @classmethod
    def of(cls, directory: Path) -> TrainedNetworks:
        """The networks of the training in a directory."""
        training = Training.load(directory)
        return cls(networks_of(training), sample_of(training))

    def sample(self, description: Description) -> Mapping[str, NDArray[np.float32]]:
        """Real events; a NanoMLError if the model reads other tensors than the networks."""
        if list(self._sample) != description.input_tensors:
            raise NanoMLError(
                f"the model reads {', '.join(description.input_tensors)}, but the networks of the training "
                f"{', '.join(self._sample)}: it was made from another one."
            )
        return self._sample

    def compare(self, trials: Sequence[Trial], outcomes: Outcomes, description: Description) -> float:
        """The largest difference between the model and the networks; a NanoMLError if it is too large."""
        with one_thread():
            try:
                return check_parity(self._module, trials, outcomes, description)
            except NanoMLError as problem:
                raise NanoMLError(f"{problem} Was it exported from this training?") from None


def check_parity(ensemble: nn.Module, trials: Sequence[Trial], outcomes: Outcomes, description: Description) -> float:
    """Compare what ONNX Runtime gave with PyTorch, for every trial and size; returns the largest difference.

    Far outside the training events probabilities can react so strongly that float32 itself rounds by more than
    `TOLERANCE`. This rounding is measured with PyTorch in float64, and ten times as much is allowed. A NanoMLError says
    that they differ by more, in shape, or in which values are finite, or that ONNX Runtime failed.
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
                place = where(trial, size, description.level)
                message = f"the exported model differs from the network on {place}"
                outcome = outcomes[trial.name, size]
                if isinstance(outcome, str):
                    raise NanoMLError(f"{message}: ONNX Runtime fails: {outcome}")
                difference = _difference(ours[:size], outcome[number], allowed, message, name, description.level)
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


def _difference(ours: NDArray[Any], theirs: NDArray[Any], allowed: float, message: str, name: str, level: str) -> float:
    """The largest difference of one output."""
    if ours.shape != theirs.shape:
        raise NanoMLError(f"{message}: {name} has the shape {theirs.shape} instead of {ours.shape}.")
    if not ours.size:
        return 0.0
    distance = np.abs(ours - theirs).reshape(len(ours), -1).max(axis=1)
    row = int(np.argmax(np.where(np.isfinite(distance), distance, np.inf)))
    if not distance[row] <= allowed:
        raise NanoMLError(
            f"{message}: {name} of {level} {row} is {theirs[row].ravel().tolist()} instead of {ours[row].ravel().tolist()}; "
            f"a difference of {allowed:.1g} is allowed."
        )
    return float(distance[row])
