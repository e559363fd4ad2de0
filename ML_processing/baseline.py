"""What a network has to match: boosted decision trees on the same events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from ML_processing.data import Table
from ML_processing.splits import Split, class_factors
from MLTools.NanoML.progress import progress

__all__ = ["DESCRIPTION", "MOST_EVENTS", "baseline"]

_FEW = 50_000  # up to so many events one core is faster, and on a busy machine ten times faster, than several

MOST_EVENTS = 200_000
"""Each fold trains on so many events at most: enough for trees to be near their best, and quick."""

DESCRIPTION = "scikit-learn's HistGradientBoostingClassifier, with the same features, folds and class balance"


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
    threads = 1 if len(table) <= _FEW else None
    with threadpool_limits(threads), progress("train baseline", len(splits), "folds") as bar:
        for split in splits:
            if split.test.size:
                scores[split.test] = _fit(table, split, seed).predict_proba(table.features[split.test])
            bar.advance()
    return scores


def _fit(table: Table, split: Split, seed: int) -> HistGradientBoostingClassifier:
    random = np.random.default_rng([seed, split.fold])
    rows, stop = (_at_most(part, table, random) for part in (split.training, split.validation))
    labels, weights = table.labels, np.abs(table.weights)
    weights = weights * class_factors(labels[rows], weights[rows], table.classes)[labels]
    trees = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=500, early_stopping=True, n_iter_no_change=10, random_state=seed
    )
    trees.fit(
        table.features[rows],
        labels[rows],
        sample_weight=weights[rows],
        X_val=table.features[stop],
        y_val=labels[stop],
        sample_weight_val=weights[stop],
    )
    return trees


def _at_most(rows: NDArray[np.int64], table: Table, random: np.random.Generator) -> NDArray[np.int64]:
    """All of `rows`, or if they are too many a random choice with an equal share for every class."""
    if len(rows) <= MOST_EVENTS:
        return rows
    share = MOST_EVENTS // len(table.classes)
    by_class = (rows[table.labels[rows] == i] for i in range(len(table.classes)))
    return np.concatenate([random.permutation(part)[:share] for part in by_class])
