"""The inputs of the networks: shapes and correlations, and how they differ in other simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ML_processing.evaluation.importance import Importance
from ML_processing.evaluation.scored import MOST_EVENTS, ClassHistogram, OutOfFold, by_class, inputs_of, label
from ML_processing.events.data import as_floats
from ML_processing.metrics.distances import Kolmogorov, kolmogorov, stability_index
from ML_processing.metrics.measured import MERGED, Floats, Histogram, even_edges, histogram
from MLTools.NanoML.contracts.hdf5 import EVENTS, open_hdf5
from MLTools.NanoML.errors import NanoMLError

_MOST_DRAWN, _MOST_CORRELATED, _BINS = 24, 25, 25
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


@dataclass(frozen=True)
class InputShape:
    """Shape of an input for every class."""

    name: str
    label: str
    edges: Floats
    missing: float  # share of the values
    classes: list[ClassHistogram]


@dataclass(frozen=True)
class Distributions:
    """Shape of the inputs, the most important ones if there are more `inputs`."""

    panels: list[InputShape]
    inputs: int
    events: int
    # by input the shares of its values that are missing, of each class; only inputs that lack some
    missing: dict[str, list[float]] = field(default_factory=dict)


def distributions(tested: OutOfFold, important: Importance) -> Distributions:
    """Shape of each input for every class; an object counts with the weight of its event."""
    table, panels, found = tested.table, [], inputs_of(tested.table)
    for it in (found[i] for i in important.leading([it.name for it in found], _MOST_DRAWN)):
        values, rows = it.values(table)
        edges = edges_of(values)
        classes = by_class(table, table.labels[rows], values, table.weights[rows], edges)
        panels.append(InputShape(it.name, label(table, it.name), edges, _missing(values), classes))
    return Distributions(panels, len(found), len(table), missing_by_class(tested))


def missing_by_class(tested: OutOfFold) -> dict[str, list[float]]:
    """By input the shares of its values that are missing, of each class; only inputs that lack some."""
    table, sentinels, found = tested.table, tested.training.sentinels, {}
    for it in inputs_of(table):
        values, rows = it.values(table)
        missing = ~np.isfinite(values) | np.isin(values, np.array(sentinels.get(it.name, []), np.float32))
        if missing.any():
            labels = table.labels[rows]
            every, lacking = (np.bincount(which, minlength=len(table.classes)) for which in (labels, labels[missing]))
            found[it.name] = (lacking / np.maximum(every, 1)).tolist()
    return found


@dataclass(frozen=True)
class ClassMatrix:
    """Correlations in the events of a class."""

    name: str
    matrix: Floats


@dataclass(frozen=True)
class Correlations:
    """Linear correlation coefficients of the most important of some `features`, and of the output as the last column."""

    columns: list[str]
    classes: list[ClassMatrix]
    features: int
    events: int


def correlations(tested: OutOfFold, important: Importance) -> Correlations | None:
    """Linear correlation of the features with each other and with the score or first target, for each class."""
    table = tested.table
    if len(table.names) < 2:
        return None
    chosen = important.leading(table.names, _MOST_CORRELATED)
    names = [table.names[i] for i in chosen]
    regression = bool(tested.training.targets)
    output = tested.scores[:, 0] if regression else tested.training.discriminant.values(tested.scores)
    values = np.column_stack([table.features[:, chosen], output])
    parts = [(name, table.labels == i) for i, name in enumerate(table.classes)]
    classes = [ClassMatrix(name, correlation(values[mine], table.weights[mine])) for name, mine in parts]
    columns = [*names, "prediction" if regression else "score"]
    return Correlations(columns, classes, len(table.names), len(table))


def correlation(features: ArrayLike, weight: ArrayLike) -> Floats:
    """Linear correlation coefficients, float64 of shape (F, F).

    For each pair of features (N, F) over the events in which both are finite, with weights (N,) of either sign; NaN for
    a feature that does not vary.
    """
    x, w = np.asarray(features, np.float64), np.asarray(weight, np.float64)[:, None]
    known = np.isfinite(x)
    pairs = zip(x.T, known.T, strict=True)
    middle = np.array([np.median(column[mask]) if mask.any() else 0.0 for column, mask in pairs])
    with np.errstate(invalid="ignore"):
        x = np.where(known, x - middle, 0.0)  # near 0, where the sums lose no digits
    mask = known.astype(np.float64)
    total = (mask * w).T @ mask
    first, squares, products = (x * w).T @ mask, (x**2 * w).T @ mask, (x * w).T @ x
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = first / total
        variance = squares / total - mean**2
        covariance = products / total - mean * mean.T
        variance[variance <= 1e-12 * np.abs(squares / total)] = np.nan
        found: Floats = np.clip(covariance / np.sqrt(variance * variance.T), -1, 1)
    return found


@dataclass(frozen=True)
class FeatureDrift:
    """A feature in the events of the training and in others."""

    name: str
    label: str
    test: Kolmogorov = field(metadata=MERGED)
    stability_index: float | None
    missing: tuple[float, float]  # share of the values
    edges: Floats
    training: Histogram
    other: Histogram


@dataclass(frozen=True)
class Drift:
    """The features in the events of the training and in others, the most different one first."""

    files: list[str]
    events: int
    other_events: int
    panels: list[FeatureDrift]


def drift(tested: OutOfFold, files: Sequence[Path]) -> Drift:
    """Compare the event-level features with those of other HDF5 files of simulation, with or without classes.

    Raises NanoMLError if a file lacks a feature.
    """
    names, seed = tested.table.names, tested.seed
    limit, named = MOST_EVENTS // len(files), tested.table.about.named
    parts = [_read(file, names, limit, seed + i, named) for i, file in enumerate(files)]
    others, other_weights = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    features, weights = tested.table.features, tested.table.weights
    found = []
    for name, ours, other in zip(names, features.T, others.T, strict=True):
        edges, samples = edges_of(np.concatenate([ours, other])), (ours, weights, other, other_weights)
        found.append(
            FeatureDrift(
                name,
                label(tested.table, name),
                kolmogorov(*samples),
                stability_index(*samples),
                (_missing(ours), _missing(other)),
                edges,
                histogram(ours, weights, edges),
                histogram(other, other_weights, edges),
            )
        )
    found.sort(key=lambda it: -(it.stability_index or 0))
    return Drift([str(file) for file in files], len(features), len(others), found)


def _read(
    file: Path, names: Sequence[str], limit: int, seed: int, named: Mapping[str, Sequence[float]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
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
        features: list[NDArray[np.float32]] = [np.empty((0, len(names)), np.float32)]
        weights: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
        for start in range(0, count, _BLOCK):
            rows = columns[start : start + _BLOCK]
            rows = rows[random.random(len(rows)) < share]
            features.append(as_floats(rows, names, rows.shape, named))
            weights.append(rows["weight"].astype(np.float32))
    return np.concatenate(features), np.concatenate(weights)
