"""What a network has to match: boosted decision trees on the same events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from ML_processing.events.splits import Split, class_factors
from ML_processing.events.table import Table
from MLTools.NanoML.terminal.progress import progress

__all__ = ["DESCRIPTION", "MOST_EVENTS", "REGRESSION", "baseline", "flattened", "regression_baseline"]

_FEW = 50_000  # up to so many events one core is faster, and on a busy machine ten times faster, than several
_AT_ONCE = 1 << 17  # events flattened at once
_BINS = 255  # most that scikit-learn's trees can have
_SETTINGS = {"learning_rate": 0.05, "max_iter": 500, "early_stopping": True, "n_iter_no_change": 10}
_Forest = Callable[[NDArray[np.float32]], NDArray[Any]]

MOST_EVENTS = 200_000
"""Each fold trains on so many events at most: enough for trees to be near their best, and quick."""

DESCRIPTION = (
    "scikit-learn's HistGradientBoostingClassifier, with the same features, folds and class balance; of collections "
    "it gets every field of every object as a feature of its own"
)

REGRESSION = (
    "scikit-learn's HistGradientBoostingRegressor, with the same features and folds; of collections it gets every "
    "field of every object as a feature of its own"
)


def baseline(table: Table, splits: Sequence[Split], seed: int) -> NDArray[np.float32]:
    """Class probabilities of each event by trees that have not seen its fold.

    As in the training of the networks, fold i + 1 stops the growth of the trees that are tested on fold i,
    and every class has the same total weight. Trees cannot use negative weights: they get absolute values.

    Parameters
    ----------
    table, splits
        The events and their folds, as for the networks.
    seed
        Seed of all random numbers.

    Returns
    -------
    float32, shape (N, classes); NaN where no split tests an event.
    """
    scores = np.full((len(table), len(table.classes)), np.nan, np.float32)
    with threadpool_limits(_threads(table)), progress("train baseline", len(splits), "folds") as bar:
        for split in splits:
            trees = _classifier(table, split, seed)
            for rows in _chunks(split.test):
                scores[rows] = trees(flattened(table, rows))
            bar.advance()
    return scores


def regression_baseline(table: Table, splits: Sequence[Split], seed: int) -> NDArray[np.float32]:
    """Values of each event by trees that have not seen its fold, one forest for each target.

    Parameters
    ----------
    table, splits, seed
        As for `baseline`.

    Returns
    -------
    float32, shape (N, targets); NaN where no split tests an event.
    """
    truth = table.targets()
    values = np.full(truth.shape, np.nan, np.float32)
    with threadpool_limits(_threads(table)), progress("train baseline", len(splits), "folds") as bar:
        for split in splits:
            for target, column in enumerate(truth.T):
                trees = _regressor(table, column, split, seed)
                for rows in _chunks(split.test):
                    values[rows, target] = trees(flattened(table, rows))
            bar.advance()
    return values


def flattened(table: Table, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Inputs of some events as one table: features, then of each object its fields, NaN for one that is not there.

    Returns
    -------
    float32, shape (rows, features + sum of objects x fields).
    """
    parts = [table.features[rows]]
    for values, mask in table.objects.values():
        fields = np.where(mask[rows][:, :, None], values[rows], np.float32(np.nan))
        parts.append(fields.reshape(len(rows), -1))
    return np.concatenate(parts, axis=1)


class _Bins:
    """Numbers bins of each column, so that trees need not look for any.

    scikit-learn does that by weighted quantiles, one by one: of a thousand events that takes longer than all its trees, of a
    hundred thousand a third of the time. Where bins end matters little to trees.

    Parameters
    ----------
    columns
        Values that are to be in as many bins as trees can have, about as many in each: shape (events, columns).
    """

    def __init__(self, columns: NDArray[np.float32]) -> None:
        self._edges = [_edges(column[~np.isnan(column)]) for column in columns.T]

    def __call__(self, columns: NDArray[np.float32]) -> NDArray[np.float32]:
        """The bin of each value, and NaN for NaN."""
        found = np.full(columns.shape, np.nan, np.float32)
        for bins, column, edges in zip(found.T, columns.T, self._edges, strict=True):
            known = ~np.isnan(column)
            bins[known] = np.searchsorted(edges, column[known])
        return found


def _edges(values: NDArray[np.float32]) -> NDArray[np.float32]:
    distinct = np.unique(values)
    if len(distinct) <= _BINS:
        return distinct
    return np.unique(np.quantile(values, np.arange(1, _BINS) / _BINS, method="lower"))


def _classifier(table: Table, split: Split, seed: int) -> _Forest:
    rows, stop = _training_rows(table, split, seed)
    labels, weights = table.labels, np.abs(table.weights)
    factors = class_factors(labels[rows], weights[rows], table.classes)
    columns = flattened(table, rows)
    bins, trees = _Bins(columns), HistGradientBoostingClassifier(**_SETTINGS, random_state=seed)
    trees.fit(
        bins(columns),
        labels[rows],
        sample_weight=weights[rows] * factors[labels[rows]],
        X_val=bins(flattened(table, stop)),
        y_val=labels[stop],
        sample_weight_val=weights[stop] * factors[labels[stop]],
    )
    return lambda features: trees.predict_proba(bins(features))


def _regressor(table: Table, truth: NDArray[np.float32], split: Split, seed: int) -> _Forest:
    rows, stop = (part[np.isfinite(truth[part])] for part in _training_rows(table, split, seed))
    weights = np.abs(table.weights)
    columns = flattened(table, rows)
    bins, trees = _Bins(columns), HistGradientBoostingRegressor(**_SETTINGS, random_state=seed)
    trees.fit(
        bins(columns),
        truth[rows],
        sample_weight=weights[rows],
        X_val=bins(flattened(table, stop)),
        y_val=truth[stop],
        sample_weight_val=weights[stop],
    )
    return lambda features: trees.predict(bins(features))


def _threads(table: Table) -> int | None:
    return 1 if len(table) <= _FEW else None


def _chunks(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]


def _training_rows(table: Table, split: Split, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    random = np.random.default_rng([seed, split.fold])
    training, stop = (_at_most(part, table, random) for part in (split.training, split.validation))
    return training, stop


def _at_most(rows: NDArray[np.int64], table: Table, random: np.random.Generator) -> NDArray[np.int64]:
    """All of `rows`, or if they are too many a random choice with an equal share for every class."""
    if len(rows) <= MOST_EVENTS:
        return rows
    share = MOST_EVENTS // len(table.classes)
    by_class = (rows[table.labels[rows] == i] for i in range(len(table.classes)))
    return np.concatenate([random.permutation(part)[:share] for part in by_class])
