"""Ratios of densities by a network, for the unbinned channels of a fit.

In a mixture in which all classes have the same weight, the probability of a class times the number of classes is the ratio of its density
to that of the mixture. And where events of a class with nominal weights are told apart from the same with varied ones, or under a shift,
the log-odds are the logarithm of the ratio that the variation has. One network learns both: each is the minimum of a cross entropy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ML_processing.events.columns import NOMINAL
from ML_processing.events.data import Table
from ML_processing.events.inputs import Batches, EventTensors, Inputs
from ML_processing.events.survey import Survey
from ML_processing.metrics.distances import kolmogorov
from ML_processing.metrics.measured import effective_events
from ML_processing.models.hooks import Boosted, Hook, Outputs
from ML_processing.models.network import Network, make_network
from ML_processing.training.data import TrainingData
from ML_processing.training.description import TrainingDescription, best_epoch, describe
from ML_processing.training.directory import Training, checkpoint_file, network_file
from ML_processing.training.loop import Monitor, Report, fit, save
from ML_processing.training.result import ResultEvents
from ML_processing.training.result_training import FEWEST
from MLTools.NanoML.config.fit import EVERYWHERE
from MLTools.NanoML.config.training import DISCRIMINANT, Against
from MLTools.NanoML.contracts.densities import varied_output
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import CLASSES, RATIOS
from MLTools.NanoML.model.entries import SMALLEST
from MLTools.NanoML.terminal.progress import say, say_once

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train

_FEWEST = 50  # effective events of a class: a third of them or less decide when to stop, and tell nothing below
_MOST_NEGATIVE = 1 / 3  # of the weights of a class
_APART = 0.995  # distance of Kolmogorov of two classes in a feature: a cut tells them apart, but for this share
_TRIED = 20_000  # events of a class for that
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

    `pairs` are the class and the column of varied weights of each ratio; one that changes no event has none.
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


def ending(column: str) -> str:
    """The name of a variation, as of the score files, from its column of weights."""
    return column.removeprefix(f"{NOMINAL}_")


class MeanRatios(nn.Module):
    """Networks of one fold as one: means of their probabilities and of their ratios, not of logarithms."""

    def __init__(self, cores: Iterable[nn.Module]) -> None:
        super().__init__()
        self.cores = nn.ModuleList(cores)

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        """Logits of classes, and ratios."""
        found = [core(inputs) for core in self.cores]
        probabilities = torch.stack([torch.softmax(it[CLASSES], dim=1) for it in found]).mean(dim=0)
        ratios = torch.stack([it[RATIOS].exp() for it in found]).mean(dim=0)
        return {CLASSES: probabilities.clamp(min=SMALLEST).log(), RATIOS: ratios}


def check_events(events: ResultEvents) -> None:
    """Say why networks cannot learn the densities in a channel, by a NanoMLError, or that they may not learn them well."""
    table, varied = events.table, events.varied
    where, nominal = _where(events), varied[:, 0] != 0
    for label, name in enumerate(table.classes):
        mine = varied[table.labels == label, : len(events.columns)].astype(np.float64)
        for column, weights in zip(events.columns, mine.T, strict=True):
            _check(where, name if column == NOMINAL else f"{name} under {ending(column)}", weights)
        effective = effective_events(mine[:, 0])
        if 0 < effective < FEWEST:
            what = f"With fewer than {FEWEST}, networks memorise fluctuations: look at the closure of the ratios."
            say(f"WARNING: {where} has {effective:.0f} effective events of {name}. {what}")
    _check_overlap(where, table[nominal], varied[nominal, 0])


def _where(events: ResultEvents) -> str:
    return f"fit.unbinned: {' '.join(filter(None, (events.channels[0].region, events.channels[0].era)))}"


def _check(where: str, what: str, weights: Floats) -> None:
    """Refuse weights that tell too little of a density; if all are zero, nothing is expected."""
    if -weights[weights < 0].sum() > _MOST_NEGATIVE * np.abs(weights).sum():
        raise NanoMLError(f"{where}: more than a third of the weights of {what} are negative. Fit it in bins.")
    effective = effective_events(weights)
    if weights.any() and effective < _FEWEST:
        few = f"{effective:.0f} effective events of {what}, and networks need {_FEWEST} to learn a density"
        raise NanoMLError(f"{where} has {few}. Fit it in bins.")


def _check_overlap(where: str, table: Table, weights: NDArray[np.float32]) -> None:
    """Refuse a class that cuts on single features tell from each of the others: networks could only learn a few odd events."""
    rows = [np.flatnonzero(table.labels == label) for label in range(len(table.classes))]
    some = {name: it[:: 1 + len(it) // _TRIED] for name, it in zip(table.classes, rows, strict=True) if len(it)}
    columns = dict(zip(table.names, table.features.T, strict=True))

    def cut(one: NDArray[np.int64], other: NDArray[np.int64]) -> str:
        distances = {name: kolmogorov(x[one], weights[one], x[other], weights[other]) for name, x in columns.items()}
        return next((name for name, it in distances.items() if (it.distance or 0.0) > _APART), "")

    for name, mine in some.items():
        cuts = {other: cut(mine, theirs) for other, theirs in some.items() if other != name}
        if cuts and all(cuts.values()):
            what = ", ".join(f"from {other} by {feature}" for other, feature in cuts.items())
            raise NanoMLError(f"{where}: {name} overlaps with no other class: cuts tell it {what}. Fit it in bins.")


def description_of(
    events: ResultEvents, files: Sequence[Path], config: Train, device: torch.device
) -> TrainingDescription:
    """The description of the networks of a channel, as of a training: by it they are continued, exported and explained."""
    nominal, region = events.varied[:, 0] != 0, events.channels[0].region
    table, alone = events.table[nominal], replace(config, regions=[] if region == EVERYWHERE else [region])
    survey = Survey.empty(table.about, config.folds)
    survey.add(table)
    # the description needs shares of classes, of which one may have no events here
    signal = config.signal_among(table.classes)
    equal = Against(signal, {it: 1.0 for it in table.classes if it != signal})
    found = describe(table, survey, files, replace(alone, discriminants={DISCRIMINANT: equal}), device)
    decisive = f"{found.fingerprint} {events.sha256()} {code_of(__name__)}"
    return replace(found, config=alone, fingerprint=hashlib.sha256(decisive.encode()).hexdigest(), discriminants=())


@dataclass(frozen=True)
class RatioTraining:
    """How the networks of one channel are trained: one for each of k folds, which learns from the others, and for each seed.

    An event is learned from, decides when to stop, or is tested: so k is 3 or more. The events are those of one channel.
    """

    config: Train
    description: TrainingDescription
    events: ResultEvents
    device: torch.device

    @cached_property
    def loss(self) -> RatioLoss:
        """That of all events."""
        return RatioLoss(self.events)

    def network(self) -> Network:
        """A fresh one."""
        config, loss = self.config, self.loss
        shape = replace(self.description.shape, outputs=loss.classes + len(loss.pairs))
        found = make_network(config.model, config.options, shape, config.scaling == "none")
        if isinstance(found.core, Boosted):
            raise NanoMLError(f"train.model: {config.model} cannot learn ratios of densities. Use a neural network.")
        found.core = RatioCore(found.core, loss.classes)
        return found

    def train(self, fold: int, seed: int, directory: Path, report: Report) -> Network:
        """The network that has not seen the events of a fold: as it is in `directory`, or trained, continued if that was interrupted."""
        k, number = self.description.folds.k, seed * self.description.folds.k + fold
        path, checkpoint = network_file(directory, number), checkpoint_file(directory, number, RATIOS)
        config = replace(self.config, seed=self.config.seed + seed)
        torch.manual_seed(config.seed * 1000 + fold)
        network = self.network()
        if not path.is_file():
            every = self.events.without(fold, k)
            is_judged = every.table.folds(k) == (fold + 1) % k
            learned = every.table[~is_judged]
            network.fit(learned.features, learned.objects)
            events, judged = (every.tensors(network, np.flatnonzero(it), self.device) for it in (~is_judged, is_judged))
            batches = Batches(1, lambda _: events, config.batch_size, config.seed * 1000 + fold, False)
            data, judge = TrainingData(batches, len(events), judged, judged), self.description.discriminant
            monitor = Monitor(fold, k, self.description.shape, judge, checkpoint, report)
            epochs = fit(network.core.to(self.device), data, config, monitor, self.device, self.loss)
            save({"network": network.cpu().state_dict(), "is_done": best_epoch(epochs).epoch < config.epochs}, path)
            checkpoint.unlink(missing_ok=True)
        content, network = torch.load(path, map_location="cpu", weights_only=True), self.network()
        network.load_state_dict(content["network"])
        if not content["is_done"]:
            where, what = (_where(self.events), f"networks still improve in the last of {config.epochs} epochs")
            say_once(f"{directory} {what}", f"WARNING: {where}: {what}. More of fit.unbinned.epochs may help.")
        return network.eval()

    def joined(self, networks: Sequence[Sequence[Network]]) -> Training:
        """The networks of each fold as one, as those of a training, which gives probabilities of classes, and ratios."""
        found, pairs, events = list[Network](), self.loss.pairs, self.events
        for first, *others in networks:
            mean = self.network()
            mean.scaling = first.scaling  # which is that of all
            mean.core = MeanRatios(it.core for it in (first, *others))
            mean.others = {RATIOS: len(pairs)} if pairs else {}
            found.append(mean)
        of = ((events.table.classes[label], events.columns[column]) for label, column in pairs)
        names = tuple(varied_output(name, ending(column)) for name, column in of)
        return Training(self.description, found, [], names={RATIOS: names})
