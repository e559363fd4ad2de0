"""From HDF5 files, read block by block, to what one network learns from: its events in batches, scaled, and for validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ML_processing.events.columns import TrainingColumns, agreed_columns
from ML_processing.events.data import OUTPUTS, Table
from ML_processing.events.inputs import Batches, EventTensors, Inputs, ObjectTensors
from ML_processing.events.survey import Survey, factors_of_split
from ML_processing.models.network import Network, heads_of
from ML_processing.training.reweighting import Flattening, PositiveWeights, Reweighted
from MLTools.NanoML.contracts.hdf5 import EVENTS, SHIFTS, check_events_differ, open_hdf5, read_metadata, reading
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.folds import mixed
from MLTools.NanoML.terminal.progress import progress

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train

_BLOCK_BYTES = 64e6  # of the rows as they are in the files: bounds the memory of a block
_BLOCK_EVENTS = 1 << 17  # so that a block of few columns is shuffled within the processor's caches
_BLOCK = 1 << 17  # events in memory that are shuffled together
_MOST_VALIDATION = 1 << 16  # events that are enough for a loss: the same ones in each epoch
_MOST_SAMPLE = 1 << 13


@dataclass(frozen=True)
class TrainingFiles:
    """HDF5 files with labelled events, or objects, read in blocks.

    Each block takes the same share of every file, so that all blocks are alike, whatever the files are.
    """

    files: tuple[Path, ...]
    columns: TrainingColumns
    rows: tuple[int, ...]  # events in each file, including those without a class
    chunks: tuple[int, ...]  # rows of each file that are compressed together
    blocks: int  # number of blocks
    # HDF5 datasets with outputs of networks, row by row
    outputs: Mapping[Path, Any] = field(default_factory=dict, kw_only=True)
    group: str = field(default="/", kw_only=True)  # of the files that is read

    @classmethod
    def open(cls, files: Sequence[Path], config: Train, everything: bool = False) -> TrainingFiles:
        """Read the metadata of files of the conversion; the section `train` chooses the columns.

        With `everything`, also event-level columns that are neither inputs nor needed for the training are read. A NanoMLError
        says that the files disagree on columns, classes or selection, have the same events, or lack a column.
        """
        if not files:
            raise NanoMLError("no HDF5 file was given. `nanoml convert` makes them.")
        metadata = [read_metadata(file) for file in files]
        columns = agreed_columns(files, metadata, config, heads_of(config.model), everything)
        check_events_differ(files, metadata)
        rows, chunks, size = [], [], 0
        for file in files:
            with open_hdf5(file) as h5, reading(file):
                columns.check(file, h5)
                rows.append(len(h5[EVENTS]))
                chunks.append((h5[EVENTS].chunks or (1,))[0])
                read = [h5[name] for name in columns.datasets_read]
                size = max(size, sum(it.dtype.itemsize * int(np.prod(it.shape[1:])) for it in read))
        events = int(max(min(_BLOCK_BYTES // size, _BLOCK_EVENTS), 1))
        return cls(tuple(files), columns, tuple(rows), tuple(chunks), max(-(-sum(rows) // events), 1))

    def under(self, shift: str) -> TrainingFiles:
        """The events of the same files under a shift of objects, as "jesUp"."""
        group, rows = f"{SHIFTS}/{shift}", []
        for file in self.files:
            with open_hdf5(file) as h5, reading(file):
                rows.append(len(h5[group][EVENTS]))
        return replace(self, group=group, rows=tuple(rows))

    def block(self, number: int) -> Table:
        """The labelled events of a block; a NanoMLError if a label, a weight or the file is damaged."""
        return Table.join([Table.of_rows(file, raw, self.columns) for file, raw in self._rows_of(number)])

    def parts(self) -> Iterator[tuple[Path, dict[str, NDArray[Any]]]]:
        """The rows of each file in each block, as they are in the file, by the names of their datasets."""
        for number in range(self.blocks):
            yield from self._rows_of(number)

    def _rows_of(self, number: int) -> Iterator[tuple[Path, dict[str, NDArray[np.generic]]]]:
        edges = self._edges(number)
        # a block of no event is a table, too
        for file, start, stop in [edge for edge in edges if edge[2] > edge[1]] or edges[:1]:
            yield file, self.rows_of(file, start, stop)

    def rows_of(self, file: Path, start: int, stop: int) -> dict[str, NDArray[np.generic]]:
        """Some rows of a file, as they are there, by the names of their datasets; and outputs that are known."""
        with open_hdf5(file) as h5, reading(file):
            raw = {name: h5[self.group][name][start:stop] for name in self.columns.datasets_read}
        return {**raw, OUTPUTS: self.outputs[file][start:stop]} if file in self.outputs else raw

    def _edges(self, number: int) -> list[tuple[Path, int, int]]:
        """The rows of each file that are in a block: the first, and the one after the last."""

        def edge(rows: int, chunk: int, number: int) -> int:
            """First row of a block; if it has several chunks, a chunk begins there, so that none is read twice."""
            even = rows * number // self.blocks
            aligned = round(even / chunk) * chunk if rows > 2 * chunk * self.blocks else even
            return rows if number == self.blocks else aligned

        files = zip(self.files, self.rows, self.chunks, strict=True)
        return [(file, edge(rows, chunk, number), edge(rows, chunk, number + 1)) for file, rows, chunk in files]

    def sample(self, memory: int, folds: int) -> tuple[Table, Survey]:
        """Read all events once: keep those that fit into `memory` [MB], and count all by fold.

        The errors are those of `gather`, or say which events a training cannot use.
        """
        table, survey = self.gather(memory, folds)
        survey.check(self.files)
        return table, survey

    def gather(self, memory: int, folds: int) -> tuple[Table, Survey]:
        """As `sample`, also of events that a training cannot use.

        The table has all events, block after block; or if they are too many those with the smallest hashes of run,
        luminosityBlock and event, the same in every reading. The errors are those of `block`.
        """
        survey, kept = Survey.empty(self.columns, folds), EventSample(memory * 1e6)
        where = " or ".join(region.name for region in self.columns.within)
        is_share = any(dataset.is_data for dataset in self.columns.datasets)
        with progress(f"read the events{f' in {where}' if where else ''}", sum(self.rows), is_share=is_share) as bar:
            for number in range(self.blocks):
                table = self.block(number)
                survey.add(table)
                kept.add(table)
                bar.advance(sum(stop - start for _, start, stop in self._edges(number)))
        return Table.join(kept.parts), survey


def read(files: Sequence[Path], config: Train, everything: bool = True) -> Table:
    """Read the labelled events of HDF5 files into one table: all, or as many as `config.memory` allows.

    Events without a class (label -1: real data, for instance) are left out, but for a regression on files without
    classes. The errors are those of `TrainingFiles.open` and `TrainingFiles.sample`.
    """
    table, _ = TrainingFiles.open(files, config, everything).sample(config.memory, max(config.folds, 1))
    return table


class EventSample:
    """Events with the smallest hashes, as many as fit into `limit` bytes: the `parts` of what was added."""

    def __init__(self, limit: float) -> None:
        self.limit, self.size = limit, 0.0
        self.threshold = np.uint64(2**64 - 1)
        self.parts: list[Table] = []

    def add(self, table: Table) -> None:
        """Keep events of a table, maybe instead of others."""
        part = table[table.hashes() <= self.threshold]
        self.parts.append(part)
        self.size += part.nbytes
        while self.size > self.limit:
            self.threshold = self.threshold >> np.uint64(1)
            self.parts = [it[it.hashes() <= self.threshold] for it in self.parts]
            self.size = sum(it.nbytes for it in self.parts)


@dataclass(frozen=True)
class ParameterGrid:
    """The values of the parameter of a network, such as the mass of a signal.

    Events without the parameter get a value at random. Every value counts the same in the training, however large its
    cross section, and is equally frequent among the events without one. So the parameter alone tells nothing about the
    class, and the network learns to separate the classes at any value of it (Baldi et al., Eur. Phys. J. C 76 (2016)
    235).
    """

    column: str  # the last feature
    values: tuple[float, ...]  # in increasing order
    shares: tuple[float, ...]  # of each among the events that have the parameter, by weight; they sum to 1

    @classmethod
    def of(cls, survey: Survey) -> ParameterGrid | None:
        """The parameter of a training, if it has one; a NanoMLError if the weights of a value are not positive."""
        if survey.about.parameter is None:
            return None
        values = sorted(survey.parameters)
        total = sum(survey.parameters.values())
        for value in values:
            if survey.parameters[value] <= 0:
                raise NanoMLError(
                    f"the weights of the events with {survey.about.parameter} {value:g} sum to "
                    f"{survey.parameters[value]:.4g}, so they cannot be scaled to the total of the others. Use more events."
                )
        return cls(survey.about.parameter, tuple(values), tuple(survey.parameters[it] / total for it in values))

    def filled(self, table: Table) -> NDArray[np.float32]:
        """The features of a table, with a value where there is none: always the same for an event."""
        features = table.features.copy()
        free = np.isnan(features[:, -1])
        run, block, event = (ids[free] for ids in table.identifiers)
        uniform = mixed(block, event, run).astype(np.float64) / 2.0**64
        chosen = (uniform * len(self.values)).astype(np.int64).clip(max=len(self.values) - 1)
        features[free, -1] = np.array(self.values, np.float32)[chosen]
        return features

    def balance(self, table: Table) -> NDArray[np.float64]:
        """Factors that give every value the same total weight, float64 of shape (N,); 1 for events without one."""
        values = table.features[:, -1]
        places = np.searchsorted(np.array(self.values, np.float32), values).clip(max=len(self.values) - 1)
        factors = 1 / (len(self.values) * np.array(self.shares))
        return np.where(np.isnan(values), 1.0, factors[places])

    def measured(self, table: Table) -> Table:
        """The events as a training is measured on them: all with a value, and every value with the same total weight.

        With physical weights the value alone would tell signal from background, since one with a large cross section is
        frequent among the signal: a BDT learns this, which says nothing of any single signal.
        """
        weights = (table.weights * self.balance(table)).astype(np.float32)
        return replace(table, features=self.filled(table), weights=weights)

    def redraw(self, events: EventTensors, column: int, scaled: Tensor, generator: torch.Generator) -> None:
        """Give new values to the events that are free, in place in their column, from the values as scaled, (values,)."""
        count = int(events.free.sum())
        if count:
            drawn = torch.randint(len(self.values), (count,), generator=generator)
            events.inputs.features[events.free, column] = scaled[drawn.to(scaled.device)]


@dataclass(frozen=True)
class TrainingData:
    """The events that a network learns from."""

    batches: Batches  # the training events
    events: int  # their number
    sample: EventTensors  # some of them, on which the training loss is measured
    validation: EventTensors  # the events that decide when to stop
    reweighted: dict[str, Reweighted] = field(default_factory=dict)  # classes whose weights were made positive


def inputs_of(table: Table, features: NDArray[np.float32] | None = None) -> Inputs:
    """The events of a table as a network reads them, before scaling; with other features, if they are given."""
    objects = {
        name: ObjectTensors(torch.from_numpy(values), torch.from_numpy(mask))
        for name, (values, mask) in table.objects.items()
    }
    return Inputs(torch.from_numpy(table.features if features is None else features), objects)


def make_training_data(
    files: TrainingFiles, table: Table, survey: Survey, network: Network, fold: int, config: Train, device: torch.device
) -> TrainingData:
    """The events that the network that tests on `fold` learns from, on `device`; the scaling of this fresh network is fitted here.

    If `table`, the result of `TrainingFiles.sample`, has all events, no file is read again. A NanoMLError says that the
    weights of the events that are kept do not sum to something positive.
    """
    k = survey.counts.shape[1]
    of = table.folds(k)
    held_out = (of == fold) | (of == (fold + 1) % k)
    training = table[~held_out]
    network.fit(training.features, training.objects, training.targets())
    parameter = ParameterGrid.of(survey)
    if parameter is not None and not network.has_scale:
        network.scaling.fit_parameter(parameter.values)
    factors, positive = factors_of_split(survey, fold), None
    if config.negative_weights == "reweight":
        positive = PositiveWeights.learn(training, config.seed, threads=1 if device.type == "cpu" else None)
        training, factors = positive.of(training), factors_of_split(positive.counted(survey), fold)
    flat = Flattening.learn(training, config.flatten) if config.flatten else None
    estimate = 0.5 if config.estimate == "median" else config.estimate
    prepare = partial(_prepared, network, factors, parameter, device, estimate, flat)
    size, complete = config.batch_size, len(table) == survey.counts.sum()
    seed = config.seed * 1000 + fold
    redraw, fixed = _redraw(network, parameter, device), torch.Generator().manual_seed(seed)
    validation = prepare(_at_most(table[of == (fold + 1) % k], _MOST_VALIDATION, config.seed))
    sample = prepare(_at_most(training, min(len(validation), _MOST_SAMPLE), config.seed))
    for events in (validation, sample):
        if not events.weights.sum() > 0:
            raise NanoMLError(
                f"fold {fold + 1} of {k}: the weights of {len(events):,} events on which its loss is measured do not "
                "sum to something positive. Use more events, or a larger train.memory."
            )
        if redraw is not None:
            redraw(events, fixed)
    if complete:
        events = prepare(training)
        blocks = max(round(len(events) / _BLOCK), 1)
        edges = [len(events) * i // blocks for i in range(blocks + 1)]
        batches = Batches(blocks, lambda i: events[edges[i] : edges[i + 1]], size, seed, False, redraw, config.sampler)
    else:

        def block(number: int) -> EventTensors:
            read = files.block(number)
            of = read.folds(k)
            learnt = read[(of != fold) & (of != (fold + 1) % k)]
            return prepare(learnt if positive is None else positive.of(learnt))

        batches = Batches(files.blocks, block, size, seed, True, redraw, config.sampler)
    learnt = sum(survey.counts[:, i].sum() for i in range(k) if i not in (fold, (fold + 1) % k))
    return TrainingData(batches, int(learnt), sample, validation, {} if positive is None else positive.classes)


@torch.no_grad()
def _prepared(
    network: Network,
    factors: NDArray[np.float64],
    parameter: ParameterGrid | None,
    device: torch.device,
    estimate: float | str,
    flat: Flattening | None,
    table: Table,
) -> EventTensors:
    """The events of a table as tensors: scaled inputs, weights of the training, standardized targets."""
    about, nothing = table.about, torch.empty(0)
    weights = (flat.of(table) if flat else table).weights * factors[table.labels]
    if parameter is not None:
        weights *= parameter.balance(table)
    found = torch.from_numpy(table.targets())
    targets = network.standardize(found) if found.shape[1] else found
    events = EventTensors(
        network.scaling(inputs_of(table)),
        torch.from_numpy(table.labels),
        torch.from_numpy(weights.astype(np.float32)),
        targets,
        nothing if about.spectator is None else torch.from_numpy(table.extras[about.spectator]),
        nothing.bool() if about.parameter is None else torch.from_numpy(np.isnan(table.features[:, -1])),
        estimate,
    )
    return events.map(lambda tensor: tensor.to(device))


@torch.no_grad()
def _redraw(
    network: Network, parameter: ParameterGrid | None, device: torch.device
) -> Callable[[EventTensors, torch.Generator], None] | None:
    if parameter is None:
        return None
    scaled = network.scaling.of_parameter(parameter.values).to(device)
    column = len(network.shape.features) - 1  # indicators of missing values may follow
    return lambda events, generator: parameter.redraw(events, column, scaled, generator)


def _at_most(table: Table, most: int, seed: int) -> Table:
    if len(table) <= most:
        return table
    return table[np.sort(np.random.default_rng(seed).permutation(len(table))[:most])]
