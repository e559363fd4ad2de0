"""Inputs, scores and events by assigned class: how well simulation describes data in a region."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing.evaluation.data_comparison.classifier_test import ClassifierTest, classifier_test
from ML_processing.evaluation.data_comparison.events import RegionEvents, region_events
from ML_processing.evaluation.inputs import edges_of
from ML_processing.evaluation.scored import ClassHistogram, OutOfFold, inputs_of, label
from ML_processing.metrics.distances import ShapeTest, shape_test
from ML_processing.metrics.measured import MERGED, PAIR, Floats, Histogram, Measured, even_edges, sums
from ML_processing.requests import DataRequest
from ML_processing.training.directory import Training
from MLTools.NanoML.contracts.templates import BlindBins
from MLTools.NanoML.report.stack import Observed

_BINS = 20


@dataclass(frozen=True)
class DataPanel:
    """A variable in data and simulation."""

    name: str
    label: str
    edges: Floats
    data: Observed
    classes: list[ClassHistogram]  # expected events
    agreement: ShapeTest = field(metadata=MERGED)  # with the classes that are expected in data

    @property
    def blind(self) -> NDArray[np.bool_]:
        """Which bins are blind."""
        return self.data.blind

    def without(self, signal: str | None) -> Histogram:
        """The expected events of all classes but one."""
        parts, nothing = [it.bins for it in self.classes if it.name != signal], np.zeros(len(self.edges) - 1)
        squares = sum((it.errors**2 for it in parts), start=nothing)
        return Histogram(sum((it.values for it in parts), start=nothing), np.sqrt(squares))


@dataclass(frozen=True)
class Assigned:
    """The events whose most probable class is this one; as in `DataComparison`, those in blind bins do not count."""

    name: str
    data: int
    expected: Measured = field(metadata=PAIR)
    ratio: Measured = field(metadata=PAIR)
    score: DataPanel  # the probability of the class
    probabilities: dict[str, float | None]  # of the test of the shape of each input


@dataclass(frozen=True)
class DataComparison:
    """Data and simulation in a region.

    Events in a blind bin of a discriminant or of the probability of the signal count in `scores` and in those of `assigned` alone.
    """

    cut: str
    files: list[str]  # of data
    left_out: list[str]  # regions whose events are left out, as they are blind, or seen in part
    limit: float | None  # S / sqrt(B) above which a bin is blind; None if none is
    data: int
    data_in_all: int  # if more than `data`, these are a part, to which what is expected is scaled
    expected: Measured = field(metadata=PAIR)  # events of the classes that are expected in data
    ratio: Measured = field(metadata=PAIR)  # of data to expected; not defined if the weights are not expected events
    signal: str | None  # the class that data are not expected to have; None if they may have all
    signal_over_root_background: float | None  # largest in a bin of a score
    physical: bool  # whether the weights are expected events; else all are scaled to data
    luminosity: float | None  # [/fb]
    inputs: list[DataPanel]
    scores: list[DataPanel]  # discriminants, and the outputs of the networks
    assigned: list[Assigned]  # none for a regression
    classifier: ClassifierTest | None  # None if there are too few events
    share: float = 1.0  # of the data that may be seen; all else is scaled to it

    @property
    def tests(self) -> dict[str, float]:
        """Probability of each test of a shape that is defined, by its variable."""
        found = {it.label: it.agreement.probability for it in (*self.inputs, *self.scores)}
        return {name: value for name, value in found.items() if value is not None}


def data_comparisons(training: Training, wanted: DataRequest, physical: bool) -> dict[str, DataComparison]:
    """The comparison in each of the named regions. The errors are those of `region_events`."""
    return {name: _comparison(region_events(training, wanted, name), wanted, physical) for name in wanted.regions}


def _comparison(events: RegionEvents, wanted: DataRequest, physical: bool) -> DataComparison:
    data, signal = events.data, _signal(events.data.training)
    name, share = events.region.name, wanted.shares.get(events.region.name, 1.0)
    limit = wanted.limit if physical and signal >= 0 and name not in wanted.opened else None
    both = _Both(_scaled(events.expected, len(data.table) / max(events.counted, 1)), data, signal, physical, limit)
    if not physical:
        total = both.background.value or 0.0
        both = replace(both, expected=_scaled(both.expected, len(data.table) / total if total > 0 else 1.0))
    names, scores, seen = both.expected.table.classes, list(both.scores()), both.outside_blind_bins()
    count = len(seen.data.table)
    return DataComparison(
        events.region.cut,
        [str(file) for file in wanted.data],
        [it for it in wanted.shares if it != name],
        limit if any(panel.blind.any() for panel in scores) else None,
        count,
        round(events.counted * count / max(len(data.table), 1)),
        seen.background,
        seen.ratio,
        None if signal < 0 else names[signal],
        _sensitivity(scores, names[signal]) if physical and signal >= 0 else None,
        physical,
        wanted.luminosity and wanted.luminosity * share,
        list(seen.inputs()),
        scores,
        [] if data.training.targets else [both.assigned(i, seen) for i in range(len(names))],
        classifier_test(_kept(seen.expected, seen.expected.table.labels != signal), seen.data),
        share,
    )


def _signal(training: Training) -> int:
    """The class that data are not expected to have: one that is called signal, by its name or by `train.signal`; else -1."""
    description = training.description
    named = description.config.signal is not None or description.signal == "signal"
    return description.signal_index if named and not training.targets and len(description.classes) > 1 else -1


def _scaled(tested: OutOfFold, factor: float) -> OutOfFold:
    table = tested.table
    return replace(tested, table=replace(table, weights=(table.weights * factor).astype(np.float32)))


def _kept(tested: OutOfFold, rows: NDArray[np.bool_]) -> OutOfFold:
    return replace(tested, table=tested.table[rows], scores=tested.scores[rows])


def _assigned(tested: OutOfFold, of: int) -> OutOfFold:
    return _kept(tested, tested.scores.argmax(axis=1) == of)


def _sensitivity(scores: list[DataPanel], signal: str) -> float | None:
    """The largest S / sqrt(B) in a bin of a score."""
    found: list[float] = []
    for panel in scores:
        b = panel.without(signal).values
        s = panel.without(None).values - b
        found += (s[b > 0] / np.sqrt(b[b > 0])).tolist()
    return max(found, default=None)


@dataclass(frozen=True)
class _Both:
    """Simulation and data, the class that is not expected in data, and whether weights are expected events."""

    expected: OutOfFold
    data: OutOfFold
    signal: int
    physical: bool
    limit: float | None = None  # S / sqrt(B) above which a bin is blind

    @property
    def background(self) -> Measured:
        """The events that are expected in data."""
        table = self.expected.table
        weights = table.weights[table.labels != self.signal].astype(np.float64)
        return Measured(float(weights.sum()), float(np.sqrt((weights**2).sum())))

    @property
    def ratio(self) -> Measured:
        """Data over what is expected, with the statistical errors of both."""
        count, expected = len(self.data.table), self.background
        if not self.physical or not count or expected.error is None or not (expected.value or 0.0) > 0:
            return Measured(None, None)
        assert expected.value is not None
        value = count / expected.value
        return Measured.of(value, value * float(np.hypot(count**-0.5, expected.error / expected.value)))

    def scores(self) -> Iterator[DataPanel]:
        """Each discriminant, and each output of the networks."""
        for each in self._outputs(range(self.data.training.shape.outputs)):
            yield self._panel(*each)

    def outside_blind_bins(self) -> _Both:
        """The events that are in no blind bin of a discriminant or of the probability of the signal."""
        seen = [np.ones(len(each.table), bool) for each in (self.expected, self.data)]
        for each in self._outputs([self.signal] if self.limit is not None else []):
            blind, (_, _, edges, *values) = self._panel(*each).blind, each
            for kept, mine in zip(seen, values, strict=True):
                kept &= ~blind[np.clip(np.searchsorted(edges, mine, "right") - 1, 0, len(blind) - 1)]
        return replace(self, expected=_kept(self.expected, seen[0]), data=_kept(self.data, seen[1]))

    def _outputs(
        self, which: Iterable[int]
    ) -> Iterator[tuple[str, str, Floats, NDArray[np.float32], NDArray[np.float32]]]:
        """What a panel of each discriminant and of some outputs needs."""
        training, table = self.data.training, self.expected.table
        even: NDArray[Any] = np.linspace(0, 1, _BINS + 1)
        for it in training.discriminants:
            values, of_data = (it.values(each.scores) for each in (self.expected, self.data))
            yield it.of.name, it.label, even, values, of_data
        for i in which:
            values, of_data = self.expected.scores[:, i], self.data.scores[:, i]
            if training.targets:
                name = training.targets[i]
                edges = even_edges(values, _BINS)
                if edges.size:
                    yield name, f"Predicted {label(table, name)}", edges, values, of_data
            else:
                name = table.classes[i]
                yield name, f"Probability of {name}", even, values, of_data

    def inputs(self) -> Iterator[DataPanel]:
        """Each input; an object counts with the weight of its event."""
        table = self.expected.table
        for it in inputs_of(table):
            if it.collection is None and it.name == table.about.parameter:
                continue
            values, rows = it.values(table)
            of_data, _ = it.values(self.data.table)
            edges = edges_of(np.concatenate([values, of_data]))
            yield self._panel(it.name, label(table, it.name), edges, values, of_data, rows)

    def assigned(self, of: int, seen: _Both) -> Assigned:
        """The events for which the probability of class `of` is the largest; `seen` are those in no blind bin."""
        mine, rest = (
            replace(both, expected=_assigned(both.expected, of), data=_assigned(both.data, of)) for both in (self, seen)
        )
        names = self.expected.table.classes
        edges: NDArray[Any] = np.linspace(1 / len(names), 1, _BINS // 2 + 1)
        title = f"Probability of {names[of]}"
        return Assigned(
            names[of],
            len(rest.data.table),
            rest.background,
            rest.ratio,
            mine._panel(names[of], title, edges, mine.expected.scores[:, of], mine.data.scores[:, of]),
            {it.name: it.agreement.probability for it in rest.inputs()},
        )

    def _panel(
        self,
        name: str,
        title: str,
        edges: Floats,
        values: NDArray[np.float32],
        of_data: NDArray[np.float32],
        rows: NDArray[np.int64] | None = None,
    ) -> DataPanel:
        """A variable by its values in simulation and data; `rows` are the simulated events of the former, if not all once."""
        table = self.expected.table
        labels, weights = (each if rows is None else each[rows] for each in (table.labels, table.weights))
        counts = sums(of_data, np.ones(len(of_data)), edges).values
        classes = [
            ClassHistogram(each, sums(values[labels == i], weights[labels == i], edges))
            for i, each in enumerate(table.classes)
        ]
        total = sums(values[labels != self.signal], weights[labels != self.signal], edges)
        blind: NDArray[np.bool_] = np.zeros(len(counts), bool)
        if self.limit is not None:
            signal = classes[self.signal]
            blind = BlindBins(signal.name, self.limit).among(signal.bins.values, total.values)
        test = shape_test(counts[~blind], Histogram(total.values[~blind], total.errors[~blind]))
        return DataPanel(name, title, edges, Observed.of(np.where(blind, np.nan, counts)), classes, test)
