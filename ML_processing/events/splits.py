"""Which events a network trains on, which stop its training, and which test it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing.events.survey import Survey
from ML_processing.events.table import Table
from MLTools.NanoML.errors import ConfigError, NanoMLError

__all__ = ["Split", "class_factors", "factors_of_split", "make_splits", "signal_index", "split_count"]

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
    """
    k, networks = split_count(folds)
    fold = table.folds(k)
    splits = []
    for i in range(networks):
        held_out = (fold == i) | (fold == (i + 1) % k)
        splits.append(
            Split(i, *(np.flatnonzero(part) for part in (~held_out, fold == (i + 1) % k, fold == i)))
        )
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
    weights = weights.astype(np.float64)
    counts, sums, absolute = (
        np.bincount(labels, of, len(classes)) for of in (None, weights, np.abs(weights))
    )
    return _factors(counts, sums, absolute, classes)


def factors_of_split(survey: Survey, fold: int) -> NDArray[np.float64]:
    """The same from the counts of all events, for the network that tests on `fold`.

    Raises
    ------
    NanoMLError
        A class has no training event, or the weights of one do not sum to something positive; there is nothing to
        validate with.
    """
    k, classes = survey.counts.shape[1], survey.about.classes
    training = [i for i in range(k) if i not in (fold, (fold + 1) % k)]
    counts = survey.counts[:, training].sum(axis=1)
    total = int(survey.counts.sum())
    for name, count in zip(classes, counts, strict=True):
        if not count:
            raise NanoMLError(
                f'class "{name}" has no event in the training part of fold {fold}: {total} events are too few for '
                f"{k} folds. Use more events, or fewer folds."
            )
    validation = survey.counts[:, (fold + 1) % k].sum()
    if not validation:
        raise NanoMLError(f"fold {(fold + 1) % k} has no event to validate with: {total} events are too few.")
    factors = _factors(
        counts, survey.sums[:, training].sum(axis=1), survey.absolute[:, training].sum(axis=1), classes
    )
    stop = float((survey.sums[:, (fold + 1) % k] * factors).sum())
    if stop <= 0:
        raise NanoMLError(
            f"training of network {fold}: the weights of the {int(validation)} events that decide when to stop sum to "
            f"{stop:.3g}, so their loss has no meaning. Use more events, or fewer folds."
        )
    return factors


def _factors(
    counts: NDArray[Any], sums: NDArray[Any], absolute: NDArray[Any], classes: list[str]
) -> NDArray[np.float64]:
    for name, total in zip(classes, sums, strict=True):
        if total <= 0:
            raise NanoMLError(
                f'class "{name}": the weights of its training events sum to {total:.4g}, so they cannot be '
                "scaled to the total of the other classes. Use more events, or check its cross section and genWeight."
            )
    factors: NDArray[np.float64] = 1 / sums
    return factors / ((absolute * factors).sum() / counts.sum())


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
