"""What the networks read: shapes and correlations of their inputs, and what each is good for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ML_processing import metrics
from ML_processing.evaluation.scored import sampled
from ML_processing.evaluation.tested import Input, Tested, inputs_of, label, listed
from ML_processing.events.inputs import Inputs
from ML_processing.events.table import Table
from ML_processing.events.training_data import inputs_of as inputs_for
from ML_processing.metrics import Measured
from ML_processing.models import Network
from ML_processing.training.run import Run

__all__ = ["correlations", "distributions", "edges_of", "importance"]

_MOST_DRAWN, _MOST_CORRELATED, _BINS = 24, 25, 25
_REPEATS = 5
_FORWARD = {False: 2_000_000, True: 300_000}  # events through networks at most, without and with collections
_FEWEST, _MOST = 500, 50_000
_EXPLAINED = 2_000  # events with integrated gradients


def edges_of(values: NDArray[Any]) -> NDArray[np.float64]:
    """Edges of bins for a histogram: one for each of a few whole numbers, else 25 where most values are."""
    known = values[np.isfinite(values)].astype(np.float64)
    if not known.size:
        return np.array([0.0, 1.0])
    different = np.unique(known[:100_000])
    if len(different) <= _BINS and (different == np.round(different)).all() and np.ptp(different) <= _BINS:
        return np.arange(different[0] - 0.5, different[-1] + 1)
    edges = metrics.even_edges(known, _BINS)
    return edges if edges.size else known[0] + np.array([-0.5, 0.5])


def distributions(tested: Tested) -> dict[str, Any]:
    """Of each input the shape for every class, an object counting with the weight of its event."""
    table, panels, found = tested.table, [], inputs_of(tested.table)
    for it in found[:_MOST_DRAWN]:
        values, rows = it.values(table)
        edges = edges_of(values)
        labels, weights = table.labels[rows], table.weights[rows]
        classes = []
        for i, name in enumerate(table.classes):
            sums, errors = metrics.histogram(values[labels == i], weights[labels == i], edges)
            classes.append({"name": name, "values": listed(sums), "errors": listed(errors)})
        missing = 1 - float(np.isfinite(values).mean()) if values.size else 0.0
        panels.append(
            {
                "name": it.name,
                "label": label(table, it.name),
                "edges": listed(edges),
                "missing": missing,
                "classes": classes,
            }
        )
    return {"panels": panels, "inputs": len(found), "events": len(table)}


def correlations(tested: Tested) -> dict[str, Any] | None:
    """Linear correlation of the features with each other and with the first output, for each class."""
    table = tested.table
    names = table.names[:_MOST_CORRELATED]
    if len(names) < 2:
        return None
    regression = bool(tested.training.targets)
    output = "prediction" if regression else "score"
    column = tested.scores[:, 0 if regression else tested.training.signal]
    values = np.column_stack([table.features[:, : len(names)], column])
    classes = []
    for i, name in enumerate(table.classes):
        mine = table.labels == i
        classes.append(
            {"name": name, "matrix": listed(metrics.correlation(values[mine], table.weights[mine]))}
        )
    return {"columns": [*names, output], "classes": classes, "events": len(table)}


def importance(
    tested: Tested, loss: Callable[[Tested], Callable[[NDArray[Any]], Measured]]
) -> dict[str, Any]:
    """Permutation importance and mean integrated gradient of every input.

    Parameters
    ----------
    tested
        The events.
    loss
        Makes of the events a function from changed scores to what is lost by them.

    Returns
    -------
    Of each input, and of each collection as a whole: `loss` with its error, and `attribution`.
    """
    inputs = inputs_of(tested.table)
    names = [it.name for it in inputs] + [name for name in tested.table.objects if name]
    share = _FORWARD[bool(tested.table.objects)] // (max(len(names), 1) * _REPEATS)
    part = tested.select(*sampled(tested.table.labels, int(np.clip(share, _FEWEST, _MOST)), tested.seed))
    by_name = {it.name: it for it in inputs}

    def scores_without(name: str, random: np.random.Generator) -> NDArray[Any]:
        it = by_name.get(name)
        table = _shuffled(part.table, it, random) if it else _without(part.table, name, random)
        return part.training.out_of_fold(table)[1]

    lost = metrics.permutation_importance(names, scores_without, loss(part), part.seed, _REPEATS)
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


def _shuffled(table: Table, it: Input, random: np.random.Generator) -> Table:
    """The events with the values of one input shuffled, those of a collection's field among all its objects."""
    if it.collection is None:
        features = table.features.copy()
        features[:, it.index] = random.permutation(features[:, it.index])
        return replace(table, features=features)
    values, mask = table.objects[it.collection]
    values = values.copy()
    values[mask, it.index] = random.permutation(values[mask, it.index])
    return replace(table, objects={**table.objects, it.collection: (values, mask)})


def _without(table: Table, collection: str, random: np.random.Generator) -> Table:
    """The events with a whole collection exchanged between them."""
    values, mask = table.objects[collection]
    order = random.permutation(len(table))
    return replace(table, objects={**table.objects, collection: (values[order], mask[order])})


def _attributions(tested: Tested, inputs: list[Input]) -> dict[str, float]:
    """Mean over the events of |integrated gradient| of each input, that of a field summed over the objects."""
    table, training = tested.table, tested.training
    fold = table.folds(training.description["folds"]["k"])
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


def _gradients(network: Network, table: Table, training: Run) -> dict[str, Tensor]:
    """Of each input |integrated gradient| in each event."""
    with torch.no_grad():
        scaled = network.scaling(inputs_for(table))
    names = list(scaled.objects)

    def output(tensors: list[Tensor]) -> Tensor:
        inside = {
            name: scaled.objects[name]._replace(values=values)
            for name, values in zip(names, tensors[1:], strict=True)
        }
        found: Tensor = network.core(Inputs(tensors[0], inside))
        if training.targets:
            return found.sum(dim=1)
        others = [j for j in range(found.shape[1]) if j != training.signal]
        return found[:, training.signal] - torch.logsumexp(found[:, others], dim=1)

    network.eval()
    tensors = [scaled.features, *(scaled.objects[name].values for name in names)]
    parts = [tensor.abs() for tensor in metrics.integrated_gradients(output, tensors)]
    by_collection = dict(zip(names, parts[1:], strict=True))
    return {
        it.name: parts[0][:, it.index]
        if it.collection is None
        else by_collection[it.collection][:, :, it.index].sum(dim=1)
        for it in inputs_of(table)
    }
