"""The baseline that a network has to match: boosted decision trees (BDT) on the same events."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing.events.data import Table
from ML_processing.events.survey import Split, class_factors
from ML_processing.models.quick_bdt import Events, QuickBDT
from ML_processing.training.reweighting import PositiveWeights
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.terminal.progress import progress

_AT_ONCE = 1 << 17  # events flattened at once
_SMALL: dict[str, Any] = {"num_leaves": 8, "bagging_fraction": 0.7, "bagging_freq": 1, "feature_fraction_bynode": 0.7}
"""Trees that do not overfit a few events: with LightGBM's own settings, 1,500 cost 0.02 of the AUC of tuned trees."""
_CLEARLY = 0.99  # of the loss: where many events or their structure ask for larger trees

MOST_EVENTS = 200_000
"""Each fold trains on this many events at most: enough for a BDT to be near its best, and quick."""

DESCRIPTION = (
    "trees of LightGBM, with the same features, folds and class balance; each field of "
    "each object of a collection is one feature"
)

REGRESSION = (
    "trees of LightGBM, with the same features and folds; each field of each object of a collection is one feature"
)


def baseline(table: Table, splits: Sequence[Split], seed: int) -> NDArray[np.float32]:
    """Class probabilities, or values of the targets, of each event by BDTs that have not seen its fold.

    As in the training of the networks, fold i + 1 stops the training of the BDT that is tested on fold i, and every
    class has the same total weight. Instead of negative weights it gets positive ones of the same expectation, as
    `PositiveWeights` says. Each target has its BDT.

    Returns float32 of shape (N, outputs), NaN for an event that no split tests.
    """
    targets = table.targets()
    scores = np.full((len(table), table.shape.outputs), np.nan, np.float32)
    with progress("train baseline", len(splits), "folds") as bar:
        for split in splits:
            random = np.random.default_rng([seed, split.fold])
            training, stop = (_at_most(part, table, random) for part in (split.training, split.validation))
            learnt = _with_positive_weights(table, training, stop, seed)
            for truth, values in zip(targets.T, scores.T, strict=False):
                known, others = (
                    _events(learnt, truth, learnt.weights, part[np.isfinite(truth[part])]) for part in (training, stop)
                )
                values[split.test] = _apply(_learn(known, others, 0, seed), table, split.test)
            if not table.about.targets:
                scores[split.test] = classifier(learnt, training, stop, seed)(table, split.test)
            bar.advance()
    return scores


def _with_positive_weights(table: Table, training: NDArray[np.int64], stop: NDArray[np.int64], seed: int) -> Table:
    """The same with weights in some rows that are learned from those of `training`; absolute ones where that is impossible."""
    weights, rows = np.abs(table.weights), np.concatenate([training, stop])
    with contextlib.suppress(NanoMLError):
        weights[rows] = PositiveWeights.learn(table[training], seed).of(table[rows]).weights
    return replace(table, weights=weights)


def classifier(
    table: Table, training: NDArray[np.int64], stop: NDArray[np.int64], seed: int
) -> Callable[[Table, NDArray[np.int64]], NDArray[np.generic]]:
    """A BDT trained on some rows as long as it gets better on others, with the same total of |weight| for every class.

    Returns the function that gives class probabilities of rows of a table, shape (rows, classes).
    """
    weights = np.abs(table.weights)
    factors = class_factors(table.labels[training], weights[training], table.classes)
    known, others = (_events(table, table.labels, weights * factors[table.labels], part) for part in (training, stop))
    return functools.partial(_apply, _learn(known, others, len(table.classes), seed))


def _learn(known: Events, others: Events, classes: int, seed: int) -> QuickBDT:
    """A BDT of small trees, or of larger ones if these are clearly better on `others`."""
    small, large = (QuickBDT.learn(known, others, classes, seed, **settings) for settings in (_SMALL, {}))
    return large if large.loss < _CLEARLY * small.loss else small


def _events(table: Table, truth: NDArray[np.generic], weights: NDArray[np.generic], rows: NDArray[np.int64]) -> Events:
    return Events(table[rows].flattened(), truth[rows], weights[rows])


def _apply(bdt: QuickBDT, table: Table, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    parts = [rows[start : start + _AT_ONCE] for start in range(0, max(len(rows), 1), _AT_ONCE)]
    return np.concatenate([bdt(table[some].flattened()) for some in parts])


def _at_most(rows: NDArray[np.int64], table: Table, random: np.random.Generator) -> NDArray[np.int64]:
    """All of `rows`, or if there are too many a random choice with an equal share for every class."""
    if len(rows) <= MOST_EVENTS:
        return rows
    share = MOST_EVENTS // len(table.classes)
    by_class = (rows[table.labels[rows] == i] for i in range(len(table.classes)))
    return np.concatenate([random.permutation(part)[:share] for part in by_class])
