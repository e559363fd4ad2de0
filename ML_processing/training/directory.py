"""The directory of a training: its files, and its networks loaded again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ML_processing.events.data import Table
from ML_processing.events.inputs import Inputs, Shape
from ML_processing.events.reweighting import Reweighted
from ML_processing.events.training_data import ParameterGrid, inputs_of
from ML_processing.models import Network, make_network
from ML_processing.models.boosted import Boosted
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.models.network import scores_of
from ML_processing.models.scaling import Scaling
from ML_processing.training.description import Epoch, TrainingDescription, damaged, read_json
from ML_processing.training.start import begin_with, why_not_loaded
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import TARGETS, Head
from MLTools.NanoML.schema.plain import build

_AT_ONCE = 1 << 10  # events in one forward pass: their activations fit into the processor's caches


def network_file(directory: Path, fold: int) -> Path:
    """The trained network of a fold: its state dict."""
    return directory / f"network_{fold}.pt"


def history_file(directory: Path, fold: int) -> Path:
    """The epochs of a fold."""
    return directory / f"history_{fold}.json"


def weights_file(directory: Path, fold: int) -> Path:
    """What became of the negative weights in the training of a fold; there is none if they stayed as they are."""
    return directory / f"weights_{fold}.json"


def checkpoint_file(directory: Path, fold: int) -> Path:
    """State of an unfinished network."""
    return directory / f"checkpoint_{fold}.pt"


def read_history(directory: Path, fold: int) -> list[Epoch]:
    """The epochs of a trained network; a NanoMLError if its file is missing or damaged."""
    path = history_file(directory, fold)
    content = read_json(path)
    try:
        return [Epoch(**entry) for entry in content]
    except TypeError:
        raise damaged(path) from None


def read_reweighted(directory: Path, fold: int) -> dict[str, Reweighted]:
    """The classes whose weights were made positive in the training of a fold."""
    path = weights_file(directory, fold)
    content = read_json(path) if path.is_file() else {}
    try:
        return {name: build(Reweighted, each) for name, each in content.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise damaged(path) from None


def new_network(description: TrainingDescription) -> Network:
    """A fresh network; a ConfigError if the model or an option is unknown, or does not fit the inputs."""
    config = description.config
    return make_network(config.model, config.options, description.shape, config.scaling == "none")


def initial_network(description: TrainingDescription) -> Network:
    """A fresh network, or one with the weights of a checkpoint; a NanoMLError if that does not fit, besides."""
    network, start = new_network(description), description.config.start
    if start is not None:
        begin_with(network, start)
    return network


def load_network(directory: Path, fold: int, description: TrainingDescription) -> Network:
    """A trained network, on the CPU, without dropout; a NanoMLError if its file is missing or damaged."""
    path = network_file(directory, fold)
    with torch.random.fork_rng(devices=[]):  # a fresh network draws random numbers
        network = new_network(description)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise NanoMLError(f"{path}: no such file. Run `nanoml train` again.") from None
    except Exception as problem:  # what torch.load raises for a damaged file depends on the damage
        reason = why_not_loaded(problem)
        raise NanoMLError(f"{path}: is damaged ({reason}). Remove it and run `nanoml train` again.") from None
    return network.eval()


@torch.no_grad()
def predict(network: Network, inputs: Inputs, regression: bool) -> Tensor:
    """Class probabilities, or estimates of the targets, float32 of shape (N, outputs), of inputs on the CPU.

    Behind them, as further columns, are those of other heads.
    """
    network.eval()
    parts = []
    for start in range(0, max(len(inputs.features), 1), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        outputs = network.outputs(inputs.map(lambda tensor, rows=rows: tensor[rows]))  # type: ignore[misc]
        parts.append(outputs if regression else scores_of(outputs, network.shape.outputs))
    return torch.cat(parts)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one core.

    Networks for tables are too small to gain from more, and so the numbers do not depend on how many cores a
    machine has: sums are made in the same order everywhere.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Training:
    """A finished training; network i tests on fold i."""

    description: TrainingDescription
    networks: list[Network]
    histories: list[list[Epoch]]
    # by network and class, what became of negative weights, if they were made positive
    reweighted: list[dict[str, Reweighted]] = field(default_factory=list)

    @classmethod
    def load(cls, directory: Path) -> Training:
        """Read a training's directory.

        A NanoMLError says that there is no training, it is not finished, or a file of it is missing or damaged.
        """
        description = TrainingDescription.read(directory)
        if not description.complete:
            raise NanoMLError(f"{directory}: this training is not finished. Run `nanoml train` again: it continues.")
        return cls.of(directory, description)

    @classmethod
    def of(cls, directory: Path, description: TrainingDescription) -> Training:
        """Read the networks and histories of a training that is described already; the errors are those of `load`."""
        folds = range(description.folds.networks)
        networks = [load_network(directory, fold, description) for fold in folds]
        histories = [read_history(directory, fold) for fold in folds]
        return cls(description, networks, histories, [read_reweighted(directory, fold) for fold in folds])

    @property
    def shape(self) -> Shape:
        """What the networks read and give."""
        return self.description.shape

    @property
    def is_boosted(self) -> bool:
        """Whether they grew round by round, and have no gradients."""
        return isinstance(self.networks[0].core, Boosted)

    @property
    def targets(self) -> list[str]:
        """Targets of a regression; empty for a classification."""
        return list(self.description.targets)

    @property
    def parameter(self) -> ParameterGrid | None:
        """The parameter of the networks, if they have one."""
        return self.description.parameter

    @property
    def signal(self) -> int:
        """Index of the signal among the classes."""
        return self.description.signal_index

    @property
    def discriminant(self) -> BoundDiscriminant:
        """By which a classification is judged: the first discriminant, or the probability of the signal."""
        return self.description.discriminant

    @property
    def discriminants(self) -> list[BoundDiscriminant]:
        """All discriminants."""
        return [BoundDiscriminant(each, self.description.classes) for each in self.description.discriminants]

    @property
    def sentinels(self) -> dict[str, list[float]]:
        """Values that count as missing for any of the networks, by column."""
        found: dict[str, set[float]] = {}
        for scaling in (network.scaling for network in self.networks):
            for name, values in (scaling.sentinels if isinstance(scaling, Scaling) else {}).items():
                found.setdefault(name, set()).update(values)
        return {name: sorted(values) for name, values in found.items()}

    def check(self, table: Table) -> None:
        """Raise a NanoMLError if the events have other columns or classes than those of the training."""
        mine_, theirs_, labels = self.shape, table.shape, table.about.labels
        for what, mine, theirs in (
            ("objects", [self.description.collection or "none"], [labels.collection if labels else "none"]),
            ("features", list(mine_.features), table.names),
            ("collections", [str(it) for it in mine_.collections], [str(it) for it in theirs_.collections]),
            ("targets", self.targets, list(table.about.targets)),
            ("estimates", list(self.description.estimates), list(table.about.estimates)),
            ("classes", self.description.classes, table.classes),
        ):
            if mine != theirs:
                raise NanoMLError(
                    f"the training has the {what} {', '.join(mine)}, but these events have {', '.join(theirs)}. "
                    "Train again, or give the files of the training."
                )

    def scores(self, network: Network, table: Table) -> NDArray[np.float32]:
        """Class probabilities or estimates that a network gives for events, float32 of shape (N, outputs).

        An event without a value of the parameter gets one of the training's.
        """
        return self.predictions(network, table)[:, : self.shape.outputs]

    def predictions(self, network: Network, table: Table) -> NDArray[np.float32]:
        """The same with what `heads` give, float32 of shape (N, outputs + others)."""
        features = self.parameter.filled(table) if self.parameter else None
        return predict(network, inputs_of(table, features), bool(self.targets)).numpy()

    @property
    def heads(self) -> tuple[Head, ...]:
        """The heads beside the first, with the names of their outputs."""
        return tuple(
            Head(name, self.description.estimates if name == TARGETS else _numbered(name, size))
            for name, size in self.networks[0].others.items()
        )

    def out_of_fold(self, table: Table) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Score each event by the network that has not seen its fold.

        Returned are the rows (M,) of `table` that a network tests on (all, unless only one network was trained), and their
        class probabilities or estimates of the targets, float32 (M, outputs).
        """
        rows, predictions = self.all_out_of_fold(table)
        return rows, predictions[:, : self.shape.outputs]

    def all_out_of_fold(self, table: Table) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The same with what `heads` give, float32 (M, outputs + others)."""
        fold = table.folds(self.description.folds.k)
        rows = np.flatnonzero(fold < len(self.networks))
        width = self.shape.outputs + sum(self.networks[0].others.values())
        found = np.empty((len(rows), width), np.float32)
        for i, network in enumerate(self.networks):
            mine = fold[rows] == i
            if mine.any():
                found[mine] = self.predictions(network, table[rows[mine]])
        return rows, found


def _numbered(name: str, size: int) -> tuple[str, ...]:
    return (name,) if size == 1 else tuple(f"{name}_{i}" for i in range(size))
