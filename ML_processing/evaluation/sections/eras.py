"""Whether the networks do as well in each era."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.special import chdtrc

from ML_processing.evaluation.content import Evaluation, Part, section
from ML_processing.evaluation.expected import BinnedOutput, ClassYield, Separation, binned_outputs, measured_in
from ML_processing.evaluation.measurement import Measurement
from ML_processing.evaluation.sections.regression import value
from ML_processing.metrics.measured import MERGED, PAIR, Histogram, Measured, number
from ML_processing.training.data import TrainingFiles
from ML_processing.training.directory import Training
from MLTools.NanoML.report.figures import grid, legend_below, line, marker, note_in, shorten
from MLTools.NanoML.report.page import table
from MLTools.NanoML.report.section import Caption
from MLTools.NanoML.report.style import Style


@dataclass(frozen=True)
class EraResult:
    """The events of an era."""

    yields: dict[str, ClassYield]
    measured: Separation = field(metadata=MERGED)
    discriminant: BinnedOutput | None  # the first, normalised to one for each class; None without events
    events: int  # with a score


@section
@dataclass(frozen=True)
class Eras(Part):
    """Yields and separation in each era."""

    name = "eras"
    caption = Caption(
        "Stability by era",
        "The same networks on the simulation of each era: the AUC of the signal with its statistical error, around the mean in grey, and "
        "the shape of the first discriminant for each class. p is the probability that the AUC differ as much by chance.",
        "An era far from the others, with p below 0.01: its simulation or its corrections differ, or it needs networks of its own "
        "(train.per_era).",
    )

    eras: dict[str, EraResult]
    auc: Measured = field(metadata=PAIR)  # mean over the eras by their errors
    probability: float | None  # that the AUC of the eras differ as much by chance
    physical: bool  # whether the weights are expected numbers of events
    classes: list[str]

    @classmethod
    def compute(cls, of: Measurement) -> Eras | None:
        """None if there are fewer than two eras, or for a regression."""
        return cls.measured(of.training, of.eras, of.physical)

    @classmethod
    def measured(cls, training: Training, files: Mapping[str, Sequence[Path]], physical: bool) -> Eras | None:
        """Measure the networks on the events of each era, in the regions of the training; `files` are those of each era."""
        if len(files) < 2 or training.targets:
            return None
        settings, found = training.description.config, {}
        for era, paths in files.items():
            yields, measured, tested = measured_in(training, TrainingFiles.open(paths, settings))
            assert isinstance(measured, Separation)
            shown = binned_outputs(tested)
            found[era] = EraResult(yields, measured, _shape(shown[0]) if shown else None, len(tested.table))
        return cls(
            found, *_agreement([it.measured.auc for it in found.values()]), physical, training.description.classes
        )

    def draw(self, style: Style) -> Figure:
        """AUC in each era, and the shape of the discriminant of each class in each era."""
        shown = {era: it.discriminant for era, it in self.eras.items() if it.discriminant is not None}
        panels = self.classes if shown else []
        figure, all_axes = grid(style, 1 + len(panels), "", 3, (5.4, 4.4))
        axes, places = all_axes[0], np.arange(len(self.eras))
        areas = [it.measured.auc for it in self.eras.values()]
        values, errors = np.array([(it.value, it.error) for it in areas], float).T
        axes.errorbar(places, values, errors, capsize=3, **marker(0, 3, 7))
        mean = self.auc
        if mean.value is not None and mean.error is not None:
            axes.axhspan(mean.value - mean.error, mean.value + mean.error, color="#d8d8de", zorder=0)
            axes.axhline(mean.value, color="black", lw=0.8, zorder=0)
        if self.probability is not None:
            note_in(axes, f"p = {self.probability:.2g}")
        axes.set_xlim(-0.6, len(areas) - 0.4)
        axes.margins(y=0.3)
        axes.set_xticks(places, [shorten(era, 12) for era in self.eras])
        axes.set_xlabel("Era")
        axes.set_ylabel("AUC")
        for place, (axes, name) in enumerate(zip(all_axes[1:], panels, strict=True)):
            for i, (era, it) in enumerate(shown.items()):
                bins, edges = it.classes[place].bins, it.edges
                look = line(i, len(shown))
                axes.stairs(bins.values, edges, **{**look, "lw": 1.6}, label=era)
                shift = (i - (len(shown) - 1) / 2) * (edges[1] - edges[0]) * 0.15
                centers = (edges[1:] + edges[:-1]) / 2 + shift
                axes.errorbar(centers, bins.values, bins.errors, fmt="none", ecolor=look["color"], elinewidth=1)
            first = next(iter(shown.values()))
            axes.set_xlim(first.edges[0], first.edges[-1])
            axes.set_ylim(0, axes.get_ylim()[1] * 1.15)
            axes.set_xlabel(shorten(first.label, 40))
            axes.set_ylabel("Fraction of events")
            note_in(axes, shorten(name, 30))
        if panels:
            legend_below(figure, all_axes[-1], 6)
        return figure

    def tables(self, page: Evaluation) -> str:
        """Expected events of each class, and the AUC, in each era."""
        what = "expected events" if self.physical else "sum of weights"
        head = ["era", *(f"{name}, {what}" for name in self.classes), "AUC of the signal"]
        rows = [
            [era, *(value(it.yields[name].sum_of_weights) for name in self.classes), number(it.measured.auc)]
            for era, it in self.eras.items()
        ]
        return table(head, rows)


def _shape(shown: BinnedOutput) -> BinnedOutput:
    """The same with a total of one for each class."""
    classes = []
    for it in shown.classes:
        total = it.bins.values.sum()
        scale = 1 / total if total > 0 else 0.0
        classes.append(type(it)(it.name, Histogram(it.bins.values * scale, it.bins.errors * scale)))
    return BinnedOutput(shown.label, shown.edges, classes)


def _agreement(areas: Sequence[Measured]) -> tuple[Measured, float | None]:
    """The mean of independent measurements, and the probability of their chi2 around it."""
    known = [(it.value, it.error) for it in areas if it.value is not None and it.error]
    if len(known) < 2:
        return Measured(None, None), None
    values, errors = np.array(known).T
    weights = errors**-2
    mean = (values * weights).sum() / weights.sum()
    chi2 = float((((values - mean) / errors) ** 2).sum())
    return Measured(float(mean), float(weights.sum() ** -0.5)), float(chdtrc(len(known) - 1, chi2))
