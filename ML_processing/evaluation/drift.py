"""Whether other events, such as real data, look like those of the training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing import metrics
from ML_processing.evaluation.inputs import edges_of
from ML_processing.evaluation.tested import MOST_EVENTS, Tested, label, listed
from MLTools.NanoML.contracts.hdf5 import EVENTS, open_hdf5, read_metadata
from MLTools.NanoML.errors import NanoMLError

__all__ = ["drift"]

_BLOCK = 1 << 16  # events read at once


def drift(tested: Tested, files: Sequence[Path]) -> dict[str, Any]:
    """Compare the event-level features with those of other HDF5 files.

    Real data has hardly any signal: against it the events of the training go without theirs.

    Parameters
    ----------
    tested
        Events of the training.
    files
        Of the conversion; with or without classes.

    Returns
    -------
    Of each feature, the largest difference first, the Kolmogorov-Smirnov test, the population stability index
    and both shapes.

    Raises
    ------
    NanoMLError
        A file lacks a feature.
    """
    names, seed = tested.table.names, tested.seed
    parts = [_read(file, names, MOST_EVENTS // len(files), seed + i) for i, file in enumerate(files)]
    other, others = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    data = any(dataset.is_data for file in files for dataset in read_metadata(file).datasets)
    use = tested.table.labels != (tested.training.signal if data else -1)
    features, weights = tested.table.features[use], tested.table.weights[use]
    found = [
        _compare(name, label(tested.table, name), features[:, i], weights, other[:, i], others)
        for i, name in enumerate(names)
    ]
    found.sort(key=lambda it: -(it["stability_index"] or 0))
    return {
        "files": [str(file) for file in files],
        "events": len(features),
        "other_events": len(other),
        "without_signal": data,
        "panels": found,
    }


def _compare(
    name: str,
    title: str,
    first: NDArray[Any],
    weights: NDArray[Any],
    other: NDArray[Any],
    others: NDArray[Any],
) -> dict[str, Any]:
    test, edges = metrics.kolmogorov(first, weights, other, others), edges_of(np.concatenate([first, other]))
    shapes = [metrics.histogram(x, w, edges) for x, w in ((first, weights), (other, others))]
    return {
        "name": name,
        "label": title,
        "distance": test.distance,
        "probability": test.probability,
        "stability_index": metrics.stability(first, weights, other, others),
        "missing": [
            1 - float(np.isfinite(values).mean()) if values.size else 0.0 for values in (first, other)
        ],
        "edges": listed(edges),
        **{
            key: {"values": listed(sums), "errors": listed(errors)}
            for key, (sums, errors) in zip(("training", "other"), shapes, strict=True)
        },
    }


def _read(
    file: Path, names: Sequence[str], limit: int, seed: int
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
        features, weights = [np.empty((0, len(names)), np.float32)], [np.empty(0, np.float32)]
        for start in range(0, count, _BLOCK):
            rows = columns[start : start + _BLOCK]
            rows = rows[random.random(len(rows)) < share]
            with np.errstate(over="ignore"):  # infinite is missing, as in the training
                features.append(
                    np.stack([rows[name].astype(np.float32) for name in names], axis=1)
                    if names
                    else np.empty((len(rows), 0), np.float32)
                )
            weights.append(rows["weight"].astype(np.float32))
    return np.concatenate(features), np.concatenate(weights)
