"""A two-sample test: whether a BDT can tell data from simulation, and by which inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing.evaluation.baseline import classifier
from ML_processing.evaluation.scored import OutOfFold, inputs_of, sampled
from ML_processing.evaluation.sections.importance import permutation_importance, shuffled
from ML_processing.events.data import Table
from ML_processing.events.survey import Split
from ML_processing.metrics.measured import PAIR, Measured, effective_events
from ML_processing.metrics.roc import auc, auc_difference
from MLTools.NanoML.terminal.progress import progress

_FOLDS, _REPEATS = 5, 3
_FEWEST, _MOST = 100, 40_000  # events: effective ones of either sample; both together


@dataclass(frozen=True)
class Betrayal:
    """By how much the AUC falls when an input is shuffled."""

    name: str
    loss: float | None
    error: float | None


@dataclass(frozen=True)
class ClassifierTest:
    """How well a BDT tells data from simulation: not at all if its AUC is 0.5."""

    auc: Measured = field(metadata=PAIR)
    standard_deviations: float  # of the AUC above 0.5
    probability: float  # of an AUC as large by chance
    inputs: list[Betrayal]  # the one that tells most first
    events: int

    @property
    def telling(self) -> list[str]:
        """The inputs without which the two are told apart less well, by at least two standard deviations."""
        return [
            it.name for it in self.inputs if it.loss is not None and it.error is not None and it.loss > 2 * it.error
        ]


def classifier_test(expected: OutOfFold, data: OutOfFold) -> ClassifierTest | None:
    """Train a BDT to tell data from simulation, in cross-validation; None if there are too few events of either.

    D. Lopez-Paz, M. Oquab, "Revisiting classifier two-sample tests" (arXiv:1610.06545), with the AUC in place of the accuracy. It
    is the mean of those of five BDTs, each on events that it has not seen. Without a difference each is 0.5 on average, whatever
    the BDT has learned, also from the absolute values of weights: the AUC has the weights with their signs. Its error is DeLong's,
    so no permutations of the labels are needed. The normalisation does not matter.
    """
    joint = _joint(expected, data)
    if joint is None:
        return None
    splits, seed = _splits(joint), data.seed
    scores, predict = np.zeros((len(joint), 2)), []
    with progress("tell data from simulation", len(splits), "folds") as bar:
        for split in splits:
            predict.append(classifier(joint, split.training, split.validation, seed))
            scores[split.test] = predict[-1](joint, split.test)
            bar.advance()
    truth = joint.labels == 1
    area = _mean([auc(scores[it.test, 1], truth[it.test], joint.weights[it.test]) for it in splits])
    if area.value is None or not area.error:
        return None

    def scores_without(name: str, random: np.random.Generator) -> NDArray[Any]:
        table, found = shuffled(joint, by_name.get(name, name), random), np.zeros_like(scores)
        for split, each in zip(splits, predict, strict=True):
            found[split.test] = each(table, split.test)
        return found

    def loss(changed: NDArray[Any]) -> Measured:
        return _mean([
            auc_difference(scores[it.test, 1], changed[it.test, 1], truth[it.test], joint.weights[it.test])
            for it in splits
        ])  # fmt: skip

    by_name = {it.name: it for it in inputs_of(joint) if it.collection or it.name != joint.about.parameter}
    names = [*by_name, *joint.objects]
    with progress("find what tells them apart", len(names), "inputs") as bar:
        lost: dict[str, Measured] = {}
        for name in names:
            lost |= permutation_importance([name], scores_without, loss, seed, _REPEATS)
            bar.advance()
    inputs = [Betrayal(name, it.value, it.error) for name, it in lost.items()]
    inputs.sort(key=lambda it: -math.inf if it.loss is None else it.loss, reverse=True)
    deviations = (area.value - 0.5) / area.error
    return ClassifierTest(area, deviations, math.erfc(deviations / math.sqrt(2)) / 2, inputs, len(joint))


def _joint(expected: OutOfFold, data: OutOfFold) -> Table | None:
    """Simulation and data in one table, with these as its classes; None if either has too few events."""
    parts = []
    for label, tested in enumerate((expected, data)):
        table, training = tested.table, tested.training
        chosen, factors = sampled(table.labels, _MOST // 2, tested.seed)
        features = training.parameter.filled(table) if training.parameter else table.features
        part = replace(table, features=features)[chosen]
        if effective_events(part.weights * factors) < _FEWEST:
            return None
        about = replace(table.about, classes=["simulation", "data"], targets=())
        parts.append(replace(part, labels=np.full(len(part), label), weights=(part.weights * factors), about=about))
    return Table.join(parts)


def _splits(table: Table) -> list[Split]:
    """As in a training, but by another hash: a single network tests on events of one fold only."""
    fold = (table.hashes() >> np.uint64(8)).astype(np.int64) % _FOLDS
    rows = [np.flatnonzero(fold == i) for i in range(_FOLDS)]
    splits = []
    for i in range(_FOLDS):
        after = (i + 1) % _FOLDS
        splits.append(Split(i, np.flatnonzero((fold != i) & (fold != after)), rows[after], rows[i]))
    return splits


def _mean(parts: list[Measured]) -> Measured:
    """The mean of independent measurements; not defined if one is not."""
    values = [it.value for it in parts if it.value is not None]
    errors = [it.error for it in parts if it.error is not None]
    if len(values) < len(parts):
        return Measured(None, None)
    return Measured.of(float(np.mean(values)), float(np.sqrt(np.sum(np.square(errors)))) / len(parts))
