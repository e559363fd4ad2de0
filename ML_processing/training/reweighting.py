"""Other weights of training events: positive ones with the expectation of signed ones, and flat spectra of some columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ML_processing.events.data import Table
from ML_processing.events.survey import Survey
from ML_processing.metrics.measured import effective_events
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.folds import mixed

if TYPE_CHECKING:
    from ML_processing.models.quick_bdt import QuickBDT


_PARTS = 5  # each has its weights from a model of the others
_FEWEST = 20  # events of a sign in these: fewer show no dependence on anything
_MOST = 200_000  # events that a model learns from
# small trees: the share of negative weights varies slowly, and an event says little of it
_SETTINGS = {"num_leaves": 4, "min_data_in_leaf": 100}
_STOPPING = 5  # one event in so many says when a model has learned enough


@dataclass(frozen=True)
class Reweighted:
    """The change of the weights of a class in the training events of a network."""

    negative: float  # share of the events whose weight was negative
    clipped: float  # sum of what became 0 instead of negative, in units of the sum of weights
    effective: float  # (sum of w)² / sum of w² of the signed weights
    effective_after: float  # and of the positive ones

    @classmethod
    def means(cls, networks: Sequence[Mapping[str, Reweighted]]) -> dict[str, Reweighted]:
        """Means over networks, by class."""
        found: dict[str, list[Reweighted]] = {}
        for name, each in (pair for network in networks for pair in network.items()):
            found.setdefault(name, []).append(each)
        return {name: cls(*np.mean([astuple(each) for each in all_], axis=0).tolist()) for name, all_ in found.items()}


@dataclass(frozen=True)
class PositiveWeights:
    """Models that give training events positive weights.

    Among events of a class with the features x, let g(x) be the share of positive weights in the sum of their absolute values. The mean
    of w at x is then that of abs(w) (2 g(x) - 1), and with these weights every sum over functions of x, the loss among them, has the
    same expectation as with the signed ones. A classifier learns g, as in Nachman and Thaler, Phys. Rev. D 102 (2020) 076004, after
    Andersen, Gütschow, Maier and Prestel, Eur. Phys. J. C 80 (2020) 1007. Each event gets its weight from a classifier that has not
    seen it, and so cannot know its sign. Where 2 g - 1 is below 0 the weight is 0. The sum of weights of a class stays.

    It is done by class and not by dataset: in a class that is estimated from data, a whole dataset may be there to be subtracted.
    """

    # of each class with a negative weight, one for each part of the events: a classifier, or g where it is the same everywhere
    models: dict[int, tuple[QuickBDT | float, ...]]
    scales: dict[int, float]  # by class: keep its sum
    classes: dict[str, Reweighted]

    @classmethod
    def learn(cls, table: Table, seed: int, threads: int | None = None) -> PositiveWeights:
        """Learn from training events; a NanoMLError if the weights of a class do not sum to something positive."""
        made, part = cls({}, {}, {}), _parts(table)
        for i, name in enumerate(table.classes):
            mine = np.flatnonzero(table.labels == i)
            signed = table.weights[mine].astype(np.float64)
            if not (signed < 0).any():
                continue
            others = [_model(table, mine[part[mine] != each], seed, threads) for each in range(_PARTS)]
            share = float((1 + signed.sum() / np.abs(signed).sum()) / 2)
            made.models[i] = tuple(share if model is None else model for model in others)
            found = np.abs(signed) * made._factors(table, mine, i)
            positive = found.clip(min=0)
            before, after = signed.sum(), positive.sum()
            if before <= 0 or after <= 0:
                raise NanoMLError(
                    f'class "{name}": the weights of its training events sum to {before:.4g}, and to {after:.4g} if all are positive: '
                    "they cannot be made positive. Use more events, a larger train.memory, or train.negative_weights: signed."
                )
            made.scales[i] = before / after
            numbers = (effective_events(signed), effective_events(positive))
            clipped = float((positive.sum() - found.sum()) / before)
            made.classes[name] = Reweighted(float((signed < 0).mean()), clipped, *numbers)
        return made

    def of(self, table: Table) -> Table:
        """Training events, which need not be those that were learned from, with positive weights."""
        weights = table.weights.copy()
        for i, scale in self.scales.items():
            mine = np.flatnonzero(table.labels == i)
            weights[mine] = np.abs(weights[mine]) * self._factors(table, mine, i).clip(min=0) * scale
        return replace(table, weights=weights)

    def counted(self, survey: Survey) -> Survey:
        """Counts in which the absolute values of positive weights sum to no more than these."""
        changed = np.isin(np.arange(len(survey.counts)), list(self.scales))[:, None]
        return replace(survey, absolute=np.where(changed, survey.sums, survey.absolute))

    def _factors(self, table: Table, rows: NDArray[np.int64], label: int) -> NDArray[np.float64]:
        """2 g - 1 of some events of a class."""
        part, found = _parts(table)[rows], np.empty(len(rows))
        for number, model in enumerate(self.models[label]):
            mine = part == number
            if mine.any():
                found[mine] = 2 * (model if isinstance(model, float) else model(_columns(table[rows[mine]]))[:, 1]) - 1
        return found


def _parts(table: Table) -> NDArray[np.int64]:
    """The part of each event: independent of its fold, and the same for all objects of an event."""
    run, block, event = table.identifiers
    return (mixed(event, block, run) % np.uint64(_PARTS)).astype(np.int64)


def _model(table: Table, rows: NDArray[np.int64], seed: int, threads: int | None) -> QuickBDT | None:
    """A classifier of the sign for some events; None with few events of a sign."""
    rows = np.random.default_rng(seed).permutation(rows)[:_MOST]
    weights = table.weights[rows]
    positive, sizes = weights > 0, np.abs(weights)
    if min(positive.sum(), (~positive).sum()) < _FEWEST:
        return None
    from ML_processing.models.quick_bdt import Events, QuickBDT  # most trainings need none, and it takes a second

    events, stop = Events(_columns(table[rows]), positive, sizes), len(rows) // _STOPPING
    return QuickBDT.learn(events[stop:], events[:stop], 2, seed, threads, **_SETTINGS)


def _columns(table: Table) -> NDArray[np.float32]:
    """All that a loss depends on."""
    about = table.about
    spectator = [] if about.spectator is None else [table.extras[about.spectator]]
    columns = np.column_stack([table.flattened(), table.targets(), *spectator])
    return np.where(np.isfinite(columns), columns, np.float32(np.nan))


_BINS = {1: 40, 2: 15}  # of each column; of more columns 6
_LARGEST = 10.0  # factor for the events of a bin that a class hardly fills


@dataclass(frozen=True)
class Flattening:
    """Factors by class and bin, which take each class to the mean of the spectra of all."""

    columns: tuple[str, ...]
    edges: list[NDArray[np.float64]]  # between the bins of each column
    factors: NDArray[np.float64]  # (classes, bins)

    @classmethod
    def learn(cls, table: Table, columns: Sequence[str]) -> Flattening:
        """From the events of a training; the bins of each column have the same number of them."""
        bins = _BINS.get(len(columns), 6)
        shares = np.arange(1, bins) / bins
        values = map(table.column, columns)
        edges = [np.unique(np.quantile(it[np.isfinite(it)].astype(np.float64), shares)) for it in values]
        made = cls(tuple(columns), edges, np.ones((1, 1)))
        count, labels, classes = int(np.prod([len(it) + 2 for it in edges])), table.labels, len(table.classes)
        places = labels * count + made._places(table)
        sums = np.bincount(places, np.abs(table.weights), classes * count).reshape(classes, count)
        spectra = sums / sums.sum(axis=1, keepdims=True)
        factors = np.divide(spectra.mean(axis=0), spectra, out=np.ones_like(spectra), where=spectra > 0)
        factors = factors.clip(max=_LARGEST)
        return replace(made, factors=factors / (spectra * factors).sum(axis=1, keepdims=True))

    def of(self, table: Table) -> Table:
        """The same events with these factors in their weights."""
        return replace(table, weights=(table.weights * self.factors[table.labels, self._places(table)]).astype("f4"))

    def _places(self, table: Table) -> NDArray[np.int64]:
        """The bin of each event; what is not finite is in one of its own."""
        place = np.zeros(len(table), np.int64)
        for name, edges in zip(self.columns, self.edges, strict=True):
            values = table.column(name)
            found = np.where(np.isfinite(values), np.searchsorted(edges, values, "right"), len(edges) + 1)
            place = place * (len(edges) + 2) + found
        return place
