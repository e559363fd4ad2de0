"""A two-sample test: whether a BDT can tell data from simulation, and by which inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ML_processing.evaluation.baseline import classifier
from ML_processing.evaluation.scored import OutOfFold, inputs_of, sampled
from ML_processing.evaluation.sections.importance import permutation_importance, shuffled
from ML_processing.evaluation.sections.inputs import correlation
from ML_processing.events.data import Table
from ML_processing.events.survey import splits_by
from ML_processing.metrics.measured import PAIR, Measured, effective_events, number
from ML_processing.metrics.roc import auc, auc_difference
from MLTools.NanoML.terminal.progress import progress

_FOLDS, _REPEATS = 5, 3
_SHARED = math.sqrt(2)
"""Error of the mean AUC over that of independent folds: what helps fold i by chance in what fold j teaches helps j as well."""
_DEVIATIONS = 3  # of an AUC above 0.5
_TOLD_APART = 0.55  # an AUC that is more than a detail
_CORRELATED = 4  # standard deviations of a difference between correlations, of the largest one
_LISTED = 3  # inputs, in words
_FEWEST, _MOST = 100, 40_000  # events: effective ones of either sample; both together


@dataclass(frozen=True)
class Betrayal:
    """By how much the AUC falls when an input is shuffled."""

    name: str
    loss: float | None
    error: float | None


@dataclass(frozen=True)
class Pair:
    """Two features, and the correlation of their ranks in simulation and in data."""

    names: tuple[str, str]
    simulation: float
    data: float
    deviations: float


@dataclass(frozen=True)
class ClassifierTest:
    """How well a BDT tells data from simulation, or other events from those of the training: not at all if its AUC is 0.5."""

    auc: Measured = field(metadata=PAIR)
    standard_deviations: float  # of the AUC above 0.5
    probability: float  # of an AUC as large by chance
    inputs: list[Betrayal]  # the one that tells most first
    events: int
    correlation: Pair | None = None  # that differs most

    @property
    def is_apart(self) -> bool:
        """Whether the difference is more than chance."""
        return self.standard_deviations > _DEVIATIONS

    @property
    def state(self) -> str:
        """The state of an answer: "good", "look" or "bad"."""
        return "good" if not self.is_apart else "bad" if (self.auc.value or 0.5) > _TOLD_APART else "look"

    @property
    def could_tell(self) -> bool:
        """Whether a difference that matters would have shown."""
        return (self.auc.error or 0) <= _TOLD_APART - 0.5

    def text(self, these: str) -> str:
        """The result in words; `these` names the two samples that are compared."""
        deviations = f"{self.standard_deviations:.1f} standard deviations from the 0.5 of no difference"
        text = f"A BDT trained to separate {these} has AUC {number(self.auc)}, {deviations}"
        if self.is_apart and self.telling:
            text += f"; they differ in {', '.join(self.telling[:_LISTED])}"
        if self.is_apart and self.correlation is not None and self.correlation.deviations > _CORRELATED:
            names, pair = " and ".join(self.correlation.names), self.correlation
            text += f"; the correlation of {names} is {pair.data:.2f} instead of {pair.simulation:.2f}"
        return f"{text}."

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
    the BDT has learned, also from the absolute values of weights: the AUC has the weights with their signs. Its error is DeLong's, times
    sqrt(2), as two folds learn the same from each other, so no permutations of the labels are needed. The normalisation does not matter.
    """
    joint = _joint(expected, data)
    if joint is None:
        return None
    # as in a training, but by another hash: a single network tests on events of one fold only
    fold, seed = (joint.hashes() >> np.uint64(8)).astype(np.int64) % _FOLDS, data.seed
    splits = splits_by(fold, _FOLDS, _FOLDS)
    scores, predict = np.zeros((len(joint), 2)), []
    with progress("tell data from simulation", len(splits), "folds") as bar:
        for split in splits:
            predict.append(classifier(joint, split.training, split.validation, seed))
            scores[split.test] = predict[-1](joint, split.test)
            bar.advance()
    truth = joint.labels == 1
    area = _mean([auc(scores[it.test, 1], truth[it.test], joint.weights[it.test]) for it in splits], _SHARED)
    if area.value is None or not area.error:
        return None

    def scores_without(name: str, random: np.random.Generator) -> NDArray[np.generic]:
        table, found = shuffled(joint, by_name.get(name, name), random), np.zeros_like(scores)
        for split, each in zip(splits, predict, strict=True):
            found[split.test] = each(table, split.test)
        return found

    def loss(changed: NDArray[np.generic]) -> Measured:
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
    probability = math.erfc(deviations / math.sqrt(2)) / 2
    return ClassifierTest(area, deviations, probability, inputs, len(joint), _different_correlation(joint))


def _different_correlation(joint: Table) -> Pair | None:
    """The two features whose ranks are correlated most differently, by Fisher's z."""
    names = [name for name in joint.names if name != joint.about.parameter]
    if len(names) < 2:
        return None
    columns = joint.features[:, : len(names)]
    ranks = np.where(np.isfinite(columns), rankdata(columns, axis=0, nan_policy="omit"), np.nan)
    parts = [(ranks[joint.labels == i], joint.weights[joint.labels == i]) for i in (0, 1)]
    first, second = (np.clip(np.nan_to_num(correlation(*part)), -0.999, 0.999) for part in parts)
    error = math.sqrt(sum(1 / effective_events(weights) for _, weights in parts))
    deviations = np.triu(np.abs(np.arctanh(second) - np.arctanh(first)) / error, 1)
    i, j = (int(it) for it in np.unravel_index(deviations.argmax(), deviations.shape))
    return Pair((names[i], names[j]), float(first[i, j]), float(second[i, j]), float(deviations[i, j]))


def _joint(expected: OutOfFold, data: OutOfFold) -> Table | None:
    """Simulation and data in one table, with these as its classes; None if either has too few events."""
    parts = []
    for label, tested in enumerate((expected, data)):
        table, training = tested.table, tested.training
        chosen, factors = sampled(table.labels, _MOST // 2, tested.seed)
        features = training.parameter.filled(table) if training.parameter else table.features
        part = replace(table, features=features, outputs=None)[chosen]
        if effective_events(part.weights * factors) < _FEWEST:
            return None
        about = replace(table.about, classes=["simulation", "data"], targets=())
        parts.append(replace(part, labels=np.full(len(part), label), weights=(part.weights * factors), about=about))
    return Table.join(parts)


def _mean(parts: list[Measured], shared: float = 1.0) -> Measured:
    """The mean of measurements, whose error is so many times that of independent ones; not defined if one is not."""
    values = [it.value for it in parts if it.value is not None]
    errors = [it.error for it in parts if it.error is not None]
    if len(values) < len(parts):
        return Measured(None, None)
    return Measured.of(float(np.mean(values)), shared * float(np.sqrt(np.sum(np.square(errors)))) / len(parts))
