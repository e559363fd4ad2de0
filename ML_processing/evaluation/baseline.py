"""What a network has to match: boosted decision trees (BDT) on the same events."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from ML_processing.events.data import Table
from ML_processing.events.reweighting import PositiveWeights
from ML_processing.events.survey import Split, class_factors
from MLTools.NanoML.terminal.progress import progress

_FEW = 50_000  # up to this number of events one core is faster than several, on a busy machine ten times
_AT_ONCE = 1 << 17  # events flattened at once
_BINS = 255  # most that scikit-learn's BDT can have
_SETTINGS = {"learning_rate": 0.05, "max_iter": 500, "early_stopping": True, "n_iter_no_change": 10}

MOST_EVENTS = 200_000
"""Each fold trains on this many events at most: enough for a BDT to be near its best, and quick."""

DESCRIPTION = (
    "scikit-learn's HistGradientBoostingClassifier, with the same features, folds and class balance; of collections "
    "it gets every field of every object as a feature of its own"
)

REGRESSION = (
    "scikit-learn's HistGradientBoostingRegressor, with the same features and folds; of collections it gets every "
    "field of every object as a feature of its own"
)


def baseline(table: Table, splits: Sequence[Split], seed: int) -> NDArray[np.float32]:
    """Class probabilities, or values of the targets, of each event by BDTs that have not seen its fold.

    As in the training of the networks, fold i + 1 stops the training of the BDT that is tested on fold i, and every
    class has the same total weight. A BDT cannot use negative weights: it gets positive ones of the same expectation, as
    `PositiveWeights` says. Each target has its BDT.

    Returns float32 of shape (N, outputs), NaN for an event that no split tests.
    """
    targets = table.targets()
    scores = np.full((len(table), table.shape.outputs), np.nan, np.float32)
    threads = 1 if len(table) <= _FEW else None
    with threadpool_limits(threads), progress("train baseline", len(splits), "folds") as bar:
        for split in splits:
            random = np.random.default_rng([seed, split.fold])
            training, stop = (_at_most(part, table, random) for part in (split.training, split.validation))
            learnt = _with_positive_weights(table, training, stop, seed)
            for truth, values in zip(targets.T, scores.T, strict=False):
                regressor = HistGradientBoostingRegressor(**_SETTINGS, random_state=seed)
                finite = (part[np.isfinite(truth[part])] for part in (training, stop))
                bins = _fit(regressor, table, truth, learnt.weights, *finite)
                values[split.test] = _apply(regressor.predict, bins, table, split.test)
            if not table.about.targets:
                scores[split.test] = classifier(learnt, training, stop, seed)(table, split.test)
            bar.advance()
    return scores


def _with_positive_weights(table: Table, training: NDArray[np.int64], stop: NDArray[np.int64], seed: int) -> Table:
    """The same with weights in some rows that are learned from those of `training`; absolute ones if a class has no positive sum."""
    weights, labels = np.abs(table.weights), table.labels[training]
    sums = np.bincount(labels, table.weights[training].astype(np.float64), len(table.classes))
    if (sums[labels] > 0).all():
        positive, rows = PositiveWeights.learn(table[training], seed), np.concatenate([training, stop])
        weights[rows] = positive.of(table[rows]).weights
    return replace(table, weights=weights)


def classifier(
    table: Table, training: NDArray[np.int64], stop: NDArray[np.int64], seed: int
) -> Callable[[Table, NDArray[np.int64]], NDArray[Any]]:
    """A BDT trained on some rows as long as it gets better on others, with the same total of |weight| for every class.

    Returns the function that gives class probabilities of rows of a table, shape (rows, classes).
    """
    model, weights = HistGradientBoostingClassifier(**_SETTINGS, random_state=seed), np.abs(table.weights)
    factors = class_factors(table.labels[training], weights[training], table.classes)
    bins = _fit(model, table, table.labels, weights * factors[table.labels], training, stop)
    return functools.partial(_apply, model.predict_proba, bins)


def _apply(
    predict: Callable[[NDArray[np.float32]], NDArray[Any]], bins: _Bins, table: Table, rows: NDArray[np.int64]
) -> NDArray[Any]:
    parts = [rows[start : start + _AT_ONCE] for start in range(0, max(len(rows), 1), _AT_ONCE)]
    return np.concatenate([predict(bins(table[some].flattened())) for some in parts])


class _Bins:
    """Turns the values of each column into numbers of bins, with about as many events in each bin.

    scikit-learn finds bins by weighted quantiles, one by one: with a thousand events that takes longer than the
    training, with a hundred thousand a third of the time. Where the bins end hardly matters to a BDT.
    """

    def __init__(self, columns: NDArray[np.float32]) -> None:
        self._edges = [_edges(column[~np.isnan(column)]) for column in columns.T]

    def __call__(self, columns: NDArray[np.float32]) -> NDArray[np.float32]:
        """The bin of each value; NaN stays NaN."""
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


def _fit(
    model: Any,
    table: Table,
    truth: NDArray[Any],
    weights: NDArray[Any],
    rows: NDArray[np.int64],
    stop: NDArray[np.int64],
) -> _Bins:
    """Train on `rows`, as long as it gets better on `stop`."""
    columns = table[rows].flattened()
    bins = _Bins(columns)
    model.fit(
        bins(columns),
        truth[rows],
        sample_weight=weights[rows],
        X_val=bins(table[stop].flattened()),
        y_val=truth[stop],
        sample_weight_val=weights[stop],
    )
    return bins


def _at_most(rows: NDArray[np.int64], table: Table, random: np.random.Generator) -> NDArray[np.int64]:
    """All of `rows`, or if there are too many a random choice with an equal share for every class."""
    if len(rows) <= MOST_EVENTS:
        return rows
    share = MOST_EVENTS // len(table.classes)
    by_class = (rows[table.labels[rows] == i] for i in range(len(table.classes)))
    return np.concatenate([random.permutation(part)[:share] for part in by_class])
