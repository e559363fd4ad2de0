"""Data and simulation in a region, with scores, and their variables; data of a region that is blind are never kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing.evaluation.scored import (
    ClassHistogram,
    OutOfFold,
    by_class,
    edges_of,
    inputs_of,
    label,
    scored_files,
    scores_in,
)
from ML_processing.events.data import Table
from ML_processing.metrics.distances import ShapeTest, shape_test
from ML_processing.metrics.measured import MERGED, PAIR, Floats, Histogram, Measured, even_edges, sums
from ML_processing.requests import DataRequest
from ML_processing.training.data import EventSample, TrainingFiles
from ML_processing.training.directory import Training
from MLTools.NanoML.contracts.blinding import BlindBins, share_in
from MLTools.NanoML.contracts.hdf5 import EVENTS, ConvertedRegion, read_metadata
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.folds import part_of
from MLTools.NanoML.report.stack import Observed
from MLTools.NanoML.rootio.versions import IDENTIFIERS, did_you_mean
from MLTools.NanoML.terminal.progress import progress

_BINS = 20


def is_data(file: Path) -> bool:
    """Whether an HDF5 file has collision data without a class."""
    return any(dataset.is_data and dataset.class_ is None for dataset in read_metadata(file).datasets)


@dataclass(frozen=True)
class RegionEvents:
    """The events of a region that may be seen."""

    region: ConvertedRegion
    expected: OutOfFold  # weights stand for all simulated events, those that are not tested as well
    data: OutOfFold  # each with weight 1; their labels mean nothing
    counted: int  # events of data, of which `data` may be a part


def region_events(training: Training, compared: DataRequest, name: str) -> RegionEvents:
    """The events of a region that may be seen: none that is also in one that is blind.

    Networks that have not seen an event score it, as in the files of `nanoml score`. A NanoMLError says that the files do not
    fit together, a ConfigError that they have no such region, or that it is a blind one.
    """
    settings = replace(training.description.config, regions=[])
    simulation, data = (TrainingFiles.open(files, settings) for files in (compared.simulation, compared.data))
    data = replace(data, columns=replace(data.columns, is_labelled=False))  # else they would be left out
    regions, others = ({it.name: it for it in each.columns.regions} for each in (simulation, data))
    if name not in regions:
        hint = did_you_mean(name, regions) or f" They have: {', '.join(regions) or 'none'}."
        raise ConfigError(f'evaluate.data_in: "{name}" is not a region of the HDF5 files.{hint}')
    if compared.shares.get(name) == 0:
        raise ConfigError(f"evaluate.data_in: data in {name} are blind. Name another region.")
    for wanted in (name, *compared.shares):
        if others.get(wanted) != regions.get(wanted):
            raise NanoMLError(
                f"{compared.data[0]}: has another region {wanted} than {compared.simulation[0]}, or none. Convert both with the "
                "same configuration."
            )
    table, counts = _gathered(scored_files(training, simulation), name, compared, settings.memory, False)
    training.check(table)
    rows, scores = scores_in(training, table)
    table = table[rows]
    here = np.bincount(table.labels, minlength=len(counts))
    factors = np.divide(counts, here, out=np.ones(len(counts)), where=here > 0)
    table = replace(table, weights=(table.weights * factors[table.labels]).astype(np.float32))
    observed, counted = _gathered(scored_files(training, data), name, compared, settings.memory, True)
    training.check(observed)
    return RegionEvents(
        regions[name],
        OutOfFold(training, table, scores),
        OutOfFold(training, observed, scores_in(training, observed, len(training.networks))[1]),
        int(counted.sum()),
    )


def _gathered(
    files: TrainingFiles, region: str, compared: DataRequest, memory: int, of_data: bool
) -> tuple[Table, NDArray[np.float64]]:
    """The events of a region that may be seen, as many as fit into the memory, and how many of each class there are.

    Simulation is weighted by the share of each event, and data are seen as a whole or not at all.
    """
    kept, counts = EventSample(memory * 1e6), np.zeros(len(files.columns.classes))
    columns, what = {it.name: it.column for it in files.columns.regions}, "data" if of_data else "what is expected"
    with progress(f"read {what} in {region}", sum(files.rows), is_share=of_data) as bar:
        for file, raw in files.parts():
            events = raw[EVENTS]
            others = {it: events[columns[it]] for it in compared.shares}
            share = np.broadcast_to(share_in(region, compared.shares, others.get), len(events))
            if of_data:
                share = part_of(*(events[name] for name in IDENTIFIERS)) < share
            seen = events[columns[region]] & (share > 0)
            rows = {name: values[seen] for name, values in raw.items()}
            rows[EVENTS]["weight"] *= share[seen]
            table = Table.of_rows(file, rows, files.columns)
            counts += np.bincount(table.labels, minlength=len(counts))
            kept.add(table)
            bar.advance(len(events))
    return Table.join(kept.parts), counts


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
    """The events whose most probable class is this one; as in the comparison, those in blind bins do not count."""

    name: str
    data: int
    expected: Measured = field(metadata=PAIR)
    ratio: Measured = field(metadata=PAIR)
    score: DataPanel  # the probability of the class
    probabilities: dict[str, float | None]  # of the test of the shape of each input


def signal_in(training: Training) -> int:
    """The class that data are not expected to have: one that is called signal, by its name or by `train.signal`; else -1."""
    description = training.description
    named = description.config.signal is not None or description.signal == "signal"
    return description.signal_index if named and not training.targets and len(description.classes) > 1 else -1


def scaled(tested: OutOfFold, factor: float) -> OutOfFold:
    """The same events with weights times a factor."""
    table = tested.table
    return replace(tested, table=replace(table, weights=(table.weights * factor).astype(np.float32)))


def kept(tested: OutOfFold, rows: NDArray[np.bool_]) -> OutOfFold:
    """Some of the events."""
    return replace(tested, table=tested.table[rows], scores=tested.scores[rows])


def _assigned(tested: OutOfFold, of: int) -> OutOfFold:
    return kept(tested, tested.scores.argmax(axis=1) == of)


@dataclass(frozen=True)
class BothSamples:
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

    def scores(self, seen: BothSamples) -> Iterator[DataPanel]:
        """Each discriminant, and each output of the networks; `seen` are the events in no blind bin.

        What is expected in a blind bin is of all events. All else is of those that are seen: the sum of a panel that hides fewer bins
        would tell what the others hide.
        """
        for each, (*_, values, of_data) in zip(self._outputs(), seen._outputs(), strict=True):
            yield seen._panel(*each[:3], values, of_data, whole=self._panel(*each))

    def outside_blind_bins(self) -> BothSamples:
        """The events that are in no blind bin of a discriminant or output."""
        seen = [np.ones(len(each.table), bool) for each in (self.expected, self.data)]
        for each in self._outputs() if self.limit is not None else ():
            blind, (_, _, edges, *values) = self._panel(*each).blind, each
            for use, mine in zip(seen, values, strict=True):
                use &= ~blind[np.clip(np.searchsorted(edges, mine, "right") - 1, 0, len(blind) - 1)]
        return replace(self, expected=kept(self.expected, seen[0]), data=kept(self.data, seen[1]))

    def _outputs(self) -> Iterator[tuple[str, str, Floats, NDArray[np.float32], NDArray[np.float32]]]:
        """The content of the panels of each discriminant and output."""
        training, table = self.data.training, self.expected.table
        even: NDArray[Any] = np.linspace(0, 1, _BINS + 1)
        for it in training.discriminants:
            values, of_data = (it.values(each.scores) for each in (self.expected, self.data))
            yield it.of.name, it.label, even, values, of_data
        for i in range(training.shape.outputs):
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

    def assigned(self, of: int, seen: BothSamples) -> Assigned:
        """The events for which the probability of class `of` is the largest; `seen` are those in no blind bin."""
        mine, rest = (
            replace(both, expected=_assigned(both.expected, of), data=_assigned(both.data, of)) for both in (self, seen)
        )
        names = self.expected.table.classes
        what = names[of], f"Probability of {names[of]}", np.asarray(np.linspace(1 / len(names), 1, _BINS // 2 + 1))
        whole, part = ((*what, both.expected.scores[:, of], both.data.scores[:, of]) for both in (mine, rest))
        return Assigned(
            names[of],
            len(rest.data.table),
            rest.background,
            rest.ratio,
            rest._panel(*part, whole=mine._panel(*whole)),
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
        whole: DataPanel | None = None,
    ) -> DataPanel:
        """A variable by its values in simulation and data; `rows` are the simulated events of the former, if not all once.

        The blind bins are those of the `whole`, if it is given, and what is expected there, too.
        """
        table = self.expected.table
        which = slice(None) if rows is None else rows
        labels, weights = table.labels[which], table.weights[which]
        counts = sums(of_data, np.ones(len(of_data)), edges).values
        classes = by_class(table, labels, values, weights, edges, sums)
        total = sums(values[labels != self.signal], weights[labels != self.signal], edges)
        blind: NDArray[np.bool_] = np.zeros(len(counts), bool)
        if whole is not None:
            blind = whole.blind
            parts = [(it.name, of.bins, it.bins) for it, of in zip(classes, whole.classes, strict=True)]
            classes = [
                ClassHistogram(name, Histogram(*np.where(blind, (of.values, of.errors), (it.values, it.errors))))
                for name, of, it in parts
            ]
        elif self.limit is not None:
            signal = classes[self.signal]
            blind = BlindBins(signal.name, self.limit).among(signal.bins.values, total.values)
        test = shape_test(counts[~blind], Histogram(total.values[~blind], total.errors[~blind]))
        return DataPanel(name, title, edges, Observed.of(np.where(blind, np.nan, counts)), classes, test)
