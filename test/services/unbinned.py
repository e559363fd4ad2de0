"""An unbinned channel whose densities are known exactly: Gaussian ones in three dimensions, with two nuisance parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.config.fit import Fit
from MLTools.NanoML.contracts.densities import Densities, UnbinnedChannel
from MLTools.NanoML.contracts.templates import FilledHistogram, TemplateAxis, Templates
from statistical_analysis.model import StatisticalModel, statistical_model

Floats = NDArray[np.float64]
SIGNAL, BACKGROUND, RATE = 50.0, 500.0, 1.1
"""Expected events, and by what the background is multiplied at one sigma of the second parameter."""
MEAN = np.array([1.2, 0.8, 0.5])
SCALE = {"signal": np.array([0.15, 0.0, 0.1]), "background": np.array([0.1, 0.05, 0.0])}
"""How far one sigma of the first parameter, the energy scale, moves the events of a process."""
TILT = np.array([0.0, 0.1, 0.1])
"""How far the second parameter moves those of the background."""
PARAMETERS = ("scale", "rate")


def events(signal: int, background: int, random: np.random.Generator, scale: float = 0.0, rate: float = 0.0) -> Floats:
    """Some events of the generator at values of the nuisance parameters, those of the signal first, of shape (events, 3)."""
    found = random.normal(size=(signal + background, 3))
    found[:signal] += MEAN + scale * SCALE["signal"]
    found[signal:] += scale * SCALE["background"] + rate * TILT
    return found


def expected(x: Any, strength: Any, scale: Any, rate: Any, xp: Any = np) -> tuple[Any, Any]:
    """The expected events, and their density at some events relative to that of the reference, by signal and background."""
    means = {"signal": MEAN + scale * SCALE["signal"], "background": scale * SCALE["background"] + rate * TILT}
    yields = {"signal": strength * SIGNAL, "background": BACKGROUND * RATE**rate}
    at_reference = (_gauss(x, MEAN, xp) + _gauss(x, np.zeros(3), xp)) / 2
    return sum(yields.values()), {it: yields[it] * _gauss(x, means[it], xp) / at_reference for it in means}


def _gauss(x: Any, mean: Any, xp: Any) -> Any:
    return xp.exp(-((x - mean) ** 2).sum(-1) / 2)


def channel(size: int, data: Floats, seed: int = 1) -> tuple[Floats, UnbinnedChannel]:
    """The channel with a reference, of which half is signal, and data; with the events themselves."""
    x = np.concatenate([events(size // 2, size // 2, np.random.default_rng(seed)), data])
    nominal = expected(x, 1.0, 0.0, 0.0)[1]
    varied = [
        {name: expected(x, 1.0, *(sign * (it == name) for it in PARAMETERS))[1] for name in PARAMETERS}
        for sign in (1.0, -1.0)
    ]
    processes = {
        process: Densities(
            values.astype(np.float32),
            *(
                {it: found[process].astype("f4") for it, found in each.items() if process != "signal" or it == "scale"}
                for each in varied
            ),
            own=(np.arange(size) < size // 2) == (process == "signal"),
        )
        for process, values in nominal.items()
    }
    return x, UnbinnedChannel("SR", None, len(data), np.full(size, 1 / size), processes)


def model(*channels: UnbinnedChannel, asimov: float | None = None) -> StatisticalModel:
    """The model of unbinned channels, with their number of events in one bin each."""
    axis = TemplateAxis("events", (0.0, 1.0))
    histograms = tuple(FilledHistogram(it.name, (axis,), (it.counted,)) for it in channels)
    templates = Templates("NanoML", histograms, ("signal", "background"), "signal", {})
    return statistical_model(templates, Fit(channels={it.region: it.name for it in channels}), {}, asimov=asimov)
