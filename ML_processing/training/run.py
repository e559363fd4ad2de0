"""The directory of a training: where its files are, and how its networks come back to life."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ML_processing.events.inputs import Collection, Inputs, Shape
from ML_processing.events.parameter import Parameter
from ML_processing.events.table import Table
from ML_processing.events.training_data import inputs_of
from ML_processing.models import Network, make_network
from MLTools.NanoML.errors import NanoMLError

__all__ = [
    "Run",
    "build",
    "checkpoint_file",
    "history_file",
    "network_file",
    "one_thread",
    "predict",
    "shape_of",
    "training_file",
]

_AT_ONCE = 1 << 10  # events in one forward pass: their activations fit into the processor's caches


def training_file(directory: Path) -> Path:
    """What explains a training, and lets it be rebuilt."""
    return directory / "training.json"


def network_file(directory: Path, fold: int) -> Path:
    """The trained network of a fold: its state dict."""
    return directory / f"network_{fold}.pt"


def history_file(directory: Path, fold: int) -> Path:
    """Losses of a fold, epoch by epoch."""
    return directory / f"history_{fold}.json"


def checkpoint_file(directory: Path, fold: int) -> Path:
    """State of a training that is under way."""
    return directory / f"checkpoint_{fold}.pt"


def shape_of(description: dict[str, Any]) -> Shape:
    """What the networks of a training read and give, by its description (training.json)."""
    return Shape(
        tuple(column["name"] for column in description["features"]),
        tuple(
            Collection(it["name"], tuple(it["fields"]), it["max"], it["order"])
            for it in description["collections"]
        ),
        len(description["targets"]) or len(description["classes"]),
    )


def build(description: dict[str, Any]) -> Network:
    """A fresh network as a training's description has it.

    Raises
    ------
    ConfigError
        The model or an option of it is unknown, or does not fit the inputs.
    """
    config = description["config"]
    return make_network(config["model"], config["options"], shape_of(description))


@torch.no_grad()
def predict(network: Network, inputs: Inputs, regression: bool) -> Tensor:
    """Class probabilities, or estimates of the targets, float32 of shape (N, outputs), of inputs on the CPU."""
    network.eval()
    parts = []
    for start in range(0, max(len(inputs.features), 1), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        outputs = network.outputs(inputs.map(lambda tensor, rows=rows: tensor[rows]))  # type: ignore[misc]
        parts.append(outputs if regression else torch.softmax(outputs, dim=1))
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
class Run:
    """A finished training.

    Attributes
    ----------
    description
        Content of training.json.
    networks
        The trained networks, on the CPU, without dropout; network i tests on fold i.
    histories
        Of each network the entries of its epochs.
    """

    description: dict[str, Any]
    networks: list[Network]
    histories: list[list[dict[str, Any]]]

    @classmethod
    def load(cls, directory: Path) -> Run:
        """Read a training's directory.

        Raises
        ------
        NanoMLError
            There is no training, it is not finished, or a file of it is missing or damaged.
        """
        description = _read_json(training_file(directory))
        if not description["complete"]:
            raise NanoMLError(
                f"{directory}: this training is not finished. Run `nanoml train` again: it goes on."
            )
        return cls.of(directory, description)

    @classmethod
    def of(cls, directory: Path, description: dict[str, Any]) -> Run:
        """Read the networks and histories that `description` tells of; the errors are those of `load`."""
        folds = range(description["folds"]["networks"])
        with torch.random.fork_rng(devices=[]):  # a fresh network draws random numbers
            networks = [_load_network(network_file(directory, fold), description) for fold in folds]
        return cls(description, networks, [_read_json(history_file(directory, fold)) for fold in folds])

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the outputs."""
        return list(self.description["classes"])

    @property
    def names(self) -> list[str]:
        """Names of the features, in the order of the inputs."""
        return [column["name"] for column in self.description["features"]]

    @property
    def shape(self) -> Shape:
        """What the networks read and give."""
        return shape_of(self.description)

    @property
    def targets(self) -> list[str]:
        """What is estimated by regression; empty where classes are told apart."""
        return list(self.description["targets"])

    @property
    def parameter(self) -> Parameter | None:
        """The parameter of the networks, if they have one."""
        return Parameter.from_json(self.description["parameter"])

    @property
    def signal(self) -> int:
        """Index of the signal among the classes."""
        return self.classes.index(self.description["signal"])

    def check(self, table: Table) -> None:
        """Make sure that the networks can be used on `table`.

        Raises
        ------
        NanoMLError
            The events have other features or classes than those of the training.
        """
        mine_, theirs_ = self.shape, table.shape
        labels = table.about.labels
        for what, mine, theirs in (
            (
                "objects",
                [self.description["collection"] or "none"],
                [labels.collection if labels else "none"],
            ),
            ("features", self.names, table.names),
            ("collections", [str(it) for it in mine_.collections], [str(it) for it in theirs_.collections]),
            ("targets", self.targets, list(table.about.targets)),
            ("classes", self.classes, table.classes),
        ):
            if mine != theirs:
                raise NanoMLError(
                    f"the training has the {what} {', '.join(mine)}, but these events have {', '.join(theirs)}. "
                    "Train again, or give the files of the training."
                )

    def scores(self, network: Network, table: Table) -> NDArray[np.float32]:
        """What a network says of events: class probabilities or estimates, float32 of shape (N, outputs).

        Without a value of the parameter an event gets one of the training's.
        """
        features = self.parameter.filled(table) if self.parameter else None
        return predict(network, inputs_of(table, features), bool(self.targets)).numpy()

    def out_of_fold(self, table: Table) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Score each event by the network that has not seen its fold.

        Returns
        -------
        rows
            int64, shape (M,): rows of `table` that a network tests on; all, unless only one network was trained.
        scores
            float32, shape (M, outputs): their class probabilities, or estimates of the targets.
        """
        fold = table.folds(self.description["folds"]["k"])
        rows = np.flatnonzero(fold < len(self.networks))
        scores = np.empty((len(rows), self.shape.outputs), np.float32)
        for i, network in enumerate(self.networks):
            mine = fold[rows] == i
            scores[mine] = self.scores(network, table[rows[mine]])
        return rows, scores


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NanoMLError(f"{path}: no such file. `nanoml train` makes it.") from None
    except ValueError:
        raise NanoMLError(f"{path}: is damaged. Remove {path.parent} and run `nanoml train` again.") from None


def _load_network(path: Path, description: dict[str, Any]) -> Network:
    network = build(description)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise NanoMLError(f"{path}: no such file. Run `nanoml train` again.") from None
    except Exception as problem:  # what torch.load raises for a damaged file depends on the damage
        reason = str(problem).split("\n")[0]
        raise NanoMLError(f"{path}: is damaged ({reason}). Remove it and run `nanoml train` again.") from None
    return network.eval()
