"""The synthetic example of P. de Castro and T. Dorigo (arXiv:1806.04743), section 5.1: a signal and a background that is known badly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ML_processing.events.inputs import Inputs
from ML_processing.models.network import Network
from MLTools.NanoML.config.fit import EVERYWHERE, Fit, FitTarget, Histogram, log_normal
from MLTools.NanoML.contracts.bins import STRENGTH, Counts, Sides, strength_error
from services.shiftedbackground import write_events
from services.toys import Floats, gaussian

YIELDS = np.array([50.0, 1000.0])
_NOMINAL = (0.0, 3.0)
_SIZES = {"place": (0.4, 0.0), "slope": (0.0, 1.0)}
_WIDTHS = np.sqrt([5.0, 9.0])


@dataclass(frozen=True)
class Inferno:
    """Three features. The background has an uncertain place (0.4), slope (a third) and yield (a tenth): benchmark 4 of the paper.

    Attributes
    ----------
    bins
        Number of even bins of the score.
    """

    bins: int = 10

    def density(self, features: Floats, place: float, slope: float) -> Floats:
        """The density of the background, (N,), with its first two features moved to the right, and the slope of the third one."""
        flat = gaussian(features[:, :2], np.array([2 + place, 0]), _WIDTHS)
        return np.asarray(flat * slope * np.exp(-slope * features[:, 2]), np.float64)

    def ratio(self, features: Floats, name: str, sign: int) -> Floats:
        """The density of the background at +1 or -1 sigma of a nuisance parameter over that at 0."""
        moved = (at + sign * size for at, size in zip(_NOMINAL, _SIZES[name], strict=True))
        return self.density(features, *moved) / self.density(features, *_NOMINAL)

    def write(self, path: Path, count: int, seed: int) -> FitTarget:
        """Write an HDF5 file with `count` events of each class, and return the fit to all of them."""
        random, label = np.random.default_rng(seed), np.arange(2 * count) % 2
        features = np.empty((2 * count, 3))
        features[:, :2] = np.where(
            label[:, None] == 0, random.normal(1, 1, (2 * count, 2)), random.normal([2, 0], _WIDTHS, (2 * count, 2))
        )
        features[:, 2] = random.exponential(1 / np.where(label == 0, 2.0, 3.0))
        ratios = {
            name: [np.where(label == 1, self.ratio(features, name, sign), 1.0) for sign in (1, -1)] for name in _SIZES
        }
        write_events(path, ["signal", "background"], label, (YIELDS / count)[label], features, ratios)
        fit = Fit({EVERYWHERE: "signal"}, "signal", uncertainties={"background": "10 %"})
        return FitTarget(fit, {"signal": Histogram(bins=[self.bins, 0, 1])}, {"": {}}, [], {"": [str(path)]})

    def uncertainty(self, place: NDArray[Any]) -> float:
        """The expected uncertainty of the signal strength with each point of a grid in a bin of this number."""
        features, cells = _grid()
        signal = gaussian(features[:, :2], 1.0, 1.0) * 2 * np.exp(-2 * features[:, 2])

        def binned(density: Floats, total: float) -> Floats:
            return np.bincount(place, total * cells * density).astype(np.float64)

        known = self.density(features, *_NOMINAL)
        sides = {
            name: Sides(*(binned(known * self.ratio(features, name, sign), YIELDS[1]) for sign in (1, -1)))
            for name in _SIZES
        }
        counts = [binned(signal, YIELDS[0]), binned(known, YIELDS[1])]
        return float(
            strength_error(
                [
                    [
                        Counts(STRENGTH, counts[0], 0 * counts[0], {}, {}, None),
                        Counts(None, counts[1], 0 * counts[1], sides, {"norm": log_normal("10 %")}, None),
                    ]
                ],
                np,
            )
        )

    def best(self) -> float:
        """That of a fit to the features themselves in small bins, which no score can surpass."""
        return self.uncertainty(np.arange(len(_grid()[0])))

    def of_network(self, network: Network) -> float:
        """That of a fit to the score of a network, whose events are not counted: they are integrated."""
        with torch.no_grad():
            logits = network.eval()(Inputs(torch.from_numpy(_grid()[0].astype(np.float32)), {}))
        score = torch.softmax(logits.double(), dim=1)[:, 0].numpy()
        return self.uncertainty(np.minimum(score * self.bins, self.bins - 1).astype(int))


def _grid() -> tuple[Floats, Floats]:
    """Points in the middle of cells, (N, 3), and the volumes of these, (N,)."""
    edges = (
        np.linspace(-7, 11, 73),
        np.linspace(-11, 11, 67),
        np.concatenate([np.linspace(0, 2, 41), np.linspace(2, 6, 17)[1:]]),
    )
    middle = np.meshgrid(*((it[1:] + it[:-1]) / 2 for it in edges), indexing="ij")
    volume = np.meshgrid(*(np.diff(it) for it in edges), indexing="ij")
    return np.stack([it.ravel() for it in middle], axis=1), np.prod([it.ravel() for it in volume], axis=0)
