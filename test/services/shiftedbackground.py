"""A made-up analysis whose best possible result is known: a Gaussian signal over two backgrounds, one of which may lie elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from ML_processing.events.inputs import Inputs
from ML_processing.models.network import Network
from MLTools.NanoML.config.fit import EVERYWHERE, Fit, FitTarget, Histogram, log_normal
from MLTools.NanoML.contracts import hdf5
from MLTools.NanoML.contracts.bins import STRENGTH, Counts, Sides, strength_error
from MLTools.NanoML.contracts.hdf5 import ConvertedColumn, ConvertedDataset, ConvertedWeight, HDF5Metadata
from MLTools.NanoML.nanoaod.fileaccounting import RecordedAccounting
from services.toys import Floats, gaussian

CLASSES = ["signal", "known", "shifted"]
MEANS = np.array([[0.0, 0], [0, 2], [1.5, 0]])
YIELDS = np.array([200.0, 2000, 2000])
_POINTS = np.linspace(-4.5, 6, 160)


@dataclass(frozen=True)
class ShiftedBackground:
    """At +1 sigma the third class lies nearer to the signal, by `shift` along the first of two features of width one.

    The score has so many even `bins`. Events move, as under a shift of objects, or get other weights, which is the same for
    their densities.
    """

    shift: float = 0.3
    bins: int = 15
    of_objects: bool = False

    def ratio(self, features: Floats, sign: int) -> Floats:
        """The density of the third class at +1 or -1 sigma over that at 0."""
        mean = MEANS[2] - [sign * self.shift, 0]
        return gaussian(features, mean, 1.0) / gaussian(features, MEANS[2], 1.0)

    def write(self, path: Path, count: int, seed: int) -> FitTarget:
        """Write an HDF5 file with `count` events of each class, and return the fit to all of them."""
        label = np.arange(3 * count) % 3
        features = np.random.default_rng(seed).normal(MEANS[label], 1.0)
        ratios = {"place": [np.where(label == 2, self.ratio(features, sign), 1.0) for sign in (1, -1)]}
        step = np.stack([np.where(label == 2, self.shift, 0.0), np.zeros(len(label))], axis=1)
        moved = {"placeUp": features - step, "placeDown": features + step} if self.of_objects else {}
        write_events(path, CLASSES, label, (YIELDS / count)[label], features, {} if moved else ratios, moved)
        fit = Fit({EVERYWHERE: "signal"}, "signal", uncertainties={"known": "1 %"})
        return FitTarget(fit, {"signal": Histogram(bins=[self.bins, 0, 1])}, {"": {}}, [], {"": [str(path)]})

    def uncertainty(self, place: NDArray[Any]) -> float:
        """The expected uncertainty of the signal strength with each point of the plane in a bin of this number."""
        features, cell = _plane(), (_POINTS[1] - _POINTS[0]) ** 2
        densities = [total * cell * gaussian(features, mean, 1.0) for total, mean in zip(YIELDS, MEANS, strict=True)]

        def counts(label: int) -> Counts:
            def binned(factor: Floats | float = 1.0) -> Floats:
                return np.bincount(place, densities[label] * factor).astype(np.float64)

            sides = {"place": Sides(*(binned(self.ratio(features, sign)) for sign in (1, -1)))} if label == 2 else {}
            factors = {"norm_known": log_normal("1 %")} if label == 1 else {}
            return Counts(STRENGTH if label == 0 else None, binned(), 0.0 * binned(), sides, factors, None)

        return float(strength_error([[counts(label) for label in range(3)]], np))

    def best(self) -> float:
        """That of a fit to the features themselves in small bins, which no score can surpass."""
        return self.uncertainty(np.arange(len(_plane())))

    def of_network(self, network: Network) -> float:
        """That of a fit to the score of a network, whose events are not counted: they are integrated."""
        with torch.no_grad():
            logits = network.eval()(Inputs(torch.from_numpy(_plane().astype(np.float32)), {}))
        score = torch.softmax(logits.double(), dim=1)[:, 0].numpy()
        return self.uncertainty(np.minimum(score * self.bins, self.bins - 1).astype(int))


def write_events(
    path: Path,
    classes: list[str],
    label: NDArray[np.int64],
    weights: Floats,
    features: Floats,
    ratios: Mapping[str, Sequence[Floats]],
    moved: Mapping[str, Floats] = MappingProxyType({}),
) -> None:
    """Write an HDF5 file: features x, y, ..., also under shifts, and weights of which each of `ratios` is a variation up and down."""
    names, columns = "xyz"[: features.shape[1]], [f"weight_{name}{end}" for name in ratios for end in ("Up", "Down")]
    types = [("run", "u4"), ("luminosityBlock", "u4"), ("event", "u8"), ("label", "i4")]
    rows = np.zeros(len(label), [*types, *((name, "f4") for name in ("weight", *names, *columns))])
    rows["event"], rows["label"], rows["weight"] = np.arange(len(label)), label, weights
    for name, values in zip(names, features.T, strict=True):
        rows[name] = values
    for name, ratio in zip(columns, (it for each in ratios.values() for it in each), strict=True):
        rows[name] = rows["weight"] * ratio
    described = tuple(ConvertedColumn(name, "float32", name, "branch") for name in names)
    accounting = RecordedAccounting([], len(rows), len(rows), 0, 1.0, [])
    dataset = ConvertedDataset(path.stem, None, -1, None, None, {}, False, accounting)
    given = tuple(ConvertedWeight(name, {"up": f"weight_{name}Up", "down": f"weight_{name}Down"}) for name in ratios)
    content = HDF5Metadata("NanoML", classes, described, {}, None, {}, (dataset,), weights=given, shifts=tuple(moved))
    with h5py.File(path, "w") as file:
        file.create_dataset("events", data=rows)
        hdf5.write_metadata(file, content)
        for shift, others in moved.items():
            group = file.create_group(f"shifts/{shift}")
            for name, values in zip(names, others.T, strict=True):
                rows[name] = values
            group.create_dataset("events", data=rows)
            hdf5.write_metadata(group, replace(content, shifts=()))


def _plane() -> Floats:
    return np.stack([it.ravel() for it in np.meshgrid(_POINTS, _POINTS)], axis=1)
