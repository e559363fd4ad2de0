"""Trainings of networks that were not trained, for tests of what is made of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ML_processing.events.columns import InputCollection
from ML_processing.events.inputs import EventTensors, Inputs, Shape
from ML_processing.models.hooks import Boosted
from ML_processing.models.network import Network
from ML_processing.training.description import Folds, TrainingDescription
from ML_processing.training.directory import Training
from MLTools.NanoML.contracts.hdf5 import ConvertedColumn


def training_of(
    networks: Sequence[Network],
    shape: Shape,
    sample: Mapping[str, NDArray[np.float32]],
    made: Sequence[str] = (),
    **changes: Any,
) -> Training:
    """A training with networks for `shape`; a selection makes the columns `made`."""

    def columns(names: Sequence[str]) -> tuple[ConvertedColumn, ...]:
        return tuple(ConvertedColumn(name, "float32", "", "selection" if name in made else "branch") for name in names)

    about: dict[str, Any] = {
        "features": columns(shape.features),
        "collections": tuple(
            InputCollection(it.name, columns(it.fields), it.max, it.order) for it in shape.collections
        ),
        "classes": ["signal", "WZ", "ZG"],
        "signal": "signal",
        "folds": Folds(len(networks), len(networks)),
        "sample": {name: values.tolist() for name, values in sample.items()},
        **changes,
    }
    return Training(TrainingDescription(**about), list(networks), [])


def tensors_of(inputs: Inputs) -> list[Tensor]:
    """Undo `Inputs.of_tensors`."""
    found = [inputs.features] if inputs.features.shape[1] else []
    for it in inputs.objects.values():
        found += [it.values, it.mask.to(it.values.dtype)]
    return found


def grow(network: Network, inputs: Inputs, rounds: int = 10) -> None:
    """Give a core that grows something to compute, from classes that depend on all inputs; do nothing to any other."""
    if not isinstance(network.core, Boosted):
        return
    rows = torch.cat([inputs.features, *(it.values.flatten(1) for it in inputs.objects.values())], dim=1)
    sums = ((rows - rows.mean(dim=0)) / (rows.std(dim=0) + 1)).sum(dim=1)
    labels = sums.argsort().argsort() * max(network.shape.outputs, 2) // len(sums)
    count, nothing = len(sums), torch.empty(0)
    known = EventTensors(inputs, labels, torch.ones(count), torch.empty(count, 0), nothing, nothing.bool())
    rounds_of = network.core.grow(known, [], 0.3, 1)
    for _ in range(rounds):
        next(rounds_of)
    network.core.keep(rounds)
