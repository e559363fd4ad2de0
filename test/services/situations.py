"""Made-up analyses for the verdicts of a report: situations without a fault, and each fault alone in one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ML_processing.evaluation.report import evaluate
from ML_processing.training.train import train
from MLTools.NanoML.contracts.hdf5 import HDF5Metadata, write_metadata
from services.trainings import QUICK

Floats = NDArray[np.float64]
CLASSES = ("signal", "WZ", "ZG", "tt")
TRAIN = replace(
    QUICK, options={"hidden": [16, 16], "dropout": 0.2}, batch_size=128, epochs=60, patience=6, learning_rate=0.003,
    negative_weights="reweight", workers=1,
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """Events: their inputs by name, the numbers of their classes, and their weights."""

    inputs: dict[str, Floats]
    labels: NDArray[np.int64]
    weights: Floats
    classes: int
    first: int = 0  # number of the first event

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: NDArray[Any]) -> Sample:
        inputs = {name: values[rows] for name, values in self.inputs.items()}
        return replace(self, inputs=inputs, labels=self.labels[rows], weights=self.weights[rows])

    def having(self, **inputs: Floats) -> Sample:
        """The same with other inputs, or more."""
        return replace(self, inputs={**self.inputs, **inputs})

    def write(self, path: Path) -> Path:
        """An HDF5 file as the conversion writes it."""
        types = [("run", "u4"), ("luminosityBlock", "u4"), ("event", "u8"), ("label", "i4"), ("weight", "f4")]
        rows = np.zeros(len(self), [*types, *((name, "f4") for name in self.inputs)])
        rows["event"], rows["label"], rows["weight"] = self.first + np.arange(len(self)), self.labels, self.weights
        for name, values in self.inputs.items():
            rows[name] = values
        books = {"files": [], "entries": len(self), "selected": len(self), "sum_of_weights": 1.0, "cutflow": []}
        features = [{"name": name, "dtype": "float32", "title": "", "source": "branch"} for name in self.inputs]
        datasets = [{"name": path.stem, "class": None, "label": -1, "is_data": False, "books": books}]
        content: dict[str, Any] = {"schema": 1, "creator": "toy", "classes": CLASSES[: self.classes]}
        content |= {"features": features, "objects": {}, "selection": None, "datasets": datasets}
        with h5py.File(path, "w") as file:
            file.create_dataset("events", data=rows)
            write_metadata(file, HDF5Metadata.from_json(content))
        return path


@dataclass(frozen=True)
class Analysis:
    """Where events come from: the same ones for the same seed.

    Its inputs are Gaussian (x0, x1, ...), exponential like momenta (pt0, ...), and counts (n0, ...); `mass` knows no
    class and is not trained on.
    """

    classes: int = 3
    gaussian: int = 3
    exponential: int = 2
    counts: int = 1
    bits: int = 23  # of the mantissa, as NanoAOD rounds
    missing: float = 0.0  # share of the values of the first input
    negative: float = 0.0  # share of weights
    spread: float = 0.0  # of the logarithm of weights
    seed: int = 1

    def _places(self) -> Floats:
        """Where the classes are in the kinds of inputs, (3, classes, 9): no two so near that nothing separates them."""
        random = np.random.default_rng(self.seed)
        used = np.array([self.gaussian, self.exponential, self.counts])[:, None, None] > np.arange(9)
        scale = np.array([1.0, 0.3, 0.4])[:, None, None] * used  # what a distance of 1 is worth
        while True:
            places = random.normal(size=(3, self.classes, 9))
            apart = ((places[:, :, None] - places[:, None]) * scale[:, :, None]) ** 2
            distances = apart.sum(axis=(0, 3))[~np.eye(self.classes, dtype=bool)]
            if distances.min() > 0.6**2:
                return places

    def sample(self, count: int, seed: int, distance: float = 0.6) -> Sample:
        """Some events; the classes are nearer to each other if `distance` is small."""
        places = self._places() * distance
        random, labels = np.random.default_rng([self.seed, seed]), np.arange(count) % self.classes
        inputs = {f"x{i}": random.normal(places[0, labels, i], 1.0) for i in range(self.gaussian)}
        for i in range(self.exponential):
            inputs[f"pt{i}"] = random.exponential(40 * np.exp(0.3 * places[1, labels, i])) + 10
        for i in range(self.counts):
            inputs[f"n{i}"] = random.poisson(2 * np.exp(0.3 * places[2, labels, i])).astype(float)
        inputs["mass"] = random.exponential(50, count) + 80
        if self.gaussian:
            inputs["x0"] = np.where(random.random(count) < self.missing, np.nan, inputs["x0"])
        rounded = {name: _rounded(values, self.bits) for name, values in inputs.items()}
        weights = np.exp(self.spread * random.normal(size=count)) * (0.2 + labels)
        weights *= np.where(random.random(count) < self.negative, -1, 1)
        return Sample(rounded, labels, weights, self.classes, first=1_000_000 * seed)


def _rounded(values: Floats, bits: int) -> Floats:
    fraction, exponent = np.frexp(values)
    return np.ldexp(np.round(fraction * 2.0**bits) / 2.0**bits, exponent)


def verdict(run: Path, file: Path, **compared: Any) -> dict[str, Mapping[str, str]]:
    """The answers of the report on a training, by their questions."""
    content = evaluate(run, [file], run / "report", **compared)
    return {it["question"]: it for it in content["verdict"]}


def trained(directory: Path, sample: Sample, **changes: Any) -> tuple[Path, Path]:
    """Train on events: the directory of the training, and the file with the events."""
    directory.mkdir(parents=True, exist_ok=True)
    file = sample.write(directory / "events.h5")
    features = [name for name in sample.inputs if name != "mass"]
    train([file], replace(TRAIN, **{"features": features, **changes}), directory / "run")
    return directory / "run", file
