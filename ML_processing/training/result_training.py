"""Training on the result of a fit, after that on single events, and what it gains."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ML_processing.events.inputs import Batches, EventTensors
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.models.hooks import first
from ML_processing.models.network import Network
from ML_processing.training.data import TrainingData
from ML_processing.training.description import Epoch, TrainingDescription, damaged, read_json
from ML_processing.training.directory import Training, checkpoint_file, network_file, new_network
from ML_processing.training.loop import Monitor, Report, fit, outputs_of, rank, save
from ML_processing.training.result import ResultEvents, ResultLoss
from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.config.fit import FIGURE_OF_MERIT
from MLTools.NanoML.schema.plain import DAMAGE, build

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train

_BATCH = 4096  # events at least, so that a batch looks like the analysis
_OF_EACH = 50  # events of each class in it, on average: without signal there is no result
_RATE = 0.3  # of the learning rate: the network is nearly where it should be
_STEPS = 40  # without improvement, at least, where an epoch has few
_PART = 3  # of the bins, where they are chosen
_MOST = 1 << 16  # events on which the result is measured after each epoch
FEWEST = 2000
"""Events of a class: with fewer, networks memorise their fluctuations."""


def before_file(directory: Path, fold: int) -> Path:
    """The network of a fold as it was trained on single events, if the objective was the result of a fit; and the seconds that it took."""
    return directory / f"before_{fold}.pt"


def result_file(directory: Path, fold: int) -> Path:
    """The epochs of a fold in its training on the result of a fit."""
    return directory / f"result_{fold}.json"


@dataclass(frozen=True)
class FoldResult:
    """The training of a network on the result: expected uncertainty by events of the validation, before and after each epoch."""

    before: float
    epochs: list[float]
    seconds: list[float]  # of the training on single events, and of this
    is_kept: bool  # whether an epoch was better than before, by the validation events

    @property
    def history(self) -> list[Epoch]:
        """The epochs by what was expected after each; the one with number 0 is before."""
        return [Epoch(it, math.nan, value, 0.0, None) for it, value in enumerate([self.before, *self.epochs])]


@dataclass(frozen=True)
class Gain:
    """The expected uncertainty of the signal strength by the fit, before and after the networks were trained on it, and what this cost."""

    before: float
    after: float
    seconds: list[float]  # of the training on single events, and of that on the result
    events: dict[str, int]  # of each class in the channels with scores
    is_kept: bool  # whether the networks are those that were trained on the result; else these were no better
    of: str = FIGURE_OF_MERIT

    @property
    def kept(self) -> float:
        """The expected uncertainty with the networks that were kept."""
        return min(self.before, self.after)

    @property
    def text(self) -> str:
        """The gain, in words."""
        change, (first, second) = 100 * (self.after / self.before - 1), self.seconds
        kept = "" if self.is_kept else ": the networks stay as they were before"
        return (
            f"the {self.of} is {self.after:.4g} after training on the result, and was {self.before:.4g} "
            f"({change:+.2g} %){kept}. It took {second:.0f} s of the processor, the training before {first:.0f} s."
        )


def scores_by_name(description: TrainingDescription) -> dict[str, BoundDiscriminant]:
    """The scores that histograms can show: the probability of each class, and discriminants."""
    classes = description.classes
    found = {name: BoundDiscriminant.probability(name, classes) for name in classes}
    return found | {it.name: BoundDiscriminant(it, classes) for it in description.discriminants}


def after_classes(
    network: Network,
    description: TrainingDescription,
    config: Train,
    directory: Path,
    fold: int,
    device: torch.device,
    report: Report,
    folds: Sequence[int],
) -> None:
    """Train a network on the result, and leave it with the weights of the best epoch, or with those that it had; the epochs are written.

    Bins that are chosen are the same for all `folds`, by their networks before. Of its test fold the network sees nothing else.
    """
    content = torch.load(before_file(directory, fold), map_location="cpu", weights_only=True)
    network.load_state_dict(content["network"])
    core, begun = network.core.to(device), time.process_time()
    earlier = {it: network_before(description, directory, it) for it in folds}
    data, objective = _data(network, earlier, description, config, fold, device)
    before, _ = objective.of_events(outputs_of(core, data.validation, device), data.validation, 0)
    checkpoint = checkpoint_file(directory, fold, "result")

    judge = description.discriminant
    monitor = Monitor(fold, description.folds.k, description.shape, judge, checkpoint, report)
    steps = -(-data.events // data.batches.size)
    settings = replace(
        config,
        batch_size=data.batches.size,
        learning_rate=_RATE * config.learning_rate,
        schedule="plateau",
        warmup=0.0,
        precision="float32",
        patience=max(config.patience, _STEPS // steps),
        epochs=max(config.epochs, 5 * _STEPS // steps),
    )
    epochs = [it.validation_loss for it in fit(core, data, settings, monitor, device, objective)]
    is_kept = min(epochs) < before
    if not is_kept:
        network.cpu().load_state_dict(content["network"])
    if rank() == 0:
        seconds = [float(content["seconds"]), time.process_time() - begun]
        write_json(result_file(directory, fold), asdict(FoldResult(before, epochs, seconds, is_kept)))


def _data(
    network: Network,
    earlier: Mapping[int, Network],
    description: TrainingDescription,
    config: Train,
    fold: int,
    device: torch.device,
) -> tuple[TrainingData, ResultLoss]:
    """The events of the fit that a network learns from, in batches, and the objective."""
    scores = scores_by_name(description)
    k, validated = description.folds.k, (fold + 1) % description.folds.k
    whole = ResultEvents.read(config, scores)
    every = whole.without(fold, k)
    of = every.table.folds(k)
    training, validation = np.flatnonzero(of != validated), np.flatnonzero(of == validated)
    events = every.tensors(network, training, device)
    sample, judged = (every.tensors(network, _at_most(rows, every), device) for rows in (training, validation))
    nominal = training[every.varied[training, 0] != 0]
    few = np.bincount(every.table.labels[nominal]).clip(1).min()
    size = max(config.batch_size, _BATCH, _OF_EACH * len(nominal) // int(few)) * len(training) // max(len(nominal), 1)
    batches = Batches(1, lambda _: events, size, config.seed * 1000 + fold, False)
    objective = ResultLoss(whole, scores)
    if whole.target.chooses_bins:
        objective.choose_bins(*_scored({(it + 1) % k: each for it, each in earlier.items()}, whole, k), size, _PART)
    return TrainingData(batches, len(events), sample, judged), ResultLoss(every, scores, objective.edges)


def _at_most(rows: NDArray[np.generic], events: ResultEvents) -> NDArray[np.generic]:
    """Some of the rows, at random, but all of an event."""
    return np.sort(rows[events.table[rows].hashes().argsort(kind="stable")[:_MOST]])


def gain(training: Training, config: Train, directory: Path) -> Gain:
    """The gain by the training on the result: by the fit to all events, each scored by the network that has not seen it.

    Networks that are no better are replaced by those before.
    """
    description = training.description
    every = ResultEvents.read(config, scores_by_name(description))
    folds = range(len(training.networks))
    earlier = [network_before(description, directory, fold) for fold in folds]
    found = [read_fold(directory, fold) for fold in folds]
    before, after = (expected_result(description, it, every) for it in (earlier, training.networks))
    seconds = np.sum([it.seconds for it in found], axis=0).tolist()
    counts = np.bincount(every.table.labels, minlength=len(every.table.classes)).tolist()
    is_kept = after < before
    for fold in () if is_kept else folds:
        save(earlier[fold].state_dict(), network_file(directory, fold))
    events = dict(zip(every.table.classes, counts, strict=True))
    return Gain(before, after, seconds, events, is_kept, every.target.settings.figure_of_merit)


def expected_result(description: TrainingDescription, networks: Sequence[Network], every: ResultEvents) -> float:
    """The expected uncertainty by the fit to events that are scored by the network that has not seen them, which stand for all."""
    loss = ResultLoss(every, scores_by_name(description))
    outputs, events = _scored(dict(enumerate(networks)), every, description.folds.k)
    loss.choose_bins(outputs, events, len(events))
    return loss.of_events(outputs, events, 0)[0]


def _scored(networks: Mapping[int, Network], every: ResultEvents, k: int) -> tuple[torch.Tensor, EventTensors]:
    """The outputs for events of some of `k` folds by a network for each, and these events."""
    fold, device = every.table.folds(k), torch.device("cpu")
    parts = [every.tensors(it, np.flatnonzero(fold == number), device) for number, it in networks.items()]
    found = zip(networks.values(), parts, strict=True)
    return torch.cat([first(outputs_of(it.core, part, device)) for it, part in found]), EventTensors.join(parts)


def read_fold(directory: Path, fold: int) -> FoldResult:
    """How a network was trained on the result; a NanoMLError if its file is missing or damaged."""
    path = result_file(directory, fold)
    try:
        return build(FoldResult, read_json(path))
    except DAMAGE:
        raise damaged(path) from None


def network_before(description: TrainingDescription, directory: Path, fold: int) -> Network:
    """The network of a fold as it was trained on single events."""
    network = new_network(description)
    network.load_state_dict(torch.load(before_file(directory, fold), map_location="cpu", weights_only=True)["network"])
    return network.eval()
