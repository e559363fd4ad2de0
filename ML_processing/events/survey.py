"""All events counted while they are read once, and split into those for training, validation and test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing.events.columns import ALL, TrainingColumns
from ML_processing.events.data import Table
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.folds import SINGLE

_MOST_LISTED = 10  # values that give the class of objects
_MOST_VALUES = 1000  # of a parameter: more is no grid of hypotheses


@dataclass
class _Range:
    """Values of one column in all events (of a collection: in all objects)."""

    count: int = 0
    finite: int = 0
    low: float = np.inf
    high: float = -np.inf

    def add(self, values: NDArray[np.float32]) -> None:
        finite = values[np.isfinite(values)]
        self.count += len(values)
        self.finite += len(finite)
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))


@dataclass(frozen=True)
class ClassTotal:
    """Number of events of a class, and their sum of weights."""

    events: int
    sum_of_weights: float


@dataclass
class Survey:
    """Counts of all events of a training."""

    about: TrainingColumns
    counts: NDArray[np.float64]  # events, (classes, folds)
    sums: NDArray[np.float64]  # sums of weights, (classes, folds)
    absolute: NDArray[np.float64]  # sums of the absolute values of weights, (classes, folds)
    # sum of weights by the value of the parameter
    parameters: dict[float, float] = field(default_factory=dict)
    # objects of no class, by the value that gives the class
    left_out: Counter[int] = field(default_factory=Counter)
    _ranges: dict[str, _Range] = field(default_factory=dict)

    @classmethod
    def empty(cls, about: TrainingColumns, folds: int) -> Survey:
        """Nothing is counted yet."""
        counts, sums, absolute = (np.zeros((len(about.classes), folds)) for _ in range(3))
        return cls(about, counts, sums, absolute)

    def add(self, table: Table) -> None:
        """Count the events of a table."""
        classes, folds = self.counts.shape
        cell = table.labels * folds + table.folds(folds)
        weights = table.weights.astype(np.float64)
        for total, values in ((self.counts, None), (self.sums, weights), (self.absolute, np.abs(weights))):
            total += np.bincount(cell, values, classes * folds).reshape(classes, folds)
        for name, values in _columns(table):
            self._ranges.setdefault(name, _Range()).add(values)
        self.left_out += table.left_out
        if self.about.parameter is not None:
            self._add_parameter(table.features[:, -1], weights)

    def _add_parameter(self, values: NDArray[np.float32], weights: NDArray[np.float64]) -> None:
        present = np.isfinite(values)
        found, which = np.unique(values[present], return_inverse=True)
        for value, total in zip(found, np.bincount(which, weights[present], len(found)), strict=True):
            self.parameters[float(value)] = self.parameters.get(float(value), 0.0) + float(total)

    def taking(self, table: Table) -> Survey:
        """The same counts for the columns that a table has taken."""
        return replace(self, about=table.about, _ranges={name: self._ranges[name] for name, _ in _columns(table)})

    def summary(self) -> dict[str, ClassTotal]:
        """Events and sum of weights of each class."""
        totals = zip(self.about.classes, self.counts.sum(axis=1), self.sums.sum(axis=1), strict=True)
        return {name: ClassTotal(int(count), float(total)) for name, count, total in totals}

    def check(self, files: Sequence[Path]) -> None:
        """Raise a NanoMLError if a class has no event, a column no finite value, and the like."""
        classes = self.about.classes
        if not self.about.targets and len(classes) < 2:
            raise NanoMLError(
                f"{files[0]}: a training needs two classes or more; these files have {', '.join(classes) or 'none'}. "
                "Give each dataset to train on its `class`, and convert again."
            )
        for name, count in zip(classes, self.counts.sum(axis=1), strict=True):
            if not count:
                raise NanoMLError(self._no_object(name) if self.about.labels else self._no_event(name))
        for name, values in self._ranges.items():
            if values.count and not values.finite and name != self.about.parameter:
                raise NanoMLError(
                    f'"{name}" is not a finite number in any event. Take it out of the configuration, or correct how '
                    "it is computed."
                )
        for name in self.about.targets:
            missing = self._ranges[name].count - self._ranges[name].finite
            if missing:
                raise NanoMLError(
                    f'target "{name}" is not a finite number in {missing:,} events. Select the events that have one.'
                )
        if self.about.parameter is not None and not 2 <= len(self.parameters) <= _MOST_VALUES:
            raise NanoMLError(
                f'parameter "{self.about.parameter}" has {len(self.parameters)} values in these events: a network learns to '
                f"interpolate between 2 or more (up to {_MOST_VALUES})."
            )

    def incomplete(self) -> list[str]:
        """The inputs that have no value in some events or objects, in their order."""
        about = self.about
        names = [*about.names, *(name for it in about.collections for name in it.shape.columns)]
        lacking = (name for name in names if name in self._ranges and name != about.parameter)
        return [name for name in lacking if self._ranges[name].finite < self._ranges[name].count]

    def notes(self) -> list[str]:
        """Sentences for the user about columns, and about objects that are left out."""
        columns = [note for name, values in self._ranges.items() for note in self._notes_on(name, values)]
        return [*self._left_out(), *columns]

    def _left_out(self) -> Iterator[str]:
        labels, count = self.about.labels, self.left_out.total()
        if labels is not None and count:
            every = count + int(self.counts.sum())
            yield (
                f"{count:,} of {every:,} objects of {labels.collection} have no class by {labels.name} and are left out: "
                f"{self._values()}."
            )

    def _values(self) -> str:
        """The values of objects that are left out, the most frequent ones first."""
        first = self.left_out.most_common(_MOST_LISTED)
        more = ["..."] if len(self.left_out) > len(first) else []
        return ", ".join([*(f"{value} ({count:,})" for value, count in first), *more])

    def _no_object(self, name: str) -> str:
        labels = self.about.labels
        assert labels is not None
        mine = [value for value, i in labels.classes.items() if self.about.classes[i] == name]
        return (
            f'class "{name}" has no object: no {labels.name} is {" or ".join(map(str, mine)) or "given"}. '
            f"Without a class are: {self._values() or 'none'}. Correct train.per_object.classes, or give other files."
        )

    def _no_event(self, name: str) -> str:
        mine = [dataset.name for dataset in self.about.datasets if dataset.class_ == name]
        where = f"its datasets here: {', '.join(mine)}" if mine else "no file here belongs to a dataset of this class"
        regions = " or ".join(region.name for region in self.about.within)
        inside = f" in {regions}" if regions else ""
        if name == ALL and not self.about.is_labelled:
            return f"there is no event{inside} to train on. Check the selection, or give other files."
        return (
            f'class "{name}" has no event{inside} ({where}). Give its files too, check its selection, '
            "or take the class out of the configuration."
        )

    def _notes_on(self, name: str, values: _Range) -> Iterator[str]:
        missing = values.count - values.finite
        if name == self.about.parameter or not values.count:
            return
        is_field = name not in (*self.about.names, *self.about.extras)
        is_feature = is_field or name in self.about.names
        rows = "objects" if is_field or self.about.labels else "events"
        what = "Feature" if is_feature else "Column"
        if missing:
            of = f"{missing:,} of {values.count:,} {rows}"
            share = f"({100 * missing / values.count:.2g} %)"
            then = "these count as missing" + ("" if is_feature else " and are not decorrelated")
            if name in self.about.estimates:
                then = "there is nothing to estimate in these"
            named = " or ".join(f"{value:g}" for value in self.about.named.get(name, ()))
            yield f"{what} {name} is not a finite number{named and f', or {named},'} in {of} {share}: {then}."
        if values.low == values.high:
            yield f"{what} {name} has the same value, {values.low:g}, everywhere: it cannot help."


def _columns(table: Table) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """All inputs, targets and the spectator by their full names."""
    yield from table.inputs()
    rest = {*table.about.targets, *table.about.estimates, *filter(None, [table.about.spectator])} - set(table.names)
    yield from ((name, table.extras[name]) for name in sorted(rest))


@dataclass(frozen=True)
class Split:
    """The events of one network, as int64 arrays of row numbers; no event is in two of them."""

    fold: int
    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split_count(folds: int) -> tuple[int, int]:
    """Numbers of folds and of networks for `train.folds`; a ConfigError if nothing is left to train on."""
    if folds == 1:
        return SINGLE, 1
    if folds < 3:
        raise ConfigError(
            f"train.folds: {folds} leaves no event to train on, since one fold tests and one validates. "
            "Use 3 or more, or 1 for a single network."
        )
    return folds, folds


def make_splits(table: Table, folds: int) -> list[Split]:
    """Split the events by `train.folds`: network i tests on fold i, validates on fold i + 1, trains on the rest."""
    k, networks = split_count(folds)
    return splits_by(table.folds(k), k, networks)


def splits_by(fold: NDArray[np.int64], k: int, networks: int) -> list[Split]:
    """The same by the fold of each event among `k`."""
    parts = [(i, fold == (i + 1) % k, fold == i) for i in range(networks)]
    return [Split(i, *map(np.flatnonzero, (~(after | test), after, test))) for i, after, test in parts]


def class_factors(labels: NDArray[np.int64], weights: NDArray[Any], classes: list[str]) -> NDArray[np.float64]:
    """Factors from physical weights to those of the training, one per class, float64 of shape (classes,).

    After multiplication every class has the same sum over these training events, and the mean of |weight| is 1. Signs
    stay. A NanoMLError says that the weights of a class do not sum to something positive.
    """
    weights = weights.astype(np.float64)
    counts, sums, absolute = (np.bincount(labels, of, len(classes)) for of in (None, weights, np.abs(weights)))
    return _factors(counts, sums, absolute, classes)


def factors_of_split(survey: Survey, fold: int) -> NDArray[np.float64]:
    """The factors of `class_factors` from the counts of all events, for the network that tests on `fold`.

    A NanoMLError says that a class has no training event, or weights that do not sum to something positive, or that there
    is nothing to validate with.
    """
    k, classes = survey.counts.shape[1], survey.about.classes
    training = [i for i in range(k) if i not in (fold, (fold + 1) % k)]
    counts = survey.counts[:, training].sum(axis=1)
    total = int(survey.counts.sum())
    for name, count, everywhere in zip(classes, counts, survey.counts.sum(axis=1).tolist(), strict=True):
        if not count:
            raise NanoMLError(
                f'class "{name}" has no event in the training part of fold {fold + 1} of {k}: {int(everywhere)} in all are '
                "too few. Use more events, more folds, so that each network learns from more, or looser cuts (also in train.regions)."
            )
    validation = survey.counts[:, (fold + 1) % k].sum()
    if not validation:
        raise NanoMLError(
            f"fold {(fold + 1) % k + 1} of {k} has no event to validate with: {total} events are too few."
        )
    factors = _factors(counts, survey.sums[:, training].sum(axis=1), survey.absolute[:, training].sum(axis=1), classes)
    stop = float((survey.sums[:, (fold + 1) % k] * factors).sum())
    if stop <= 0:
        raise NanoMLError(
            f"fold {fold + 1} of {k}: the weights of the {int(validation)} events that decide when to stop sum to "
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
                "scaled to the total of the other classes. Use more events, or check its cross section and genWeight, or, if it is from "
                'data, what is subtracted from it; "only: fit" leaves it out of the training.'
            )
    factors: NDArray[np.float64] = 1 / sums
    return factors / ((absolute * factors).sum() / counts.sum())
