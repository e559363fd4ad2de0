"""The inputs of the networks: shapes, correlations and importance, and how they differ in other events such as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ML_processing.evaluation.importance import correlation, integrated_gradients, permutation_importance
from ML_processing.evaluation.scored import (
    MOST_EVENTS,
    InputVariable,
    Json,
    OutOfFold,
    inputs_of,
    label,
    listed,
    sampled,
    shape,
)
from ML_processing.events.data import Table
from ML_processing.events.inputs import Inputs
from ML_processing.events.training_data import inputs_of as network_inputs
from ML_processing.metrics.distances import kolmogorov, stability_index
from ML_processing.metrics.measured import Floats, Measured, even_edges
from ML_processing.models import Network
from ML_processing.training.directory import Training
from MLTools.NanoML.contracts.hdf5 import EVENTS, open_hdf5, read_metadata
from MLTools.NanoML.errors import NanoMLError

_MOST_DRAWN, _MOST_CORRELATED, _BINS = 24, 25, 25
_REPEATS = 5
_FORWARD = {False: 2_000_000, True: 300_000}  # events through networks at most, without and with collections
_FEWEST, _MOST = 500, 50_000
_EXPLAINED = 2_000  # events with integrated gradients
_BLOCK = 1 << 16  # events read at once


def edges_of(values: NDArray[Any]) -> Floats:
    """Edges of bins for a histogram: one bin for each of a few whole numbers, else 25 where most values are."""
    known = values[np.isfinite(values)].astype(np.float64)
    if not known.size:
        return np.array([0.0, 1.0])
    different = np.unique(known[:100_000])
    if len(different) <= _BINS and (different == np.round(different)).all() and np.ptp(different) <= _BINS:
        return np.arange(different[0] - 0.5, different[-1] + 1)
    edges = even_edges(known, _BINS)
    return edges if edges.size else known[0] + np.array([-0.5, 0.5])


def _missing(values: NDArray[Any]) -> float:
    return 1 - float(np.isfinite(values).mean()) if values.size else 0.0


def distributions(tested: OutOfFold) -> Json:
    """Shape of each input for every class; an object counts with the weight of its event."""
    table, panels, found = tested.table, [], inputs_of(tested.table)
    for it in found[:_MOST_DRAWN]:
        values, rows = it.values(table)
        edges = edges_of(values)
        labels, weights = table.labels[rows], table.weights[rows]
        classes = []
        for i, name in enumerate(table.classes):
            mine = labels == i
            classes.append({"name": name, **shape(values[mine], weights[mine], edges)})
        panels.append(
            {
                "name": it.name,
                "label": label(table, it.name),
                "edges": listed(edges),
                "missing": _missing(values),
                "classes": classes,
            }
        )
    return {"panels": panels, "inputs": len(found), "events": len(table)}


def correlations(tested: OutOfFold) -> Json | None:
    """Linear correlation of the features with each other and with the first output, for each class."""
    table = tested.table
    names = table.names[:_MOST_CORRELATED]
    if len(names) < 2:
        return None
    regression = bool(tested.training.targets)
    output = tested.scores[:, 0 if regression else tested.training.signal]
    values = np.column_stack([table.features[:, : len(names)], output])
    classes = []
    for i, name in enumerate(table.classes):
        mine = table.labels == i
        classes.append({"name": name, "matrix": listed(correlation(values[mine], table.weights[mine]))})
    columns = [*names, "prediction" if regression else "score"]
    return {"columns": columns, "classes": classes, "events": len(table)}


def importance(tested: OutOfFold, loss: Callable[[OutOfFold], Callable[[NDArray[Any]], Measured]]) -> Json:
    """Permutation importance and mean integrated gradient of every input, and of each collection as a whole.

    Given the events, `loss` returns the function from changed scores to what is lost by them.
    """
    inputs = inputs_of(tested.table)
    names = [it.name for it in inputs] + [name for name in tested.table.objects if name]
    share = _FORWARD[bool(tested.table.objects)] // (max(len(names), 1) * _REPEATS)
    part = tested.select(*sampled(tested.table.labels, int(np.clip(share, _FEWEST, _MOST)), tested.seed))
    by_name = {it.name: it for it in inputs}

    def scores_without(name: str, random: np.random.Generator) -> NDArray[Any]:
        it = by_name.get(name)
        table = _shuffled(part.table, it, random) if it else _exchanged(part.table, name, random)
        return part.training.out_of_fold(table)[1]

    lost = permutation_importance(names, scores_without, loss(part), part.seed, _REPEATS)
    explained = _attributions(tested.select(*sampled(tested.table.labels, _EXPLAINED, tested.seed)), inputs)
    rows = [
        {
            "name": name,
            "collection": name not in by_name,
            "loss": lost[name].value,
            "error": lost[name].error,
            "attribution": explained.get(name),
        }
        for name in names
    ]
    return {"inputs": rows, "events": len(part.table), "repeats": _REPEATS}


def _shuffled(table: Table, it: InputVariable, random: np.random.Generator) -> Table:
    """The events with the values of one input shuffled; those of a collection's field among all its objects."""
    if it.collection is None:
        features = table.features.copy()
        features[:, it.index] = random.permutation(features[:, it.index])
        return replace(table, features=features)
    values, mask = table.objects[it.collection]
    values = values.copy()
    values[mask, it.index] = random.permutation(values[mask, it.index])
    return replace(table, objects={**table.objects, it.collection: (values, mask)})


