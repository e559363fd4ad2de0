"""The expected events of each class in some files, and the outputs of the networks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing.evaluation.scored import ClassHistogram, OutOfFold, label, scored_files, scores_in
from ML_processing.evaluation.sections.regression import Residuals, residuals
from ML_processing.events.data import Table
from ML_processing.events.survey import Survey
from ML_processing.metrics.measured import PAIR, Floats, Measured, even_edges, sums
from ML_processing.metrics.roc import auc
from ML_processing.training.data import TrainingFiles
from ML_processing.training.directory import Training
from MLTools.NanoML.report.section import Style
from MLTools.NanoML.report.stack import Bins, Drawn, Observed, Stack

_BINS = 20


@dataclass(frozen=True)
class ClassYield:
    """Events of a class, tested or not, and the sum of their weights."""

    events: int
    sum_of_weights: Measured = field(metadata=PAIR)


@dataclass(frozen=True)
class Separation:
    """How well classes are separated: AUC of the discriminant, and of the probability of each class against all others."""

    auc: Measured = field(metadata=PAIR)
    auc_one_against_all: dict[str, Measured]


@dataclass(frozen=True)
class Accuracy:
    """How near the networks come to each target."""

    targets: dict[str, Residuals]


@dataclass(frozen=True)
class BinnedOutput:
    """Sums of weights by class in bins of a discriminant, or of an output of the networks."""

    label: str
    edges: Floats
    classes: list[ClassHistogram]


def measured_in(
    training: Training, data: TrainingFiles
) -> tuple[dict[str, ClassYield], Separation | Accuracy, OutOfFold]:
    """The expected events in files, how well the networks do there, and the events with a score, whose weights stand for all."""
    table, survey = scored_files(training, data).gather(training.description.config.memory, 1)
    rows, scores = scores_in(training, table)
    tested = OutOfFold(training, _scaled(table[rows], survey), scores)
    return _yields(table, survey), _accuracy(tested) if training.targets else _separation(tested), tested


def _shares(table: Table, survey: Survey) -> NDArray[np.float64]:
    """For each class, how many events there are for each one in a table; 1 if it has none."""
    every, here = survey.counts.sum(axis=1), np.bincount(table.labels, minlength=len(table.classes))
    return np.divide(every, here, out=np.ones_like(every), where=here > 0)


def _scaled(table: Table, survey: Survey) -> Table:
    """Some events with weights that stand for all."""
    return replace(table, weights=(table.weights * _shares(table, survey)[table.labels]).astype(np.float32))


def _yields(table: Table, survey: Survey) -> dict[str, ClassYield]:
    squares = np.bincount(table.labels, table.weights.astype(np.float64) ** 2, len(table.classes))
    errors = np.sqrt(squares * _shares(table, survey))
    totals = survey.summary().items()
    return {
        name: ClassYield(it.events, Measured(it.sum_of_weights, float(error)))
        for (name, it), error in zip(totals, errors, strict=True)
    }


def _separation(tested: OutOfFold) -> Separation:
    training, table, judge = tested.training, tested.table, tested.training.discriminant
    if training.parameter:
        table = training.parameter.measured(table)
    alone = {name: auc(tested.scores[:, i], table.labels == i, table.weights) for i, name in enumerate(table.classes)}
    return Separation(judge.area(tested.scores, table.labels, table.weights), alone)


def _accuracy(tested: OutOfFold) -> Accuracy:
    truth, weights = tested.table.targets(), tested.table.weights
    return Accuracy({
        name: residuals(truth[:, i], tested.scores[:, i], weights, tested.seed)
        for i, name in enumerate(tested.training.targets)
    })  # fmt: skip


def binned_outputs(tested: OutOfFold) -> list[BinnedOutput]:
    """The discriminants, or the probability of the signal; the probabilities of other classes, if there are more than two.

    For a regression, the estimate of each target.
    """
    training, table = tested.training, tested.table
    found: list[BinnedOutput] = []
    if not len(table):
        return found
    if training.targets:
        for i, name in enumerate(training.targets):
            edges = even_edges(tested.scores[:, i], _BINS)
            if edges.size:
                found.append(_binned(tested, f"Predicted {label(table, name)}", tested.scores[:, i], edges))
        return found
    outputs = {it.label: it.values(tested.scores) for it in training.discriminants or [training.discriminant]}
    if len(table.classes) > 2:
        others = [i for i in range(len(table.classes)) if i != training.signal]
        outputs |= {f"Probability of {table.classes[i]}": tested.scores[:, i] for i in others}
    even: NDArray[Any] = np.linspace(0, 1, _BINS + 1)
    return [_binned(tested, title, values, even) for title, values in outputs.items()]


def _binned(tested: OutOfFold, title: str, values: NDArray[np.float32], edges: Floats) -> BinnedOutput:
    table = tested.table
    parts = [(name, table.labels == i) for i, name in enumerate(table.classes)]
    return BinnedOutput(
        title, edges, [ClassHistogram(name, sums(values[mine], table.weights[mine], edges)) for name, mine in parts]
    )


def stacked(
    style: Style,
    unit: str,
    edges: Floats,
    classes: Sequence[ClassHistogram],
    signal: str | None,
    what: str,
    data: Observed | None = None,
) -> Stack:
    """The classes in their colours, a large one on a small one."""
    bins = {it.name: it.bins for it in classes}
    drawn = {name: Drawn(style.name(name), it.values, style.color(name)) for name, it in bins.items()}
    below = style.from_bottom({name: float(it.values.sum()) for name, it in bins.items() if name != signal})
    error = np.sqrt(sum((bins[name].errors ** 2 for name in below), start=np.zeros(len(edges) - 1)))
    line = drawn.get(signal or "")
    return Stack(Bins(edges, unit), [drawn[name] for name in below], error, "Statistical error", line, data, what=what)
