"""A fit of 100 nuisance parameters in 300 bins: the fit itself, impacts, limit, and toys.

    python bench/fit.py [--parameters 100] [--bins 300]

A signal and three backgrounds in three channels; a quarter of the parameters are log-normal, the others change shapes, and each bin has a
statistical parameter of its own. The data are thrown with the signal. Times include what jax compiles. Impacts are measured again with
shapes that change by nine tenths as much down as up, as real ones are not symmetric either.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import parser, peak_memory

from statistical_analysis.asymptotic import limit
from statistical_analysis.inference import changes
from statistical_analysis.likelihood import Likelihood
from statistical_analysis.maximum import maximum
from statistical_analysis.toys.batch import ManyMaxima
from statistical_analysis.toys.intervals import throw

CHANNELS, TOYS = 3, 20


def make(parameters: int, bins: int, down: float = 1.0) -> dict[str, Any]:
    """The workspace, whose shapes change by `down` as much down as up."""
    random = np.random.default_rng(1)
    at = np.linspace(0, 1, bins // CHANNELS)
    shapes = {
        "signal": np.exp(-(((at - 0.8) / 0.1) ** 2)),
        "A": np.exp(-3 * at),
        "B": np.ones_like(at),
        "C": np.exp(-at),
    }
    yields = {"signal": 20, "A": 3000, "B": 800, "C": 300}
    channels = []
    for number in range(CHANNELS):
        samples = []
        for process, shape in shapes.items():
            events = yields[process] * shape / shape.sum() + 0.01
            errors = 0.05 * events + 0.02 * np.sqrt(events)
            modifiers: list[dict[str, Any]] = [
                {"name": f"mcstat_{number}", "type": "staterror", "data": errors.tolist()}
            ]
            if process == "signal":
                modifiers.append({"name": "mu", "type": "normfactor", "data": None})
            for each in range(parameters):
                tilt = 0.05 * random.normal() * (at - 0.5)
                size = 0.01 * (1 + each % 5)
                data: dict[str, Any] = {"hi": 1 + size, "lo": 1 / (1 + size)}
                if each % 4:
                    data = {"hi_data": (events * (1 + tilt)).tolist(), "lo_data": (events * (1 - down * tilt)).tolist()}
                modifiers.append({"name": f"source{each}", "type": "histosys" if each % 4 else "normsys", "data": data})
            samples.append({"name": process, "data": events.tolist(), "modifiers": modifiers})
        channels.append({"name": f"SR{number}", "samples": samples})
    observations = [{"name": it["name"], "data": [0.0] * len(at)} for it in channels]
    measurements = [{"name": "bench", "config": {"poi": "mu", "parameters": []}}]
    return {"version": "1.0.0", "channels": channels, "observations": observations, "measurements": measurements}


def took(name: str, work: Callable[[], Any]) -> Any:
    """Do it, and say how long it took."""
    begin, before = time.perf_counter(), time.process_time()
    found = work()
    passed, processor = time.perf_counter() - begin, time.process_time() - before
    sys.stdout.write(f"{name}: {passed:.1f} s, {processor:.1f} s of the processor\n")
    sys.stdout.flush()
    return found


def impacts(content: dict[str, Any], name: str) -> tuple[Likelihood, Any, Any, float]:
    """Fit, and measure the impacts: the likelihood, its data and maximum, and the seconds for all impacts."""
    likelihood: Likelihood = took(f"model{name}", lambda: Likelihood(content))
    data = throw(likelihood, likelihood.with_strength(1.0), 1, np.random.default_rng(3))[0]
    best = took(f"fit{name}", lambda: maximum(likelihood, data))
    covariance = took(f"covariance{name}", lambda: likelihood.covariance(data, best.at))
    begin = time.perf_counter()
    took(f"impacts{name}", lambda: changes(likelihood, data, best, covariance))
    return likelihood, data, best, time.perf_counter() - begin


def main() -> None:
    """Make the model, and measure."""
    options = parser(__doc__)
    options.add_argument("--parameters", type=int, default=100)
    options.add_argument("--bins", type=int, default=300)
    given = options.parse_args()
    *_, asymmetric = impacts(make(given.parameters, given.bins, 0.9), ", asymmetric")
    likelihood, data, best, symmetric = impacts(make(given.parameters, given.bins), "")
    sys.stdout.write(f"impacts of asymmetric shapes take {asymmetric / symmetric:.2f} times as long\n")
    truth = likelihood.with_strength(1.0)
    took("limit", lambda: limit(likelihood, data, best, is_observed=True))
    many, toys = ManyMaxima(likelihood), throw(likelihood, truth, TOYS, np.random.default_rng(5))
    took(f"{TOYS} toys", lambda: many(toys, truth))
    sys.stdout.write(f"{len(likelihood.names)} parameters, {peak_memory():.0f} MB\n")


if __name__ == "__main__":
    main()
