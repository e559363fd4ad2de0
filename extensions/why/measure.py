"""The expectation in a state: events by region and process, AUC and limit, each also without a part of the events, for errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.config.fit import NEVER
from MLTools.NanoML.contracts.templates import DATA, Templates
from MLTools.NanoML.schema.plain import plain
from MLTools.NanoML.stages import import_part

HISTOGRAM, GROUPS, SCORE_BINS = "nanoml_why", 20, 50
"""The histogram that is added to each state: groups of events by their numbers, and the score of the signal."""
AUC, LIMIT, SPREAD = "AUC in ", "limit", "error of the signal strength"
"""The beginnings of the names of quantities that are not numbers of events."""
_COARSE = 5  # bins of the score that are one for the error of a limit
_ONE_SIDED = 1.96  # standard deviations of a median expected CLs limit at 95 %
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """Quantities of a state by their names, and the same without each group of its events in turn."""

    values: dict[str, float]
    without: dict[str, list[float]]


@dataclass(frozen=True)
class Shift:
    """How far a quantity moved, with its statistical error, and half of the difference between the two orders of changes."""

    value: float
    error: float
    order: float = 0.0


def shift(pairs: Sequence[tuple[Measured, Measured]], name: str) -> Optional[Shift]:
    """The mean shift of a quantity between pairs of states; None if it is not known in all of them.

    Both states of a pair have the same events: those that do not change add nothing to the error, which is a jackknife's.
    """
    is_counted = not name.startswith((AUC, LIMIT, SPREAD))
    if not is_counted and not all(name in state.values for pair in pairs for state in pair):
        return None
    none = [0.0] * GROUPS  # of a process that a state does not have
    moved = [new.values.get(name, 0.0) - old.values.get(name, 0.0) for old, new in pairs]
    parts = np.mean(
        [np.subtract(new.without.get(name, none), old.without.get(name, none)) for old, new in pairs], axis=0
    )
    error = np.sqrt((GROUPS - 1) * np.mean((parts - parts.mean()) ** 2))
    return Shift(float(np.mean(moved)), float(error), abs(moved[0] - moved[-1]) / 2)


def measure(source: Path, output: Path, fits: Sequence[Any], fitted: Sequence[str]) -> dict[str, int]:
    """Write what is expected, by the histograms of a state and by its fits, in these regions; return how much there is."""
    templates, values, without = Templates.read(source), dict[str, float](), dict[str, list[float]]()

    def note(name: str, found: tuple[float, Floats]) -> None:
        if np.isfinite([found[0], *found[1]]).all():
            values[name], without[name] = found[0], found[1].tolist()

    for histogram in (it for it in templates.histograms if it.name.startswith(HISTOGRAM)):
        at = _at(histogram.hypothesis)
        regions: dict[str, dict[str, Floats]] = {}
        for channel in histogram.channels:
            for process, each in channel.processes.items():
                mine, key = regions.setdefault(channel.region, {}), f"{process}{at * (process == templates.signal)}"
                if process != DATA:
                    mine[key] = mine.get(key, 0.0) + each.nominal.reshape(GROUPS + 2, -1)[1:-1]
        signal, channels = f"{templates.signal}{at}", list[Floats]()
        for region, found in regions.items():
            for process, events in found.items():
                note(f"{process} in {region}", _by_group(lambda it: float(it.sum()), events))
            others = sum(it for process, it in found.items() if process != signal)
            if signal in found and len(found) > 1:
                both = np.stack([found[signal], others], axis=1)
                channels += [both] if region in fitted else []
                if len(histogram.axes) > 1:
                    note(f"{AUC}{region}{at}", _by_group(_auc, both))
        for job in (it for it in fits if channels and histogram.hypothesis in (None, it.hypothesis)):
            job = replace(job, settings=replace(job.settings, toys=NEVER))
            expected = import_part("statistical_analysis.fit").expected_alone(job) or (None, None)
            rough, parts = _by_group(_rough_limit, np.concatenate(channels, axis=2))
            for name, value in zip((LIMIT, SPREAD), expected):
                if value is not None:  # relative errors are those of a limit by counts alone
                    note(f"{name}{_at(job.hypothesis)}", (value, value * parts / rough))
    write_json(output, plain(Measured(values, without)))
    return {"quantities": len(values)}


def _at(hypothesis: Optional[str]) -> str:
    return f", {hypothesis}" if hypothesis else ""


def _by_group(quantity: Any, events: Floats) -> tuple[float, Floats]:
    """A quantity of all events, and of those without each group, which the others stand for."""
    total = events.sum(axis=0)
    return quantity(total), np.array([quantity((total - it) * GROUPS / (GROUPS - 1)) for it in events])


def _auc(events: Floats) -> float:
    """The area under the ROC curve of signal and background in bins of the score."""
    signal, background = events
    above = signal[::-1].cumsum()[::-1] - signal / 2
    total = signal.sum() * background.sum()
    return float((background * above).sum() / total) if total > 0 else np.nan


def _rough_limit(events: Floats) -> float:
    """The limit by counts alone, with Asimov data, in coarse bins; bins without background do not count."""
    events = np.add.reduceat(events, range(0, events.shape[1], _COARSE), axis=1)
    signal, background = events[:, (events[0] > 0) & (events[1] > 0)]
    low, high = 0.0, 1e6 if len(signal) else np.nan
    for _ in range(60):
        strength = (low + high) / 2
        q = 2 * float(np.sum(strength * signal - background * np.log1p(strength * signal / background)))
        low, high = (strength, high) if q < _ONE_SIDED**2 else (low, strength)
    return high
