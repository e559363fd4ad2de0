"""Settings of short trainings, and trainings of networks that were not trained, for tests of what is made of one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ML_processing.events.columns import InputCollection
from ML_processing.events.inputs import EventTensors, Inputs, Shape
from ML_processing.metrics.roc import auc
from ML_processing.models.hooks import Boosted
from ML_processing.models.network import Network, scores_of
from ML_processing.training.description import Folds, TrainingDescription
from ML_processing.training.directory import Training
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.contracts.hdf5 import ConvertedColumn
from services.toys import MovingSignal

QUICK = Train(
    "mlp", options={"hidden": [8], "dropout": 0.1}, batch_size=64, epochs=6, learning_rate=0.01, folds=3, device="cpu"
)
"""A training of a fraction of a second."""

OF_RESULT = Train(
    "mlp", objective="result", options={"hidden": [16, 16], "dropout": 0.0}, learning_rate=5e-3, epochs=4, patience=4,
    folds=3, device="cpu",
)  # fmt: skip
"""One on the result of a fit, whose target has to be given."""


SMALL = {
    "mlp": {"hidden": [16, 16]},
    "deepsets": {"width": 16, "hidden": [16]},
    "particlenet": {"width": 16, "hidden": [16], "neighbors": 3},
    "transformer": {"width": 16, "heads": 2, "pair_width": 8},
    "bdt": {"leaves": 5, "min_events": 5},
    "tabular": {"members": 3, "width": 16},
}
"""Options of each model that make its networks small."""


def event_rows(columns: dict[str, Any], label: NDArray[Any] | int, weight: NDArray[Any] | float) -> NDArray[Any]:
    """Rows of the dataset `events`; identifiers count up unless `columns` has them."""
    count = len(next(iter(columns.values())))
    ids = {"run": np.ones(count), "luminosityBlock": np.arange(count) // 100, "event": np.arange(count)}
    features = {name: values for name, values in columns.items() if name not in ids}
    types = [("run", "u4"), ("luminosityBlock", "u4"), ("event", "u8"), ("label", "i4"), ("weight", "f4")]
    rows = np.zeros(count, [*types, *((name, values.dtype) for name, values in features.items())])
    for name, values in {**ids, **columns, "label": label, "weight": weight}.items():
        rows[name] = values
    return rows


@contextmanager
def changing(path: Path) -> Iterator[Any]:
    """The rows of the events in a file, where they are written with all changes."""
    with h5py.File(path, "r+") as file:
        rows = file["events"][:]
        yield rows
        file["events"][:] = rows


def networks_in(directory: Path) -> list[dict[str, Tensor]]:
    return [torch.load(path, weights_only=True) for path in sorted(directory.glob("network_*.pt"))]


def histories_in(directory: Path) -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted(directory.glob("history_*.json"))]


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Whether two networks are equal in each bit."""
    return all(torch.equal(first[name], second[name]) for name in first)


def auc_lost(known: MovingSignal, network: Network, value: float, count: int, random: np.random.Generator) -> float:
    """By how much the AUC is smaller than that of the likelihood ratio at a value of the parameter, on fresh events."""
    truth, weights = np.repeat([True, False], count), np.ones(2 * count)
    fresh = np.concatenate([known.signal(value, count, random), known.background(count, random)])
    rows = torch.from_numpy(np.column_stack([fresh, np.full(2 * count, value)]).astype(np.float32))
    with torch.no_grad():
        score = scores_of(network.outputs(Inputs(rows, {})), network.shape.outputs).numpy()[:, 0]
    best, found = (auc(it, truth, weights).value for it in (known.likelihood_ratio(fresh, value), score))
    assert best is not None
    assert found is not None
    return best - found


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
        "collections": tuple(InputCollection(c.name, columns(c.fields), c.max, c.order) for c in shape.collections),
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
