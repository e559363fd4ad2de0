"""The expected events of each class in some files, the outputs of the networks for them, and sums under each variation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing.evaluation.data_comparison import DataPanel
from ML_processing.evaluation.scored import ClassHistogram, OutOfFold, by_class, label, scored_files, scores_in
from ML_processing.evaluation.sections.regression import Residuals, residuals
from ML_processing.events.data import Table
from ML_processing.events.survey import Survey
from ML_processing.metrics.measured import PAIR, Floats, Measured, even_edges, sums
from ML_processing.metrics.roc import auc
from ML_processing.training.data import TrainingFiles
from ML_processing.training.directory import Training
from MLTools.NanoML.contracts.hdf5 import EVENTS
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.report.section import Style
from MLTools.NanoML.report.stack import Bins, Drawn, Observed, Stack
from MLTools.NanoML.terminal.progress import progress

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
    some = table[rows]  # with weights that stand for all
    weights = (some.weights * _shares(some, survey)[some.labels]).astype(np.float32)
    tested = OutOfFold(training, replace(some, weights=weights), scores)
    return _yields(table, survey), _accuracy(tested) if training.targets else _separation(tested), tested


def _shares(table: Table, survey: Survey) -> NDArray[np.float64]:
    """For each class, how many events there are for each one in a table; 1 if it has none."""
    every, here = survey.counts.sum(axis=1), np.bincount(table.labels, minlength=len(table.classes))
    return np.divide(every, here, out=np.ones_like(every), where=here > 0)


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
    return BinnedOutput(title, edges, by_class(table, table.labels, values, table.weights, edges, sums))


def stacked(
    style: Style,
    unit: str,
    panel: BinnedOutput | DataPanel,
    signal: str | None,
    what: str,
    data: Observed | None = None,
) -> Stack:
    """The classes in their colours, a large one on a small one."""
    bins = {it.name: it.bins for it in panel.classes}
    drawn = {name: Drawn(style.name(name), it.values, style.color(name)) for name, it in bins.items()}
    below = style.from_bottom({name: float(it.values.sum()) for name, it in bins.items() if name != signal})
    error = np.sqrt(sum((bins[name].errors ** 2 for name in below), start=np.zeros(len(panel.edges) - 1)))
    line = drawn.get(signal or "")
    return Stack(
        Bins(panel.edges, unit), [drawn[name] for name in below], error, "Statistical error", line, data, what=what
    )


@dataclass(frozen=True)
class VariedSums:
    """Sums of weights under each of some columns of weights."""

    columns: list[str]
    yields: Floats  # of all events of the training, (columns, classes)
    bins: Floats  # of those with a score, in bins of their discriminant, (columns, classes, bins)
    regions: dict[str, Floats]  # of all events of each region, (columns, classes)


def varied_sums(
    data: TrainingFiles,
    columns: Sequence[str],
    table: Table,
    rows: NDArray[np.int64],
    bins: NDArray[np.int64],
    count: int,
) -> VariedSums:
    """Add up weights block by block: so many of them would not fit into the memory beside the events.

    `columns` have weights of events; those of a file that lacks one have their nominal weight. `rows` of `table` have a score, rising, and
    `bins` is the bin of each among `count`; both int64 of shape (M,).
    """
    place = np.full(len(table), -1)
    place[rows] = bins
    # the table has all events whose hash is at most this
    largest, first = table.hashes().max(), 0
    classes, regions = len(table.classes), data.columns.regions
    slim = replace(data.columns, features=(), collections=(), extras=())
    sums = VariedSums(
        list(columns),
        np.zeros((len(columns), classes)),
        np.zeros((len(columns), classes, count)),
        {region.name: np.zeros((len(columns), classes)) for region in regions},
    )
    is_share = any(dataset.is_data for dataset in data.columns.datasets)
    with progress("add up the weights under each variation", sum(data.rows), is_share=is_share) as bar:
        for file, raw in replace(data, columns=slim, outputs={}).parts():
            there = raw[EVENTS].dtype.names or ()
            wanted = replace(slim, extras=tuple(column for column in columns if column in there))
            part = _weighted(file, Table.of_rows(file, raw, wanted))
            np.add(sums.yields, _added(part, columns, part.labels, classes), out=sums.yields)
            kept = part[part.hashes() <= largest]
            at = place[first : first + len(kept)]
            first += len(kept)
            kept, at = kept[at >= 0], at[at >= 0]
            cells = _added(kept, columns, kept.labels * count + at, classes * count)
            np.add(sums.bins, cells.reshape(sums.bins.shape), out=sums.bins)
            for region in regions:
                inside = _weighted(file, Table.of_rows(file, raw, replace(wanted, within=(region,))))
                found = sums.regions[region.name]
                np.add(found, _added(inside, columns, inside.labels, classes), out=found)
            bar.advance(len(raw[EVENTS]))
    return sums


def _weighted(file: Path, table: Table) -> Table:
    for column, weights in table.extras.items():
        bad = ~np.isfinite(weights)
        if bad.any():
            event = table.identifiers[2][bad][0]
            raise NanoMLError(
                f"{file}: event {event} has {column} {weights[bad][0]}: a weight must be a number. Check the values that "
                "the selection gives it."
            )
    return table


def _added(table: Table, columns: Sequence[str], cell: NDArray[np.int64], cells: int) -> Floats:
    """Sums of weights by cell, (columns, cells)."""
    return np.array([np.bincount(cell, table.extras.get(column, table.weights), cells) for column in columns])
