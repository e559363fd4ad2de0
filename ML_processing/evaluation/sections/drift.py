"""Whether the events of other files are like those of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ML_processing.evaluation.content import Evaluation, Part, finding, section
from ML_processing.evaluation.measurement import Measurement
from ML_processing.evaluation.scored import MOST_EVENTS, edges_of, label, missing_share
from ML_processing.evaluation.sections.inputs import finish_shapes
from ML_processing.events.data import as_floats
from ML_processing.metrics.distances import Kolmogorov, bonferroni, kolmogorov, stability_index
from ML_processing.metrics.measured import MERGED, Floats, Histogram, histogram
from MLTools.NanoML.contracts.hdf5 import EVENTS, open_hdf5
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.report.figures import grid, legend_below, line, note_in
from MLTools.NanoML.report.page import Answer
from MLTools.NanoML.report.section import Caption, Style

_BLOCK = 1 << 16  # events read at once
_DRAWN = 12  # features whose shapes are drawn in a comparison
_CHANCE = 0.01  # below this probability it is not chance
_SHIFT = (0.1, 0.25)  # customary limits of the population stability index
_DECILES = 10  # in which that index is measured


@dataclass(frozen=True)
class FeatureDrift:
    """A feature in the events of the training and in others."""

    name: str
    label: str
    test: Kolmogorov = field(metadata=MERGED)
    stability_index: float | None
    missing: tuple[float, float]  # share of the values
    edges: Floats
    training: Histogram
    other: Histogram


@section("drift")
@dataclass(frozen=True)
class Drift(Part):
    """The features in the events of the training and in others, the most different one first."""

    caption = Caption(
        "Events of the training against the compared files",
        "Shapes of the features that differ most; PSI is the population stability index: below 0.1 is no shift, above "
        "0.25 a large one by custom.",
        "A shifted feature that is important to the network: the score of those events means something else.",
    )

    files: list[str]
    events: int
    other_events: int
    panels: list[FeatureDrift]

    @classmethod
    def compute(cls, of: Measurement) -> Drift | None:
        """Compare the event-level features with those of other HDF5 files of simulation, with or without classes.

        None without such files; raises NanoMLError if one lacks a feature.
        """
        tested, files = of.part, of.compare
        if not files:
            return None
        names, seed = tested.table.names, tested.seed
        limit, named = MOST_EVENTS // len(files), tested.table.about.named
        parts = [_read(file, names, limit, seed + i, named) for i, file in enumerate(files)]
        others, other_weights = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        features, weights = tested.table.features, tested.table.weights
        found = []
        for name, ours, other in zip(names, features.T, others.T, strict=True):
            edges, samples = edges_of(np.concatenate([ours, other])), (ours, weights, other, other_weights)
            found.append(
                FeatureDrift(
                    name,
                    label(tested.table, name),
                    kolmogorov(*samples),
                    stability_index(*samples),
                    (missing_share(ours), missing_share(other)),
                    edges,
                    histogram(ours, weights, edges),
                    histogram(other, other_weights, edges),
                )
            )
        found.sort(key=lambda it: -(it.stability_index or 0))
        return cls([str(file) for file in files], len(features), len(others), found)

    def draw(self, style: Style) -> Figure | None:
        """The most different ones."""
        if not self.panels:
            return None
        panels = self.panels[:_DRAWN]
        figure, all_axes = grid(style, len(panels), f"{self.events:,} and {self.other_events:,} events")
        for axes, panel in zip(all_axes, panels, strict=True):
            edges = panel.edges
            look = {"color": line(0, 2)["color"], "lw": 1.8, "fill": True, "alpha": 0.35}
            axes.stairs(panel.training.values, edges, label="Training sample", **look)
            points: dict[str, Any] = {"fmt": "o", "color": "black", "ms": 4, "elinewidth": 1, "label": "Compared files"}
            axes.errorbar((edges[1:] + edges[:-1]) / 2, panel.other.values, panel.other.errors, **points)
            finish_shapes(axes, style.axis(panel.name, panel.label), edges, 1.35)
            if panel.stability_index is not None:
                note_in(axes, f"PSI {panel.stability_index:.3f}")
        legend_below(figure, all_axes[0])
        return figure

    @classmethod
    def answer(cls, page: Evaluation) -> Answer | None:
        """By the feature that differs most, if there is something to compare with."""
        content = page.of(cls)
        if not content:
            return None
        question = "Like the compared files?"
        known = [(it, it.stability_index) for it in content.panels if it.stability_index is not None]
        if not known:
            return Answer(question, "open", "Nothing was tested: no feature could be compared.")
        worst, largest = known[0]
        names = [it.name for it, index in known if index > _SHIFT[0]]
        probable = bonferroni([it.test.probability for it, _ in known if it.test.probability is not None])
        significant, relevant = probable is not None and probable < _CHANCE, bool(names)
        remark = finding(significant, relevant, "a Kolmogorov-Smirnov probability of 1 %", f"an index of {_SHIFT[0]}")
        text = (
            f"Largest difference: {worst.name}, population stability index {largest:.3f}, Kolmogorov-Smirnov distance "
            f"{worst.test.distance:.3f}. That is {remark}."
        )
        if relevant and significant:
            text += f" Shifted: {', '.join(names)}. The network may do worse on those events."
            return Answer(question, "bad" if largest > _SHIFT[1] else "look", text)
        # by chance alone, the index is on average the number of free bins times 1 / n + 1 / m
        chance = (_DECILES - 1) * (1 / max(content.events, 1) + 1 / max(content.other_events, 1))
        if chance > _SHIFT[0] and not significant:
            return Answer(question, "open", f"{text} These events are too few to tell.")
        return Answer(question, "look" if relevant else "good", text)


def _read(
    file: Path, names: Sequence[str], limit: int, seed: int, named: Mapping[str, Sequence[float]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features and weights of a random choice of a file's events."""
    with open_hdf5(file) as h5:
        events = h5[EVENTS]
        missing = [name for name in names if name not in events.dtype.names]
        if missing:
            raise NanoMLError(
                f"{file}: has no feature {missing[0]}, so it cannot be compared with the events of the training. "
                "Convert it with the same configuration."
            )
        columns, count = events.fields(["weight", *names]), len(events)
        share, random = min(1.0, limit / max(count, 1)), np.random.default_rng(seed)
        features: list[NDArray[np.float32]] = [np.empty((0, len(names)), np.float32)]
        weights: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
        for start in range(0, count, _BLOCK):
            rows = columns[start : start + _BLOCK]
            rows = rows[random.random(len(rows)) < share]
            features.append(as_floats(rows, names, rows.shape, named))
            weights.append(rows["weight"].astype(np.float32))
    return np.concatenate(features), np.concatenate(weights)