def _exchanged(table: Table, collection: str, random: np.random.Generator) -> Table:
    """The events with a whole collection exchanged between them."""
    values, mask = table.objects[collection]
    order = random.permutation(len(table))
    return replace(table, objects={**table.objects, collection: (values[order], mask[order])})


def _attributions(tested: OutOfFold, inputs: list[InputVariable]) -> dict[str, float]:
    """Mean over the events of |integrated gradient| of each input; a field is summed over the objects."""
    table, training = tested.table, tested.training
    fold = table.folds(training.description.folds.k)
    sums, total = dict.fromkeys((it.name for it in inputs), 0.0), 0.0
    for i, network in enumerate(training.networks):
        rows = np.flatnonzero(fold == i)
        if not rows.size:
            continue
        part = table[rows]
        weights = torch.from_numpy(np.abs(part.weights)).double()
        total += float(weights.sum())
        for name, of_event in _gradients(network, part, training).items():
            sums[name] += float((weights * of_event.double()).sum())
    return {name: value / total for name, value in sums.items()} if total > 0 else {}


def _gradients(network: Network, table: Table, training: Training) -> dict[str, Tensor]:
    """|Integrated gradient| of each input in each event."""
    with torch.no_grad():
        scaled = network.scaling(network_inputs(table))
    names = list(scaled.objects)

    def output(tensors: list[Tensor]) -> Tensor:
        inside = {
            name: scaled.objects[name]._replace(values=values) for name, values in zip(names, tensors[1:], strict=True)
        }
        found: Tensor = network.core(Inputs(tensors[0], inside))
        if training.targets:
            return found.sum(dim=1)
        others = [j for j in range(found.shape[1]) if j != training.signal]
        return found[:, training.signal] - torch.logsumexp(found[:, others], dim=1)

    network.eval()
    tensors = [scaled.features, *(scaled.objects[name].values for name in names)]
    parts = [tensor.abs() for tensor in integrated_gradients(output, tensors)]
    by_collection = dict(zip(names, parts[1:], strict=True))
    return {
        it.name: parts[0][:, it.index]
        if it.collection is None
        else by_collection[it.collection][:, :, it.index].sum(dim=1)
        for it in inputs_of(table)
    }


def drift(tested: OutOfFold, files: Sequence[Path]) -> Json:
    """Compare the event-level features with those of other HDF5 files, with or without classes.

    Data has hardly any signal, so it is compared with the background of the training only. The largest difference
    comes first. Raises NanoMLError if a file lacks a feature.
    """
    names, seed = tested.table.names, tested.seed
    parts = [_read(file, names, MOST_EVENTS // len(files), seed + i) for i, file in enumerate(files)]
    other, other_weights = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    data = any(dataset.is_data for file in files for dataset in read_metadata(file).datasets)
    use = tested.table.labels != (tested.training.signal if data else -1)
    features, weights = tested.table.features[use], tested.table.weights[use]
    found = []
    for i, name in enumerate(names):
        samples = (features[:, i], weights), (other[:, i], other_weights)
        found.append({"name": name, "label": label(tested.table, name), **_compare(*samples)})
    found.sort(key=lambda it: -(it["stability_index"] or 0))
    return {
        "files": [str(file) for file in files],
        "events": len(features),
        "other_events": len(other),
        "without_signal": data,
        "panels": found,
    }


def _compare(training: tuple[NDArray[Any], NDArray[Any]], other: tuple[NDArray[Any], NDArray[Any]]) -> Json:
    test, edges = kolmogorov(*training, *other), edges_of(np.concatenate([training[0], other[0]]))
    return {
        "distance": test.distance,
        "probability": test.probability,
        "stability_index": stability_index(*training, *other),
        "missing": [_missing(training[0]), _missing(other[0])],
        "edges": listed(edges),
        "training": shape(*training, edges),
        "other": shape(*other, edges),
    }


def _read(file: Path, names: Sequence[str], limit: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features and weights of a random choice of a file's events."""
    with open_hdf5(file) as h5:
        events = h5[EVENTS]
        missing = [name for name in names if name not in events.dtype.names]
        if missing:
            raise NanoMLError(
                f"{file}: has no feature {missing[0]}, so it cannot be compared with the events of the training. "
                "Convert it with the same configuration."
            )
        columns, count = events.fields(["weight", *names]), len(events)
        share, random = min(1.0, limit / max(count, 1)), np.random.default_rng(seed)
        features, weights = [np.empty((0, len(names)), np.float32)], [np.empty(0, np.float32)]
        for start in range(0, count, _BLOCK):
            rows = columns[start : start + _BLOCK]
            rows = rows[random.random(len(rows)) < share]
            found = np.empty((len(rows), len(names)), np.float32)
            with np.errstate(over="ignore"):  # infinite is missing, as in the training
                for i, name in enumerate(names):
                    found[:, i] = rows[name]
            features.append(found)
            weights.append(rows["weight"].astype(np.float32))
    return np.concatenate(features), np.concatenate(weights)
