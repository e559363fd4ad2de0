"""Ratios of densities by a network, for the unbinned channels of a fit.

In a mixture in which all classes have the same weight, the probability of a class times the number of classes is the ratio of its density
to that of the mixture. And where events of a class with nominal weights are told apart from the same with varied ones, or under a shift,
the log-odds are the logarithm of the ratio that the variation has. One network learns both: each is the minimum of a cross entropy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ML_processing.events.inputs import Batches, EventTensors, Inputs, Shape
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.models.hooks import Boosted, Hook, Outputs
from ML_processing.models.network import Network, make_network
from ML_processing.training.data import TrainingData
from ML_processing.training.directory import checkpoint_file
from ML_processing.training.loop import Monitor, Report, fit, outputs_of
from ML_processing.training.result import ResultEvents
from MLTools.NanoML.contracts.densities import Densities, UnbinnedChannel
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import CLASSES

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train

RATIOS = "ratios"
_FEWEST = 2000  # events of a class: with fewer, a network learns their fluctuations
_MOST_NEGATIVE = 1 / 3  # of the weights of a class
_FARTHEST = 10.0  # logarithm of the ratio that a variation may have
Floats = NDArray[np.float64]


class RatioCore(nn.Module):
    """The outputs of another core as two heads: logits of classes, and logarithms of the ratios that variations have."""

    def __init__(self, core: nn.Module, classes: int) -> None:
        super().__init__()
        self.core, self.classes = core, classes

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        """Both heads of scaled inputs."""
        found = self.core(inputs)
        return {CLASSES: found[:, : self.classes], RATIOS: found[:, self.classes :].clamp(-_FARTHEST, _FARTHEST)}


class RatioLoss:
    """The sum of all cross entropies, of the events of one channel; its interface is that of `losses.Loss`.

    Attributes
    ----------
    pairs
        The class, and the column of varied weights, of each ratio; one that changes no event has none.
    """

    own: Hook | None = None

    def __init__(self, events: ResultEvents) -> None:
        labels, varied = events.table.labels, events.varied[:, : len(events.columns)]
        self._count = len(labels)
        self.classes = len(events.table.classes)
        self.totals = np.stack([varied[labels == it].sum(0, dtype=np.float64) for it in range(self.classes)])
        self.pairs = [
            (label, column)
            for label in np.unique(labels).tolist()
            for column in range(1, len(events.columns))
            if (varied[labels == label, column] != varied[labels == label, 0]).any()
        ]
        self._labels, self._columns = (torch.tensor([it[end] for it in self.pairs], dtype=torch.long) for end in (0, 1))
        self._shares = torch.from_numpy(1 / np.where(self.totals > 0, self.totals, np.inf)).float()

    def of_batch(self, outputs: Outputs, batch: EventTensors, scale: float) -> Tensor:
        """That of a batch, which stands for all events."""
        return self._losses(outputs, batch).sum() * (self._count / len(batch))

    @torch.no_grad()
    def of_events(self, outputs: Outputs, events: EventTensors, size: int) -> tuple[float, None]:
        """That of some events, which stand for all."""
        return float(self._losses(outputs, events).double().sum() * (self._count / len(events))), None

    def _losses(self, outputs: Outputs, events: EventTensors) -> Tensor:
        assert isinstance(outputs, dict)
        device, labels, varied = events.labels.device, events.labels, events.varied
        shares, of, columns = (it.to(device) for it in (self._shares, self._labels, self._columns))
        found = nn.functional.cross_entropy(outputs[CLASSES], labels, reduction="none")
        found = found * varied[:, 0] * shares[labels, 0]
        logits, mine = outputs[RATIOS], labels[:, None] == of
        nominal = varied[:, :1] * shares[of, 0] * nn.functional.softplus(logits)
        moved = varied[:, columns] * shares[of, columns] * nn.functional.softplus(-logits)
        return found + torch.where(mine, nominal + moved, 0.0).sum(dim=1)


def of_channel(events: ResultEvents, number: int) -> ResultEvents:
    """The events of one channel; a NanoMLError if these are too few, or too many weights are negative."""
    rows = np.flatnonzero(events.channel == number)
    channel, table, varied = events.channels[number], events.table[rows], events.varied[rows]
    where = f"fit.unbinned: {' '.join(filter(None, (channel.region, channel.era)))}"
    for label, name in enumerate(table.classes):
        weights = varied[table.labels == label, 0]
        weights = weights[weights != 0]
        if 0 < len(weights) < _FEWEST:
            what = f"{len(weights)} events of {name}, and a network needs {_FEWEST} to learn their density"
            raise NanoMLError(f"{where} has {what}. Fit it in bins.")
        if -weights[weights < 0].sum() > _MOST_NEGATIVE * np.abs(weights).sum():
            raise NanoMLError(f"{where}: more than a third of the weights of {name} are negative. Fit it in bins.")
    return replace(events, table=table, varied=varied, channel=np.zeros(len(rows), np.int64), channels=(channel,))


@dataclass(frozen=True)
class RatioTraining:
    """How the networks of one channel are trained: one for each of `k` folds, which learns from the others.

    Attributes
    ----------
    events
        Those of the channel, as of `of_channel`.
    shape
        What networks read.
    """

    config: Train
    shape: Shape
    events: ResultEvents
    k: int  # at least 3: an event is learned from, decides when to stop, or is tested
    device: torch.device

    def network(self, loss: RatioLoss) -> Network:
        """A fresh one."""
        shape = replace(self.shape, outputs=loss.classes + len(loss.pairs))
        found = make_network(self.config.model, self.config.options, shape, self.config.scaling == "none")
        if isinstance(found.core, Boosted):
            raise NanoMLError(
                f"train.model: {self.config.model} cannot learn ratios of densities. Use a neural network."
            )
        found.core = RatioCore(found.core, loss.classes)
        return found

    def train(self, fold: int, directory: Path, report: Report) -> Network:
        """The network that has not seen the events of a fold."""
        every, config, loss = self.events.without(fold, self.k), self.config, RatioLoss(self.events)
        torch.manual_seed(config.seed * 1000 + fold)
        network, of = self.network(loss), every.table.folds(self.k)
        training, validation = (np.flatnonzero((of == (fold + 1) % self.k) == it) for it in (False, True))
        table = every.table[training]
        network.fit(table.features, table.objects)
        events, judged = (every.tensors(network, rows, self.device) for rows in (training, validation))
        batches = Batches(1, lambda _: events, config.batch_size, config.seed * 1000 + fold, False)
        data = TrainingData(batches, len(events), judged, judged)
        classes = self.events.table.classes
        judge = BoundDiscriminant.probability(classes[0], classes)
        monitor = Monitor(fold, self.k, self.shape, judge, checkpoint_file(directory, fold, RATIOS), report)
        fit(network.core.to(self.device), data, config, monitor, self.device, loss)
        return network.cpu().eval()

    def densities(self, networks: Mapping[int, list[Network]]) -> tuple[UnbinnedChannel, dict[str, float]]:
        """The channel, whose reference are all events, and its closure.

        Ratios are means of the networks that have not seen an event, and normalised to the expected events of each class and variation.
        The closure is by what they are multiplied for that: as with all networks right and infinitely many events if it is one.
        """
        loss, closure = RatioLoss(self.events), dict[str, float]()
        nominal = np.flatnonzero(self.events.varied[:, 0] != 0)
        table, weights = self.events.table[nominal], self.events.varied[nominal, 0].astype(np.float64)
        totals, of = loss.totals, table.folds(self.k)
        present = np.flatnonzero(totals[:, 0] > 0)
        widths = weights / totals[table.labels, 0] / len(present)
        probabilities, ratios = np.zeros((len(nominal), loss.classes)), np.zeros((len(nominal), len(loss.pairs)))
        for fold, mine in networks.items():
            rows = np.flatnonzero(of == fold)
            for network in mine:
                events = self.events.tensors(network, nominal[rows], self.device)
                outputs = outputs_of(network.core.to(self.device), events, self.device)
                assert isinstance(outputs, dict)
                probabilities[rows] += torch.softmax(outputs[CLASSES].double(), dim=1).cpu().numpy() / len(mine)
                ratios[rows] += outputs[RATIOS].double().exp().cpu().numpy() / len(mine)

        def normalised(values: Floats, total: float, name: str) -> Floats:
            closure[name] = float(total / (widths @ values))
            return values * closure[name]

        processes = dict[str, Densities]()
        for label in present.tolist():
            name, whole = table.classes[label], totals[label]
            density = normalised(len(present) * whole[0] * probabilities[:, label], whole[0], name)
            values = [density * (it / whole[0]) for it in whole]
            for number, (_, column) in ((it, pair) for it, pair in enumerate(loss.pairs) if pair[0] == label):
                change = ratios[:, number] * (whole[column] / whole[0])
                values[column] = normalised(density * change, whole[column], f"{name}, {self.events.columns[column]}")
            processes[name] = self._of_process(np.stack(values))
        channel = self.events.channels[0]
        return UnbinnedChannel(channel.region, channel.era or None, None, widths, processes), closure

    def _of_process(self, values: Floats) -> Densities:
        """Densities from those in each column, (columns, events); a variation without an opposite is mirrored, as in bins."""
        sides = dict[str, NDArray[np.float32]](), dict[str, NDArray[np.float32]]()
        for it in self.events.sources:
            up, down = it.ends(values, self.events.columns)
            for into, side in zip(sides, (up, 2 * values[0] - up if down is None else down), strict=True):
                into[it.name] = side.astype(np.float32)
        return Densities(values[0].astype(np.float32), *sides)
