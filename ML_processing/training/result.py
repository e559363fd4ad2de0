"""Events as a fit sees them: expected events in bins of their scores, with all that varies them, and the result that the fit would have.

Regions, bins, processes and nuisance parameters are those of the section `fit`; data are those expected. An event under a shift of objects
is a row of its own, with other features and outputs, which counts in the column of the shift alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ML_processing.events.columns import NOMINAL, Source, sources_of
from ML_processing.events.data import Table
from ML_processing.events.inputs import EventTensors
from ML_processing.events.survey import split_count
from ML_processing.metrics.significance import fine_sums
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.models.hooks import Hook, Outputs, first
from ML_processing.models.network import Network
from ML_processing.training.data import TrainingFiles, inputs_of
from MLTools.NanoML.config.fit import EACH, EVERYWHERE, FitTarget, axes_of
from MLTools.NanoML.contracts.bins import Counts, bins_of_channels, fine_edges, strength_error
from MLTools.NanoML.contracts.hdf5 import read_metadata
from MLTools.NanoML.errors import NanoMLError, listed

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train

_EDGE = 0.1  # width of an edge over that of the smaller bin beside it: how far from it an event still feels it
_ROW = 8  # numbers in the memory of an event, at least, beside the columns of weights


@dataclass(frozen=True)
class FitChannel:
    """A region in an era, its histogram, and the quantity that this shows."""

    region: str
    era: str
    histogram: str
    quantity: str


@dataclass(frozen=True)
class ResultEvents:
    """All events in the channels of a fit: one that is in two of them comes twice, and each comes again under each shift.

    Attributes
    ----------
    table, channel
        The events, and the number of the channel of each, int64 (N,).
    varied
        The weight of each, those under variations and shifts, the square of its weight, and the quantity of its histogram, NaN for a
        score; float32 (N, columns + 2). The sums over weights, and that of the squares, are what is expected in all.
    channels, columns, sources
        The channels, the columns of weights, and which of these are a source of uncertainty.
    """

    table: Table
    channel: NDArray[np.int64]
    varied: NDArray[np.float32]
    channels: tuple[FitChannel, ...]
    columns: list[str]
    sources: list[Source]
    target: FitTarget

    @classmethod
    def read(cls, config: Train, scores: Container[str]) -> ResultEvents:
        """Read the events of the fit; `scores` are names. A NanoMLError says that there is no signal, or a variation leaves no events."""
        target = config.target
        assert target is not None
        shown = {name: axes_of(name, it)[0] for name, it in target.histograms.items()}
        channels = [
            FitChannel(region, era, it, shown[it])
            for era in target.eras
            for region, it in target.settings.channels.items()
        ]
        whole = TrainingFiles.open([Path(file) for files in target.eras.values() for file in files], config)
        shifts = {file: read_metadata(file).shifts for file in whole.files}
        sources = [*sources_of(whole.columns.weights), *_sources_of_shifts([*shifts.values()])]
        columns = [NOMINAL, *dict.fromkeys(column for it in sources for column in it.columns)]
        parts = list[tuple[Table, NDArray[np.int64], NDArray[np.float32]]]()
        copies = 1 + max(map(len, shifts.values()))
        memory = max(config.memory // len(whole.files) // copies * _ROW // (_ROW + len(columns)), 1)
        for era, file in ((era, Path(file)) for era, files in target.eras.items() for file in files):
            opened = TrainingFiles.open([file], config, everything=True)
            for shift in ("", *shifts[file]):
                table, varied = _weighted(opened, shift, shifts[file], shown.values(), columns, memory)
                slim = replace(table, extras={}, about=whole.columns)
                for number, it in enumerate(channels):
                    if it.era == era:
                        rows = np.flatnonzero(_inside(table, it.region))
                        unknown = it.quantity in scores
                        value = np.full(len(table), np.nan, np.float32) if unknown else table.column(it.quantity)
                        parts.append((slim[rows], np.full(len(rows), number), np.column_stack([varied, value])[rows]))
        channel, every = (np.concatenate([part[number] for part in parts]) for number in (1, 2))
        k, networks = split_count(config.folds)
        if networks == 1:  # only the fold that is tested is in histograms, and stands for all
            every[:, -2] *= k
        found = cls(Table.join([part for part, *_ in parts]), channel, every, tuple(channels), columns, sources, target)
        found._check()
        return found

    def sha256(self) -> str:
        """Hash of the content: variations and shifts are in no other events of a training."""
        digest = hashlib.sha256(f"{self.table.sha256()} {self.channels} {self.columns}".encode())
        for array in (self.channel, self.varied):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def without(self, fold: int, k: int) -> ResultEvents:
        """The same without the events of one of `k` folds, for which the others stand."""
        rows = np.flatnonzero(self.table.folds(k) != fold)
        varied = self.varied[rows]
        varied[:, :-1] *= k / (k - 1)
        return replace(self, table=self.table[rows], channel=self.channel[rows], varied=varied)

    def _check(self) -> None:
        where = listed([*dict.fromkeys(it.region for it in self.channels)])
        sums = {
            name: self.varied[self.table.labels == label, :-2].sum(0, dtype=np.float64)
            for label, name in enumerate(self.table.classes)
        }
        for classes in self.target.settings.strengths(None).values():
            if not any(sums[name][0] > 0 for name in classes if name in sums):
                what = f"no events of {listed(classes)} are expected in the channels of the fit ({where})"
                raise NanoMLError(f"fit.channels: {what}.")
        for name, (nominal, *varied) in sums.items():
            for column in (it for it, total in zip(self.columns[1:], varied, strict=True) if nominal > 0 >= total):
                raise NanoMLError(
                    f"fit.channels: the variation {column} leaves no events of {name} in the channels of the fit ({where}). Check the "
                    "values that the selection gives it."
                )

    def counts(self, sums: Tensor, label: int, channel: FitChannel) -> list[Counts]:
        """A process with sums of `varied` in bins, (columns + 1, bins); none if nothing of it is expected."""
        if not sums[0].sum() > 0:
            return []
        process, target = self.table.classes[label], self.target
        luminosity = {} if process in target.from_data else target.luminosity.get(channel.era, {})
        ends = ((it.name, *it.ends(sums[:-1], self.columns, torch)) for it in self.sources)
        varied = ((name, up, 2 * sums[0] - up if down is None else down) for name, up, down in ends)
        place, totals = (process, channel.region, channel.era or None), (sums[0], sums[-1])
        return [target.settings.counts(*place, luminosity, totals, varied)]

    def tensors(self, network: Network, rows: NDArray[np.generic], device: torch.device) -> EventTensors:
        """Some of the events, scaled for a network."""
        table, nothing = self.table[rows], torch.empty(0)
        with torch.no_grad():
            inputs = network.scaling(inputs_of(table))
        varied, targets = torch.from_numpy(self.varied[rows]), torch.empty(len(table), 0)
        labels, channel = torch.from_numpy(table.labels), torch.from_numpy(self.channel[rows])
        event = torch.from_numpy(np.unique(table.hashes(), return_inverse=True)[1])
        found = EventTensors(
            inputs, labels, varied[:, 0], targets, nothing, nothing.bool(), channel=channel, varied=varied, event=event
        )
        return found.map(lambda tensor: tensor.to(device))


class ResultLoss:
    """The expected uncertainty of the signal strength, or of several, as the loss of a batch; its interface is that of `losses.Loss`.

    A batch stands for all events: those of each class in each channel for all such.
    """

    own: Hook | None = None

    def __init__(
        self,
        events: ResultEvents,
        scores: Mapping[str, BoundDiscriminant],
        edges: Sequence[Tensor] | None = None,  # as of `edges`
    ) -> None:
        self._events, self._scores = events, scores
        self._all = self._cells(*map(torch.from_numpy, (events.channel, events.table.labels, events.varied)))
        self.edges = [*edges] if edges else [self._edges_of(it) for it in events.channels]
        """The edges of each channel, as log-odds for a score."""

    def _edges_of(self, channel: FitChannel) -> Tensor:
        """The edges of a channel, as log-odds for a score; one bin, if they are to be chosen."""
        histogram = self._events.target.histograms[channel.histogram]
        if histogram.is_auto:
            return torch.tensor([-torch.inf, torch.inf], dtype=torch.float64)
        edges = torch.tensor(histogram.edges()[0], dtype=torch.float64)
        edges = torch.logit(edges.clamp(0, 1)) if channel.quantity in self._scores else edges
        if histogram.overflow:
            edges[0], edges[-1] = -torch.inf, torch.inf
        return edges

    def choose_bins(self, outputs: Outputs, events: EventTensors, size: int, part: int = 1) -> None:
        """Choose the bins that histograms leave open as these do, by some events; with enough in each bin among `size` events.

        `part` makes them fewer: where bins are narrow, networks move what they keep apart from one to the next, and no two folds alike.
        """
        events = events.map(lambda tensor: tensor.cpu())
        weights = (events.varied[:, 0] * self._factors(events)[events.channel, events.labels]).numpy()
        probabilities = torch.softmax(first(outputs).double(), dim=1).cpu().numpy()
        for name, histogram in self._events.target.histograms.items():
            channels = [number for number, it in enumerate(self._events.channels) if it.histogram == name]
            if histogram.is_auto:
                judge = self._scores[self._events.channels[channels[0]].quantity]
                score, is_signal = judge.values(probabilities), (events.labels == judge.signal).numpy()
                inside = [(events.channel == number).numpy() for number in channels]
                sums = [fine_sums(score[it], is_signal[it], weights[it])[[0, 1, 3]] for it in inside]
                least, most = histogram.least_events * len(score) / size, max(histogram.most_bins // part, 2)
                each = histogram.least_events * len(score) / len(self._events.channel)  # as all of them have
                chosen = bins_of_channels(sums, least, most, each if histogram.least_events_in == EACH else 0.0)
                edges = torch.tensor(fine_edges(), dtype=torch.float64)[chosen].clamp(0, 1).logit()
                self.edges = [edges if at in channels else it for at, it in enumerate(self.edges)]

    def _cells(self, channel: Tensor, labels: Tensor, varied: Tensor) -> Tensor:
        """How many events there are in each channel of each class, (channels, classes), not counting those under shifts."""
        classes, nominal = len(self._events.table.classes), varied[:, 0] != 0
        count = len(self._events.channels) * classes
        return (
            torch.bincount((channel * classes + labels)[nominal], minlength=count).reshape(-1, classes).double().cpu()
        )

    def of_batch(self, outputs: Outputs, batch: EventTensors, scale: float) -> Tensor:
        """The logarithm of the uncertainty, whatever its scale."""
        return self._error(outputs, batch).log()

    @torch.no_grad()
    def of_events(self, outputs: Outputs, events: EventTensors, size: int) -> tuple[float, None]:
        """The uncertainty; there is no loss of each event."""
        return float(self._error(outputs, events)), None

    def _factors(self, events: EventTensors) -> Tensor:
        """For each class in each channel, how many events there are in all for one here, (channels, classes)."""
        return self._all / self._cells(events.channel, events.labels, events.varied).clamp_min(1)

    def _error(self, outputs: Outputs, events: EventTensors) -> Tensor:
        return strength_error(self.expected(first(outputs), events), torch)  # type: ignore[no-any-return]

    def expected(self, logits: Tensor, events: EventTensors) -> list[list[Counts]]:
        """The processes of all channels, with derivatives by the logits of the events, (N, classes)."""
        found, factors = [], self._factors(events)
        for number, channel in enumerate(self._events.channels):
            inside = torch.nonzero(events.channel == number)[:, 0]
            varied, labels, samples = events.varied[inside].double(), events.labels[inside], list[Counts]()
            judge = self._scores.get(channel.quantity)
            values = varied[:, -1] if judge is None else judge.log_odds(logits[inside])
            bins = in_bins(values, self.edges[number])
            for label in labels.unique().tolist():
                mine = labels == label
                sums = (varied[mine, :-1].T @ bins[mine]).cpu() * factors[number, label]
                samples += self._events.counts(sums, label, channel)
            found.append(samples)
        return found


def in_bins(values: Tensor, edges: Tensor) -> Tensor:
    """Whether values (N,) are in bins, float64 of shape (N, bins), with derivatives as if each edge were a sigmoid."""
    values, edges = values.double(), edges.to(values.device)
    widths = torch.nn.functional.pad(edges.diff().nan_to_num(posinf=torch.inf), (1, 1), value=torch.inf)
    near = _EDGE * torch.minimum(widths[:-1], widths[1:])
    above = torch.sigmoid((values[:, None] - edges) / torch.where(near.isfinite(), near, 1.0))
    soft = above[:, :-1] - above[:, 1:]
    place = torch.bucketize(values.detach().contiguous(), edges, right=True) - 1
    hard = (place[:, None] == torch.arange(len(edges) - 1, device=values.device)).double()
    return soft + (hard - soft).detach()


def _sources_of_shifts(shifts: Sequence[Sequence[str]]) -> list[Source]:
    """The shifts of all files, of which Up and Down are one source."""
    found: dict[str, list[str]] = {}
    for shift in sorted({it for each in shifts for it in each}, reverse=True):  # Up before Down
        found.setdefault(re.sub("(Up|Down)$", "", shift), []).append(shift)
    return [Source(name, "", tuple(columns)) for name, columns in found.items()]


def _weighted(
    files: TrainingFiles, shift: str, shifts: Sequence[str], wanted: Iterable[str], columns: Sequence[str], memory: int
) -> tuple[Table, NDArray[np.float32]]:
    """The events of a file, nominal or under a shift, or as many as fit into the memory; and their weights, which stand for all.

    The weights are of shape (N, columns + 1). What a file does not have is as the nominal events are.
    """
    about = files.columns
    varied = set() if shift else {column for it in sources_of(about.weights) for column in it.columns}
    asked = [it for it in (*columns, *wanted) if it in {*about.extras, *varied}]
    extras = (*(it.column for it in about.regions), *dict.fromkeys(asked))
    read = replace(files.under(shift) if shift else files, columns=replace(about, within=(), extras=extras))
    table, survey = read.gather(memory, 1)
    scale = survey.counts.sum(axis=1) / np.bincount(table.labels, minlength=len(table.classes)).clip(1) / about.share
    nothing = np.zeros(len(table), np.float32)
    if shift:
        weights = [table.weights if column == shift else nothing for column in columns]
    else:
        weights = [nothing if it in shifts else table.extras.get(it, table.weights) for it in columns]
    weights.append(nothing if shift else table.weights**2)
    return table, (np.stack(weights, axis=1) * scale[table.labels, None]).astype(np.float32)


def _inside(table: Table, region: str) -> NDArray[np.bool_]:
    column = next((it.column for it in table.about.regions if it.name == region), None)
    if column is None and region != EVERYWHERE:
        raise NanoMLError(f"fit.channels: the HDF5 files do not tell which events are in {region}. Convert again.")
    return np.ones(len(table), bool) if column is None else table.extras[column] > 0
