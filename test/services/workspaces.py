"""Workspaces of pyhf on which fits go wrong: random ones, and by name those that are pathological."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Workspace = dict[str, Any]
Modifier = dict[str, Any]
Floats = NDArray[np.float64]
MU: Modifier = {"name": "mu", "type": "normfactor", "data": None}


def norm(name: str, up: float, down: float | None = None) -> Modifier:
    """A log-normal uncertainty; down is the inverse of up unless it is given."""
    return {"name": name, "type": "normsys", "data": {"hi": up, "lo": 1 / up if down is None else down}}


def shape(name: str, up: Sequence[float] | Floats, down: Sequence[float] | Floats) -> Modifier:
    """Another shape at +1 and -1 sigma."""
    return {"name": name, "type": "histosys", "data": {"hi_data": [*map(float, up)], "lo_data": [*map(float, down)]}}


def of_simulation(channel: str, errors: Sequence[float] | Floats) -> Modifier:
    """Statistical errors, shared by the samples of a channel."""
    return {"name": f"mcstat_{channel}", "type": "staterror", "data": [*map(float, errors)]}


def free(name: str) -> Modifier:
    return {"name": name, "type": "normfactor", "data": None}


def sample(name: str, events: Sequence[float] | Floats, *modifiers: Modifier) -> dict[str, Any]:
    return {"name": name, "data": [*map(float, events)], "modifiers": [*modifiers]}


def spec(
    channels: Mapping[str, Sequence[dict[str, Any]]],
    data: Mapping[str, Sequence[float] | Floats],
    *parameters: dict[str, Any],
    name: str = "test",
) -> Workspace:
    """A workspace, with settings of parameters; the range of the strength is our own if its measurement has our name."""
    return {
        "version": "1.0.0",
        "channels": [{"name": name, "samples": [*samples]} for name, samples in channels.items()],
        "observations": [{"name": name, "data": [*map(float, data[name])]} for name in channels],
        "measurements": [{"name": name, "config": {"poi": "mu", "parameters": [*parameters]}}],
    }


def simple(
    data: Sequence[float],
    signal: Sequence[float],
    background: Sequence[float],
    *modifiers: Modifier,
    of_signal: Sequence[Modifier] = (),
    parameters: Sequence[dict[str, Any]] = (),
) -> Workspace:
    """One channel with a signal and a background, whose modifiers are given."""
    samples = [sample("signal", signal, MU, *of_signal), sample("B", background, *modifiers)]
    return spec({"SR": samples}, {"SR": data}, *parameters)


def several(channels: Mapping[str, Any], data: Any, *strengths: str, name: str = "nanoml") -> Workspace:
    found = spec(channels, data, name=name)
    (measurement,) = found["measurements"]
    found["measurements"] = [
        {**measurement, "name": f"{name}{number or ''}", "config": {"poi": it, "parameters": []}}
        for number, it in enumerate(strengths)
    ]
    return found


def three_signals(data: Any, *strengths: str) -> Workspace:
    """Three signals, of which two are in one region alone; the channels of pyhf are in another order."""
    lumi, theory, rate = norm("lumi", 1.025), norm("theory", 1.1), norm("rate", 1.1)
    jes = shape("jes", [66, 41, 18], [55, 39, 22])
    channels = {
        "SR": [
            sample("A", [6, 14, 2], free("mu_A"), lumi),
            sample("B", [30, 10, 3], free("mu_B"), lumi, theory),
            sample("D", [60, 40, 20], rate, jes, of_simulation("SR", [2, 3, 1])),
        ],
        "CR": [
            sample("B", [10, 3], free("mu_B"), theory),
            sample("C", [5, 12], free("mu_C"), lumi),
            sample("D", [100, 50], rate, of_simulation("CR", [3, 3])),
        ],
    }
    return several(channels, data, *strengths)


def random_workspace(seed: int) -> Workspace:
    """One or two channels, up to four backgrounds, and uncertainties of all kinds, of which some are badly made."""
    random = np.random.default_rng(seed)
    size = 10 ** random.uniform(0.7, 5)  # background events
    names = [f"B{number}" for number in range(random.integers(1, 5))]
    sources = {f"source{number}": _source(random) for number in range(random.integers(0, 7))}
    channels, data = {}, {}
    has_free = len(names) > 1 and random.random() < 0.3
    for number in range(random.integers(1, 3)):
        bins, channel = int(random.integers(1, 9)), f"C{number}"
        at = np.linspace(0, 1, bins)
        expected, samples, total_errors = np.zeros(bins), [], np.zeros(bins)
        for name in names:
            events = size / len(names) * random.uniform(0.2, 2) * np.exp(-random.uniform(-1, 4) * at) / bins
            events = np.maximum(events, 0.05)
            errors = events * 10 ** random.uniform(-4, -0.5) / np.sqrt(np.maximum(events / size, 1e-3))
            errors = np.minimum(errors, events)
            expected, total_errors = expected + events, np.hypot(total_errors, errors)
            modifiers = [of_simulation(channel, errors)]
            modifiers += [make(source, events, at, random) for source, make in sources.items() if random.random() < 0.7]
            if has_free and name == "B0":
                modifiers.append(free("norm_B0"))
            samples.append(sample(name, events, *modifiers))
        strength = random.uniform(0.3, 4) * np.sqrt(size)
        signal = strength * np.exp(-(((at - random.uniform(0.4, 1)) / 0.25) ** 2))
        signal = np.maximum(signal / signal.sum() * strength, 1e-3)
        if number == 0 or random.random() < 0.5:
            modifiers = [make(source, signal, at, random) for source, make in sources.items() if random.random() < 0.5]
            samples.insert(0, sample("signal", signal, MU, *modifiers))
        else:
            signal = np.zeros(bins)
        true = expected * np.exp(random.normal(0, random.choice([0.0, 0.05, 0.3]))) + random.choice([0, 1]) * signal
        channels[channel], data[channel] = samples, random.poisson(true).astype(float)
    return spec(channels, data, name=random.choice(["nanoml", "test"]))


def _source(random: np.random.Generator) -> Callable[..., Modifier]:
    """How an uncertainty changes processes: mostly as it should, sometimes to one side, alike, or far too much."""
    name, size = f"s{random.integers(1e9)}", 10 ** random.uniform(-2.3, -0.3)
    kind = random.choice(["norm", "shape", "tilt", "equal", "one side", "huge"], p=[0.3, 0.25, 0.2, 0.1, 0.1, 0.05])

    def make(source: str, events: Floats, at: Floats, random: np.random.Generator) -> Modifier:
        del source
        wanted = size * random.uniform(0.5, 1.5)
        if kind == "norm":
            return norm(name, 1 + wanted)
        if kind == "equal":
            is_shape = random.random() < 0.5
            change = events * (1 + wanted * np.cos(3 * at))
            return shape(name, change, change) if is_shape else norm(name, 1 + wanted, 1 + wanted)
        if kind == "one side":
            return norm(name, 1 + wanted, 1.0) if random.random() < 0.5 else norm(name, 1 + wanted, 1 + 0.4 * wanted)
        if kind == "huge":
            return norm(name, 1 + 3 * random.random(), 0.3)
        tilt = wanted * (2 * at - 1 if kind == "tilt" else random.normal(size=len(at)))
        tilt = np.clip(tilt, -0.9, 2)
        return shape(name, events * (1 + tilt), events * np.maximum(1 - tilt, 0.02))

    return make


def _tall(parameters: int, bins: int) -> Workspace:
    random, at = np.random.default_rng(2), np.linspace(0, 1, bins)
    background, signal = 2000 * np.exp(-3 * at) / bins + 2, 40 * np.exp(-(((at - 0.8) / 0.1) ** 2)) / bins
    modifiers = [of_simulation("SR", 0.03 * background)]
    for number in range(parameters):
        tilt = 0.03 * random.normal() * (at - 0.5) + 0.01 * random.normal()
        modifiers.append(shape(f"s{number}", background * (1 + tilt), background * (1 - tilt)))
    return simple(random.poisson(background + signal), signal, background, *modifiers)


def _bounds(low: float, high: float, **more: Any) -> dict[str, Any]:
    return {"name": "mu", "bounds": [[low, high]], **more}


_S, _B = [2.0, 5.0, 9.0], [80.0, 50.0, 20.0]
_STAT = of_simulation("SR", [4.0, 3.0, 2.0])
_FREE_SHAPE: Modifier = {"name": "shape", "type": "shapefactor", "data": None}

IMPOSSIBLE: dict[str, tuple[Workspace, str]] = {
    "signal without background": (
        simple([80, 50, 0], _S, [80.0, 50.0, 0.0], norm("a", 1.1)),
        "A signal without any background is expected in SR bin 3",
    ),
    "data where nothing is": (
        simple([80, 2, 25], [2.0, 0.0, 9.0], [80.0, 0.0, 20.0], norm("a", 1.1)),
        "Events are observed in SR bin 2, where none are expected",
    ),
    "no signal": (simple([80, 50, 25], [0.0, 0.0, 0.0], _B), "The signal has no events in any channel"),
}
"""Workspaces that cannot be fitted, and how the error message of each begins."""

PATHOLOGICAL: dict[str, Workspace] = {
    "norm, up and down equal": simple([110, 68, 30], _S, _B, norm("a", 1.3, 1.3)),
    "norm, equal, no signal in data": simple([104, 65, 26], [0.5, 2.0, 9.0], _B, norm("a", 1.3, 1.3), _STAT),
    "norm, equal and too few": simple([60, 38, 15], _S, _B, norm("a", 0.7, 0.7)),
    "shape, up and down equal": simple([90, 60, 30], _S, _B, shape("a", [90, 60, 30], [90, 60, 30]), _STAT),
    "shape, equal, large": simple([160, 55, 21], _S, _B, shape("a", [160, 55, 20], [160, 55, 20])),
    "two equal": simple([130, 80, 40], _S, _B, norm("a", 1.2, 1.2), norm("b", 1.25, 1.25)),
    "equal in signal": simple([80, 55, 45], _S, _B, _STAT, of_signal=[norm("a", 1.5, 1.5)]),
    "equal, small": simple([88, 55, 22], _S, _B, norm("a", 1.02, 1.02), norm("b", 1.05)),
    "one side": simple([95, 60, 30], _S, _B, norm("a", 1.3, 1.0), _STAT),
    "one side, down": simple([70, 40, 15], _S, _B, norm("a", 1.0, 0.7), _STAT),
    "same side": simple([100, 63, 26], _S, _B, norm("a", 1.4, 1.15), _STAT),
    "two minima": simple([112, 70, 29], _S, _B, norm("a", 1.3, 1.28), _STAT),
    "two minima by shape": simple([80, 70, 40], _S, _B, shape("a", [82, 70, 40], [80, 68, 38]), _STAT),
    "lopsided": simple([95, 60, 30], _S, _B, norm("a", 3.0, 0.95), _STAT),
    "huge": simple([95, 60, 30], _S, _B, norm("a", 4.0, 0.25), _STAT),
    "huge in signal": simple([95, 60, 45], _S, _B, _STAT, of_signal=[norm("a", 3.0, 1 / 3)]),
    "almost nothing down": simple([95, 60, 30], _S, _B, norm("a", 1.5, 1e-3), _STAT),
    "tiny errors of simulation": simple([95, 60, 30], _S, _B, of_simulation("SR", [1e-7] * 3)),
    "only tiny errors": simple([95, 60, 30], _S, _B, of_simulation("SR", [1e-5, 1e-6, 1e-4]), norm("a", 1 + 1e-7)),
    "errors of 100 %": simple([95, 60, 30], _S, _B, of_simulation("SR", _B)),
    "errors of 200 %": simple([1, 6, 30], _S, _B, of_simulation("SR", [160, 100, 40])),
    "10^6 events with 10 %": simple([1.2e6], [1e4], [1e6], norm("a", 1.1)),
    "10^6 events with 10 % and shapes": simple(
        [1.1e6, 4.4e5], [3e3, 5e3], [1e6, 4e5], norm("a", 1.1), shape("b", [1.01e6, 3.9e5], [0.99e6, 4.1e5])),
    "10^8 events": simple([1e8, 4e7 + 2e4], [1e3, 5e3], [1e8, 4e7], norm("a", 1.02), norm("b", 1.01)),
    "deficit": simple([50, 25, 4], _S, _B, norm("a", 1.1), _STAT),
    "no event at all": simple([0, 0, 0], _S, [8.0, 5.0, 2.0], norm("a", 1.1)),
    "no event in a bin": simple([80, 50, 0], _S, _B, norm("a", 1.1), _STAT),
    "few events": simple([2, 1, 3], [0.5, 1.0, 2.0], [2.0, 1.0, 0.3], norm("a", 1.2), of_simulation("SR", [0.3] * 3)),
    "tiny background": simple([0, 0, 1], [0.1, 0.5, 2.0], [1e-3, 1e-3, 1e-4], norm("a", 1.2)),
    "negative background": spec(
        {"SR": [sample("signal", _S, MU), sample("B", _B, norm("a", 1.1)), sample("C", [-2.0, 5.0, -1.0])]},
        {"SR": [80, 55, 25]}),
    "variation to nothing": simple([80, 50, 25], _S, _B, shape("a", [85, 52, 40], [75, 48, 0]), _STAT),
    "variation below nothing": simple([60, 45, 12], _S, _B, shape("a", [90, 55, 45], [70, 45, -5]), _STAT),
    "two variations below nothing": simple(
        [60, 42, 5], _S, _B, *(shape(name, [90, 55, 33], [70, 45, 7]) for name in "ab")),
    "same effect twice": simple([90, 60, 30], _S, _B, norm("a", 1.1), norm("b", 1.1)),
    "opposite effects": simple([90, 60, 30], _S, _B, norm("a", 1.2), norm("b", 1 / 1.2)),
    "like the signal": simple([90, 60, 30], _S, _B, shape("a", np.add(_B, _S), np.subtract(_B, _S))),
    "signal like the background": simple([100, 62, 25], np.multiply(_B, 0.1), _B, norm("a", 2.0)),
    "free background": spec(
        {"SR": [sample("signal", _S, MU), sample("B", _B, free("norm_B"), _STAT)],
         "CR": [sample("B", [400.0], free("norm_B"), norm("a", 1.05))]}, {"SR": [70, 42, 20], "CR": [350]}),
    "free background at its bound": spec(
        {"SR": [sample("signal", [1.0, 1.0], MU), sample("B", [2.0, 1.0], free("norm_B")), sample("C", [20, 20])],
         "CR": [sample("B", [10.0], free("norm_B"))]}, {"SR": [50, 40], "CR": [200]}),
    "free background at zero": spec(
        {"SR": [sample("signal", _S, MU), sample("B", [10.0, 9.0, 3.0], free("norm_B")), sample("C", _B)],
         "CR": [sample("B", [100.0], free("norm_B")), sample("C", [100.0], norm("a", 1.1))]},
        {"SR": [75, 45, 22], "CR": [70]}),
    "free shape": spec(
        {"SR": [sample("signal", _S, MU), sample("B", _B, _FREE_SHAPE)],
         "CR": [sample("B", _B, _FREE_SHAPE, norm("a", 1.1))]}, {"SR": [90, 60, 30], "CR": [85, 45, 22]}),
    "tension": spec(
        {"SR": [sample("signal", _S, MU), sample("B", _B, norm("a", 1.05), _STAT)],
         "CR": [sample("B", [4000.0], norm("a", 1.05))]}, {"SR": [90, 60, 30], "CR": [5200]}),
    "pull to the bound": spec(
        {"SR": [sample("signal", _S, MU), sample("B", _B, norm("a", 1.01))],
         "CR": [sample("B", [1e5], norm("a", 1.01))]}, {"SR": [90, 60, 30], "CR": [1.3e5]}),
    "Poisson constraints": simple(
        [9, 3, 4], [1.0, 2.0, 3.0], [8.0, 4.0, 0.5], {"name": "p", "type": "shapesys", "data": [3.0, 2.0, 0.4]}),
    "luminosity": simple(
        [95, 60, 30], _S, _B, {"name": "lumi", "type": "lumi", "data": None},
        of_signal=[{"name": "lumi", "type": "lumi", "data": None}],
        parameters=[{"name": "lumi", "auxdata": [1.0], "sigmas": [0.02], "bounds": [[0.5, 1.5]], "inits": [1.0]}]),
    "fixed parameters": simple(
        [95, 60, 30], _S, _B, norm("a", 1.1), norm("b", 1.2), parameters=[{"name": "a", "fixed": True}]),
    "nothing but the strength": simple([95, 60, 30], _S, _B),
    "best fit above its bound": simple([95, 70, 60], _S, _B, norm("a", 1.1), parameters=[_bounds(0, 1)]),
    "limit above its bound": simple([80, 50, 21], [0.2, 0.3, 0.5], _B, norm("a", 1.1), parameters=[_bounds(0, 4)]),
    "negative strengths": simple([70, 40, 12], _S, _B, norm("a", 1.1), parameters=[_bounds(-1.5, 5)]),
    "parameter at its own bound": simple(
        [160, 100, 45], _S, _B, norm("a", 1.1), parameters=[{"name": "a", "bounds": [[-2.0, 2.0]]}]),
    "expected data": simple([82.0, 55.0, 29.0], _S, _B, norm("a", 1.1), _STAT),
    "many parameters": _tall(200, 40),
    "many bins": _tall(10, 400),
}  # fmt: skip
