"""From counts to efficiencies: bins that have too few jets are joined, and the result is a file of correctionlib."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from data_processing.efficiencies.counting import Bins, Counts
from MLTools.NanoML.atomic import write_text

FLAVOURS = (0, 4, 5)
"""Those of NanoAOD's hadronFlavour: light, c and b jets."""

INPUTS = {
    "dataset": ("string", "name of the dataset"),
    "flavor": ("int", "hadronFlavour: 5, 4 or 0"),
    "abseta": ("real", "|eta|"),
    "pt": ("real", "transverse momentum [GeV]"),
}
"""What an efficiency depends on, with types and meanings."""


@dataclass(frozen=True)
class Efficiency:
    """The efficiency of one dataset and flavour."""

    flavour: int
    node: Any  # of correctionlib: bins of |eta|, each with bins of pt of its own
    mean: float
    jets: int  # how many were counted in this dataset
    note: str  # in words, if it is not that of this dataset


class _Histogram:
    """Sums of weights in bins of |eta| and pt."""

    def __init__(self, all_: NDArray[np.float64], squares: NDArray[np.float64], passed: NDArray[np.float64]) -> None:
        self.all, self.squares, self.passed = all_, squares, passed

    @classmethod
    def of(cls, counts: Optional[Counts], bins: Bins) -> _Histogram:
        if counts is None:
            return cls(*np.zeros((3, *bins.shape)))
        return cls(np.array(counts.all_), np.array(counts.squares), np.array(counts.passed))

    def __getitem__(self, what: Any) -> _Histogram:
        return _Histogram(self.all[what], self.squares[what], self.passed[what])

    @property
    def over_eta(self) -> _Histogram:
        """The same for all |eta|."""
        return _Histogram(self.all.sum(axis=0), self.squares.sum(axis=0), self.passed.sum(axis=0))

    @property
    def entries(self) -> float:
        """The number of effective jets, (sum of weights)^2 / sum of squared weights."""
        squares = float(self.squares.sum())
        return float(self.all.sum()) ** 2 / squares if squares and self.all.sum() > 0 else 0.0

    @property
    def value(self) -> float:
        """The efficiency; as far from 0 and 1 as half a jet is."""
        if not self.entries:
            return 0.5
        least = 0.5 / (self.entries + 1)
        return float(np.clip(self.passed.sum() / self.all.sum(), least, 1 - least))

    def suffices(self, least: float) -> bool:
        """Whether there are enough jets, of which some pass and some do not."""
        return self.entries >= least and bool(0 < self.passed.sum() < self.all.sum())


def efficiency(
    flavour: int, own: Optional[Counts], everywhere: Optional[Counts], bins: Bins, least: float
) -> Efficiency:
    """The efficiency of jets of one flavour in one dataset.

    Parameters
    ----------
    flavour
        The flavour.
    own, everywhere
        The counts of the dataset, and of all datasets together; None without any such jet.
    bins
        Their bins.
    least
        How many effective jets each bin must have. Bins of pt are joined with those below until they have, and until some jets
        pass and some do not. A bin of |eta| without so many takes the efficiency for all |eta|; a dataset without so many, that
        of all datasets.
    """
    mine, all_ = _Histogram.of(own, bins), _Histogram.of(everywhere, bins)
    chosen, note = (mine, "") if mine.suffices(least) else (all_, "so those of all datasets")
    if not chosen.suffices(least):
        note += ", which are too few" if chosen.entries else ", and none there: 1/2 stands in"
    rows = [chosen[row] if chosen[row].suffices(least) else chosen.over_eta for row in range(bins.shape[0])]
    content = [_binning("pt", *_joined(row, bins.pt, least)) for row in rows]
    return Efficiency(flavour, _binning("abseta", bins.abseta, content), chosen.value, own.jets if own else 0, note)


def _joined(row: _Histogram, edges: Sequence[float], least: float) -> tuple[list[float], list[float]]:
    """Edges and values of bins of pt, joined from the highest on until each suffices; what is left at the low end joins the last."""
    stops, stop = [len(edges) - 1], len(edges) - 1
    for start in reversed(range(len(edges) - 1)):
        if row[start:stop].suffices(least):
            stops.append(start)
            stop = start
    stops = [*stops[:-1], 0] if len(stops) > 1 else [*stops, 0]
    places = stops[::-1]
    values = [row[start:end].value for start, end in zip(places, places[1:])]
    return [float(edges[place]) for place in places], values


def _binning(name: str, edges: Sequence[float], content: Sequence[Any]) -> dict[str, Any]:
    return {
        "nodetype": "binning", "input": name, "edges": list(map(float, edges)), "content": list(content), "flow": "clamp",
    }  # fmt: skip


def correction(name: str, by_dataset: Mapping[str, Sequence[Efficiency]]) -> dict[str, Any]:
    """One efficiency of all datasets as a correction of correctionlib."""

    def category(key: str, values: Mapping[Any, Any]) -> dict[str, Any]:
        return {
            "nodetype": "category", "input": key, "content": [{"key": it, "value": node} for it, node in values.items()],
        }  # fmt: skip

    data = {
        dataset: category("flavor", {each.flavour: each.node for each in found})
        for dataset, found in by_dataset.items()
    }
    return {
        "name": name,
        "description": "Efficiency in simulation, by generator weights.",
        "version": 1,
        "inputs": [{"name": key, "type": kind, "description": text} for key, (kind, text) in INPUTS.items()],
        "output": {"name": "efficiency", "type": "real"},
        "data": category("dataset", data),
    }


def assumed(names: Sequence[str], datasets: Sequence[str]) -> list[dict[str, Any]]:
    """Corrections with the efficiency 1/2, for selections that ask for one before it is measured."""
    half = [Efficiency(flavour, 0.5, 0.5, 0, "") for flavour in FLAVOURS]
    return [correction(name, dict.fromkeys(datasets, half)) for name in names]


def text_of(corrections: Sequence[Mapping[str, Any]], description: str) -> str:
    """The content of a file of correctionlib."""
    content = {"schema_version": 2, "description": description, "corrections": list(corrections)}
    return json.dumps(content, indent=1) + "\n"


def write(path: Path, text: str) -> None:
    """Write a file of correctionlib."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
