"""Which events a network trains on, which stop its training, and which test it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing.data import Table
from MLTools.NanoML.errors import ConfigError, NanoMLError

__all__ = ["Split", "class_factors", "make_splits", "signal_index", "split_count"]

_SINGLE = 5  # `folds: 1` trains one network only, of this many folds


@dataclass(frozen=True)
class Split:
    """The events of one network, as int64 arrays of row numbers; no event is in two of them."""

    fold: int
    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split_count(folds: int) -> tuple[int, int]:
    """How many folds there are, and how many networks are trained, for `train.folds`.

    Raises
    ------
    ConfigError
        Nothing would be left to train on.
    """
    if folds == 1:
        return _SINGLE, 1
    if folds < 3:
        raise ConfigError(
            f"train.folds: {folds} leaves no event to train on, since one fold tests and one validates. "
            "Use 3 or more, or 1 for a single network."
        )
    return folds, folds


def make_splits(table: Table, folds: int) -> list[Split]:
    """Split the events: network i tests on fold i, validates on fold i + 1, and trains on the rest.

    Parameters
    ----------
    table
        The events.
    folds
        `train.folds`.

    Raises
    ------
    NanoMLError
        A network would train without events of some class, or have nothing to validate with.
    """
    k, networks = split_count(folds)
    fold = table.folds(k)
    splits = []
    for i in range(networks):
        held_out = (fold == i) | (fold == (i + 1) % k)
        split = Split(i, *(np.flatnonzero(part) for part in (~held_out, fold == (i + 1) % k, fold == i)))
        counts = np.bincount(table.labels[split.training], minlength=len(table.classes))
        if not counts.all():
            name = table.classes[int(np.argmin(counts))]
            raise NanoMLError(
                f'class "{name}" has no event in the training part of fold {i}: {len(table)} events are too few for '
                f"{k} folds. Use more events, or fewer folds."
            )
        if not split.validation.size:
            raise NanoMLError(
                f"fold {(i + 1) % k} has no event to validate with: {len(table)} events are too few."
            )
        splits.append(split)
    return splits


def class_factors(
    labels: NDArray[np.int64], weights: NDArray[Any], classes: list[str]
) -> NDArray[np.float64]:
    """What turns physical weights into those of the training, one factor per class, float64 of shape (classes,).

    With them every class sums to the same total over these events, and the mean of |weight| is 1. Signs stay.

    Parameters
    ----------
    labels, weights
        Of the training events, shape (N,).
    classes
        Names of the classes.

    Raises
    ------
    NanoMLError
        The weights of a class do not sum to something positive.
    """
    sums = np.bincount(labels, weights.astype(np.float64), minlength=len(classes))
    for name, total in zip(classes, sums, strict=True):
        if total <= 0:
            raise NanoMLError(
                f'class "{name}": the weights of its training events sum to {total:.4g}, so they cannot be '
                "scaled to the total of the other classes. Use more events, or check its cross section and genWeight."
            )
    factors: NDArray[np.float64] = 1 / sums
    return factors / np.abs(weights * factors[labels]).mean()


def signal_index(classes: list[str], signal: str | None) -> int:
    """Index of the signal: the class named by `train.signal`, else the one called "signal", else the first.

    Raises
    ------
    ConfigError
        `train.signal` names no class.
    """
    if signal is None:
        return classes.index("signal") if "signal" in classes else 0
    if signal not in classes:
        raise ConfigError(f'train.signal: "{signal}" is not a class. Known: {", ".join(classes)}.')
    return classes.index(signal)
