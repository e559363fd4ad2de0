"""Events with the scores of networks that have not seen them, and what can be read off them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing.events.data import OUTPUTS, Table
from ML_processing.events.survey import ClassTotal, Survey
from ML_processing.metrics.measured import (
    MERGED,
    PAIR,
    UNDEFINED,
    Floats,
    Histogram,
    Measured,
    effective_events,
    even_edges,
    histogram,
)
from ML_processing.metrics.roc import Roc, auc, auc_difference, confusion, roc
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.training.data import TrainingFiles
from ML_processing.training.directory import Training
from ML_processing.training.reweighting import Reweighted
from MLTools.NanoML.atomic import file_hash
from MLTools.NanoML.contracts.hdf5 import EVENTS, core_of
from MLTools.NanoML.report.section import PRIVATE_WORK
from MLTools.NanoML.terminal.progress import progress

MOST_EVENTS = 200_000
"""Diagnostics that need much memory or time use a random choice of this many events."""

_BINS = 25
_AT_ONCE = 1 << 15  # rows of a file that are scored together

EFFICIENCIES = (0.3, 0.5, 0.7, 0.9)
"""Signal efficiencies in the table of working points."""


@dataclass(frozen=True)
class Areas:
    """AUC of the signal against the rest for networks and BDT, and their difference; the last two are not defined without a BDT."""

    network: Measured = field(metadata=PAIR)
    baseline: Measured = field(metadata=PAIR)
    difference: Measured = field(metadata=PAIR)


@dataclass(frozen=True)
class ClassHistogram:
    """A histogram of the events, or of the efficiency for events, of a class."""

    name: str
    bins: Histogram = field(metadata=MERGED)


@dataclass(frozen=True)
class OutOfFold:
    """Events that a training tests on, with scores by networks that have not seen them, shape (N, outputs)."""

    training: Training
    table: Table
    scores: NDArray[np.float32]

    def select(self, rows: NDArray[np.int64], factors: NDArray[np.float32]) -> OutOfFold:
        """Some of the events, with their weights multiplied by `factors`, shape (rows,)."""
        table = self.table[rows]
        return OutOfFold(self.training, replace(table, weights=table.weights * factors), self.scores[rows])

    @property
    def seed(self) -> int:
        """Seed of all random numbers."""
        return self.training.description.config.seed


def scored_files(training: Training, files: TrainingFiles) -> TrainingFiles:
    """The same files, whose events come with the outputs of networks that have not seen them, if a training keeps such.

    All events are scored, whatever regions they are in, and in the order of each file: so the outputs follow from its core alone, and stay
    when regions or weights change. They are NaN where there is no such network.
    """
    if training.kept is None:
        return files
    every = replace(files, columns=replace(files.columns, extras=(), within=(), share=1.0, left_out=None))
    of, outputs = [str(files.columns.is_labelled), training.description.fingerprint, *training.networks], {}
    for file, count in zip(files.files, files.rows, strict=True):
        parts = partial(_outputs, replace(training, kept=None), every, file, count)
        outputs[file] = training.kept.get([*of, core_of(file) or file_hash(file)], parts)
    return replace(files, outputs=outputs)


def _outputs(training: Training, files: TrainingFiles, file: Path, count: int) -> Iterator[NDArray[np.float32]]:
    """The outputs for all rows of a file, part by part; of objects, if these are classified."""
    labels, k = files.columns.labels, None if files.columns.is_labelled else len(training.networks)
    is_share = any(dataset.is_data for dataset in files.columns.datasets)
    with progress(f"score the events of {file.name}", count, is_share=is_share) as bar:
        for start in range(0, max(count, 1), _AT_ONCE):
            rows = files.rows_of(file, start, min(start + _AT_ONCE, count))
            shape = rows[labels.collection if labels else EVENTS].shape
            # where each row of the table comes from goes the way of the outputs
            table = Table.of_rows(file, {**rows, OUTPUTS: np.arange(np.prod(shape)).reshape(shape)}, files.columns)
            training.check(table)
            chosen, scores = training.out_of_fold(table, k)
            found = np.full((*shape, training.shape.outputs), np.nan, np.float32)
            found.reshape(-1, training.shape.outputs)[np.asarray(table.outputs)[chosen]] = scores
            yield found
            bar.advance(len(rows[EVENTS]))


def scores_in(training: Training, table: Table, k: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """As `Training.out_of_fold`, with the outputs that the events come with, if they do."""
    if table.outputs is None:
        return training.out_of_fold(table, k)
    rows = np.flatnonzero(table.folds(k or training.description.folds.k) < len(training.networks))
    return rows, table.outputs[rows]


@dataclass(frozen=True)
class ClassEvents:
    """The events of a class: all, the effective number of those with a score, and their share of negative weights."""

    total: ClassTotal = field(metadata=MERGED)
    effective: float
    negative: float
    largest: float = 0.0  # share of the event with the largest weight in the sum of weights

    @property
    def why_few(self) -> str:
        """Why the effective number is far below that of events; empty if it is not."""
        if self.total.events < 4 * self.effective:
            return ""
        if self.largest > 0.02:
            return f"one weight is {self.largest:.0%} of the sum: check its cross section and genWeight"
        return f"{self.negative:.0%} of the weights are negative" if self.negative > 0.1 else "weights differ much"


@dataclass(frozen=True)
class EventCounts:
    """Numbers of events: of all, of those with a score, and of those in most diagnostics."""

    total: int
    tested: int
    sampled: int
    classes: dict[str, ClassEvents]
    # means over the networks, of classes whose weights were made positive in the training
    reweighted: dict[str, Reweighted]

    @classmethod
    def of(cls, tested: OutOfFold, part: OutOfFold, survey: Survey) -> EventCounts:
        """Counts of the events with a score, of `part` of them, and of all that were surveyed."""
        classes = {}
        for i, (name, total) in enumerate(survey.summary().items()):
            weights = tested.table.weights[tested.table.labels == i]
            negative = float((weights < 0).mean()) if weights.size else 0.0
            largest = float(np.abs(weights).max(initial=0) / max(abs(weights.sum(dtype=np.float64)), 1e-30))
            classes[name] = ClassEvents(total, effective_events(weights), negative, largest)
        reweighted = Reweighted.means(tested.training.reweighted)
        return cls(int(survey.counts.sum()), len(tested.table), len(part.table), classes, reweighted)


@dataclass(frozen=True)
class Scored:
    """N events with class probabilities by the networks and, if there is one beside them, by a BDT, shape (N, classes)."""

    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    network: NDArray[np.float32]
    baseline: NDArray[np.float32] | None
    discriminant: BoundDiscriminant

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.network.shape[1]

    @property
    def names(self) -> list[str]:
        """Names of the classes."""
        return list(self.discriminant.classes)

    @property
    def signal(self) -> int:
        """Index of the signal among them."""
        return self.discriminant.signal

    @property
    def backgrounds(self) -> list[int]:
        """Indices of the other classes."""
        return [i for i in range(self.classes) if i != self.signal]

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Whether each event is signal, shape (N,)."""
        return self.labels == self.signal

    @property
    def score(self) -> NDArray[np.float32]:
        """The discriminant, or the probability of the signal, by the networks, shape (N,)."""
        return self.discriminant.values(self.network)

    @property
    def reference(self) -> NDArray[np.float32] | None:
        """The same by the BDT, shape (N,)."""
        return None if self.baseline is None else self.discriminant.values(self.baseline)

    def select(self, rows: NDArray[np.generic]) -> Scored:
        """Some of the events, given by an index or a mask."""
        labels, weights = self.labels[rows], self.weights[rows]
        baseline = None if self.baseline is None else self.baseline[rows]
        return Scored(labels, weights, self.network[rows], baseline, self.discriminant)

    def counted(self) -> Scored:
        """Only the events of classes that count in the discriminant."""
        use = self.discriminant.counts(self.labels)
        return self if use.all() else self.select(use)

    def against(self, background: int) -> Scored:
        """Only the events of the signal and of one other class."""
        return self.select(self.truth | (self.labels == background))

    @classmethod
    def join(cls, parts: Sequence[Scored]) -> Scored:
        """All events of `parts`, which have the same discriminant, as the networks see them."""
        labels, weights, network = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("labels", "weights", "network")
        )
        return cls(labels, weights, network, None, parts[0].discriminant)

    def unweighted(self) -> Scored:
        """The same with every weight 1."""
        return replace(self, weights=np.ones_like(self.weights))

    def balanced(self) -> NDArray[np.float64] | None:
        """Weights that give every class the same sum, as in the training; None if the sum of a class is not positive."""
        sums = np.bincount(self.labels, self.weights.astype(np.float64), self.classes)
        return self.weights / sums[self.labels] if (sums > 0).all() else None

    def areas(self) -> Areas:
        """AUC of the signal against all other events."""
        truth, ours, theirs = self.truth, self.score, self.reference
        network = auc(ours, truth, self.weights)
        if theirs is None:
            return Areas(network, UNDEFINED, UNDEFINED)
        return Areas(network, auc(theirs, truth, self.weights), auc_difference(ours, theirs, truth, self.weights))

    @property
    def has_roc(self) -> bool:
        """Whether a ROC curve is defined: signal and background have a positive sum of weights."""
        return bool(
            self.weights[self.truth].sum(dtype=np.float64) > 0 < self.weights[~self.truth].sum(dtype=np.float64)
        )

    def roc(self) -> Roc:
        """ROC curve of the networks."""
        return roc(self.score, self.truth, self.weights)

    def cut_at(self, background: float) -> float | None:
        """The loosest cut on the score that keeps at most this share of the background."""
        if not self.has_roc:
            return None
        curve = self.roc()
        return float(curve.thresholds[max(1, int(np.argmax(curve.background > background)) - 1)])

    def confusion(self) -> Floats:
        """Sum of weights by true class (row) and class of the highest probability (column)."""
        return confusion(self.labels, self.network.argmax(axis=1), self.weights, self.classes)


