"""What negative weights cost a network, and what is left of that with positive weights of the same expectation.

    python bench/negative_weights.py [--model mlp] [--events 16000] [--repeat 10]

The events are made up: two Gaussian classes of four features, so that the best possible network is known. A quarter of the weights is -1,
the others are 1. Which are negative depends on the features, and on the class; the weighted distributions are the Gaussians. A network
(4-32-32-2), or a BDT, is trained with each treatment of the weights, and on events of weight 1, as many as the effective number of the
others. Each is measured on 100 k independent events of weight 1: how far its cross entropy is above the smallest possible one, and its AUC
below the largest. Every repetition has other events and another seed, the same for all treatments.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from common import parser
from numpy.typing import NDArray

from ML_processing.events.inputs import Inputs
from ML_processing.metrics.measured import effective_events
from ML_processing.metrics.roc import auc
from ML_processing.training.directory import Training
from ML_processing.training.train import train
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.contracts.hdf5 import HDF5Metadata, write_metadata
from MLTools.NanoML.terminal.progress import silence

NAMES = list("abcd")
MEANS = np.array([[0.75, 0.5, 0, 0], [-0.75, 0, 0, 0]])
SLOPES = np.array([[1.0, -1, 1, 0], [1, 1, 0, -1]])  # along which the share of negative weights rises, by class
FEWEST, MOST = 0.05, 0.42  # its ends
TESTED = 100_000
MODELS = {
    "mlp": Train("mlp", options={"hidden": [32, 32], "dropout": 0.1}, epochs=60, patience=10, folds=1, device="cpu"),
    "bdt": Train(model="bdt", learning_rate=0.05, epochs=1000, patience=30, folds=1, device="cpu"),
}
TREATMENTS = ("signed", "reweight", "absolute values", "negative ones dropped", "as many positive ones")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Events:
    """N events of the toy."""

    features: Floats  # (N, 4)
    labels: NDArray[np.int64]
    weights: Floats

    @classmethod
    def draw(cls, count: int, random: np.random.Generator, signed: bool) -> Events:
        """Events of both classes in turn; the share s of negative weights leaves 1 - 2 s of them, which the density makes up for."""
        labels = np.arange(count) % 2
        features, weights = random.normal(MEANS[labels], 1.0), np.ones(count)
        if signed:
            todo = np.arange(count)
            while len(todo):
                features[todo] = random.normal(MEANS[labels[todo]], 1.0)
                left = 1 - 2 * share_of_negative(features[todo], labels[todo])
                todo = todo[random.random(len(todo)) > (1 - 2 * MOST) / left]
            weights[random.random(count) < share_of_negative(features, labels)] = -1
        return cls(features, labels, weights)

    def write(self, path: Path) -> None:
        """An HDF5 file as the conversion writes it."""
        types = [("run", "u4"), ("luminosityBlock", "u4"), ("event", "u8"), ("label", "i4"), ("weight", "f4")]
        rows = np.zeros(len(self.labels), [*types, *((name, "f4") for name in NAMES)])
        rows["event"], rows["label"], rows["weight"] = np.arange(len(rows)), self.labels, self.weights
        for name, column in zip(NAMES, self.features.T, strict=True):
            rows[name] = column
        accounting = {"files": [], "entries": len(rows), "selected": len(rows), "sum_of_weights": 1.0, "cutflow": []}
        content: dict[str, Any] = {
            "schema": 1,
            "creator": "bench",
            "classes": ["signal", "background"],
            "features": [{"name": name, "dtype": "float32", "title": "", "source": "branch"} for name in NAMES],
            "objects": {},
            "selection": None,
            "datasets": [{"name": "toy", "class": None, "label": -1, "is_data": False, "books": accounting}],
        }
        with h5py.File(path, "w") as file:
            file.create_dataset("events", data=rows)
            write_metadata(file, HDF5Metadata.from_json(content))


def share_of_negative(features: Floats, labels: NDArray[np.int64]) -> Floats:
    """The share of negative weights at these places, (N,)."""
    along = (features * SLOPES[labels]).sum(axis=1) / np.sqrt(3)
    return FEWEST + (MOST - FEWEST) / (1 + np.exp(-1.5 * along))


def treated(events: Events, treatment: str, random: np.random.Generator) -> Events:
    """What a treatment trains on."""
    if treatment == "absolute values":
        return replace(events, weights=np.abs(events.weights))
    if treatment == "negative ones dropped":
        use = events.weights > 0
        return Events(events.features[use], events.labels[use], events.weights[use])
    if treatment == "as many positive ones":
        return Events.draw(round(effective_events(events.weights)), random, signed=False)
    return events


def measured(path: Path, tested: Events) -> tuple[float, float]:
    """How far a trained network is from the best one: in cross entropy and in AUC."""
    (network,) = Training.load(path).networks
    with torch.no_grad():
        logits = network(Inputs(torch.from_numpy(tested.features.astype(np.float32)), {})).double().numpy()
    difference = logits[:, 0] - logits[:, 1]
    squares = ((tested.features[:, None] - MEANS) ** 2).sum(axis=2)
    best = (squares[:, 1] - squares[:, 0]) / 2
    is_signal = tested.labels == 0
    sign = np.where(is_signal, 1, -1)
    loss = np.logaddexp(0, -sign * difference).mean() - np.logaddexp(0, -sign * best).mean()
    areas = [auc(score, is_signal, tested.weights).value or 0 for score in (best, difference)]
    return float(loss), areas[0] - areas[1]


def main() -> None:
    """Train with each treatment, and print means over the repetitions with their errors."""
    options = parser((__doc__ or "").partition("\n")[0])
    options.add_argument("--model", choices=list(MODELS), default="mlp")
    options.add_argument("--events", type=int, default=16_000)
    options.add_argument("--repeat", type=int, default=10)
    arguments = options.parse_args()
    silence()
    torch.set_num_threads(1)
    tested = Events.draw(TESTED, np.random.default_rng(0), signed=False)
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in TREATMENTS}
    for number in range(1, arguments.repeat + 1):
        random = np.random.default_rng(number)
        events = Events.draw(arguments.events, random, signed=True)
        for treatment, results in found.items():
            used = treated(events, treatment, random)
            with tempfile.TemporaryDirectory() as directory:
                path = Path(directory)
                used.write(path / "toy.h5")
                how = "reweight" if treatment == "reweight" else "signed"
                train(
                    [path / "toy.h5"], replace(MODELS[arguments.model], seed=number, negative_weights=how), path / "run"
                )
                shape = (len(used.weights), float((used.weights < 0).mean()), effective_events(used.weights))
                results.append((*shape, *measured(path / "run", tested)))
    for treatment, results in found.items():
        mean = np.mean(results, axis=0)
        error = np.std(results, axis=0, ddof=1) / np.sqrt(len(results))
        sys.stdout.write(
            f"{treatment:24}{mean[0]:8.0f} events, {mean[1]:4.0%} negative, {mean[2]:6.0f} effective: cross entropy "
            f"{1000 * mean[3]:5.1f} ± {1000 * error[3]:.1f} millinats above the best, AUC {mean[4]:.4f} ± {error[4]:.4f} below\n"
        )


if __name__ == "__main__":
    main()