def sampled(labels: NDArray[np.int64], limit: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """A random choice of at most about `limit` events, as many of each class as there are or its equal share.

    Returns their rows, rising, and for each a factor that makes up for those of its class that are left out.
    """
    if len(labels) <= limit:
        return np.arange(len(labels)), np.ones(len(labels), np.float32)
    random, counts = np.random.default_rng(seed), np.bincount(labels)
    share = limit // int((counts > 0).sum())
    chosen = [random.permutation(np.flatnonzero(labels == i))[:share] for i in np.flatnonzero(counts)]
    rows = np.sort(np.concatenate(chosen))
    factors = counts / np.clip(np.minimum(counts, share), 1, None)
    return rows, factors[labels[rows]].astype(np.float32)


@dataclass(frozen=True)
class InputVariable:
    """One input of the networks: a feature, or a field of a collection, such as "Jet_eta", and its column there."""

    name: str
    index: int
    collection: str | None = None

    def values(self, table: Table) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Its values in all events, and the row of `table` that each belongs to; both of shape (values,)."""
        if self.collection is None:
            return table.features[:, self.index], np.arange(len(table))
        values, mask = table.objects[self.collection]
        rows, objects = np.nonzero(mask)
        return values[rows, objects, self.index], rows


def inputs_of(table: Table) -> list[InputVariable]:
    """All inputs; those of the event come first."""
    found = [InputVariable(name, i) for i, name in enumerate(table.shape.features)]
    for it in table.shape.collections:
        found += [InputVariable(column, i, it.name) for i, column in enumerate(it.columns)]
    return found


def label(table: Table, name: str) -> str:
    """Title of an axis: what a column is, and its unit; fields of collections are called by their names."""
    titles = {column.name: column.title for column in table.about.features}
    fields = {f"{it.name}_{column.name}": column.title for it in table.about.collections for column in it.columns}
    unit = PRIVATE_WORK.unit(name, fields.get(name, ""))
    return PRIVATE_WORK.axis(name, titles.get(name, f"[{unit}]"))


def spectators(table: Table) -> dict[str, NDArray[np.float32]]:
    """Event-level columns by name, inputs first."""
    return {**{name: table.features[:, i] for i, name in enumerate(table.names)}, **table.extras}


def by_class(
    table: Table,
    labels: NDArray[np.int64],
    values: NDArray[np.generic],
    weights: NDArray[np.generic],
    edges: Floats,
    of: Callable[..., Histogram] = histogram,
) -> list[ClassHistogram]:
    """Shape of some values for every class; or, `of` them, sums."""
    parts = [(name, labels == i) for i, name in enumerate(table.classes)]
    return [ClassHistogram(name, of(values[mine], weights[mine], edges)) for name, mine in parts]


def edges_of(values: NDArray[np.generic]) -> Floats:
    """Edges of bins for a histogram: one bin for each of a few whole numbers, else 25 where most values are."""
    known = values[np.isfinite(values)].astype(np.float64)
    if not known.size:
        return np.array([0.0, 1.0])
    different = np.unique(known[:100_000])
    if len(different) <= _BINS and (different == np.round(different)).all() and np.ptp(different) <= _BINS:
        return np.arange(different[0] - 0.5, different[-1] + 1)
    edges = even_edges(known, _BINS)
    return edges if edges.size else known[0] + np.array([-0.5, 0.5])


def missing_share(values: NDArray[np.generic]) -> float:
    """The share of values that are not finite."""
    return 1 - float(np.isfinite(values).mean()) if values.size else 0.0
