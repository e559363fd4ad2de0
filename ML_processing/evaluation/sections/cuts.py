"""The effects of cuts on the score: their efficiency against features, and the masses behind them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ML_processing.evaluation.content import Evaluation, Part, finding, section
from ML_processing.evaluation.measurement import Measurement
from ML_processing.evaluation.scored import ClassHistogram, OutOfFold, Scored, label, spectators
from ML_processing.evaluation.sections.classification import separated
from ML_processing.evaluation.sections.importance import Importance
from ML_processing.evaluation.sections.significance import best_cut
from ML_processing.metrics.distances import Sculpting, jensen_shannon, sculpting
from ML_processing.metrics.measured import (
    MERGED,
    Floats,
    Histogram,
    bin_of,
    efficiency,
    even_edges,
    histogram,
    quantile_edges,
)
from MLTools.NanoML.report.figures import finish_panel, marker, middles, note_in, of_all, panels, shorten, without_tails
from MLTools.NanoML.report.page import Answer
from MLTools.NanoML.report.section import GREY, UNKNOWN, Caption, Style

_MOST_FEATURES, _MOST_MASSES = 12, 3
_BINS, _MASS_BINS = 8, 20
_KEPT = (0.5, 0.1)  # of the background, by cuts whose shapes are compared
_LOOSE = 0.1  # share of the background behind the cut if no significance suggests a better one
_SHAPE = 0.02  # a Jensen-Shannon divergence that can be seen by eye, in bits
_EXCESS = 5  # standard deviations beyond chance


@dataclass(frozen=True)
class FeatureEfficiency:
    """Efficiency of a cut for each class in bins of a feature."""

    name: str
    label: str
    edges: Floats
    classes: list[ClassHistogram]

    def show(self, axes: Axes, style: Style) -> None:
        """Fill a panel."""
        edges, highest = without_tails(self.edges), 0.0
        for i, it in enumerate(self.classes):
            values, errors, look = it.bins.values, it.bins.errors, style.marker(it.name, 5)
            places = middles(edges, i, len(self.classes), 0.125)
            axes.errorbar(places, values, errors, elinewidth=1.2, label=style.name(it.name), **look)
            axes.stairs(values, edges, color=look["color"], lw=0.8, alpha=0.6)
            highest = max(highest, float(np.nanmax(np.append(values + errors, 0))))
        # weights of both signs, or of very different size, have errors beyond it
        highest = min(max(highest, 0.05), 1.2)
        axes.set_ylim(-0.03 * highest, 1.1 * highest)
        finish_panel(axes, edges, style.axis(self.name, self.label), "Efficiency")


@section("efficiency", only="classification", after="significance")
@dataclass(frozen=True)
class Efficiency(Part):
    """Efficiency of a cut for each class in bins of the most important of some `columns`."""

    caption = Caption(
        "Efficiency of the cut against the features",
        "How much of each class passes the best cut (or else one that keeps 10 % of the background), in bins with "
        "about the same number of events each; the outermost bins are drawn shortened. Of many features, the most important ones.",
        "Signal that passes only in a corner of a feature (the network would miss other signals), or background that "
        "passes only in one (there it would look like a signal).",
    )

    score_at_least: float
    features: list[FeatureEfficiency]
    columns: int
    events: int

    @classmethod
    def compute(cls, of: Measurement) -> Efficiency | None:
        """In bins of the features with about the same number of events each."""
        best, scored, table = best_cut(of), of.some, of.part.table
        cut = best if best is not None else scored.cut_at(_LOOSE)
        if cut is None:
            return None
        passed, features, columns = scored.score >= cut, [], spectators(table)
        names = list(columns)
        for name in (names[i] for i in of.once(Importance.compute).leading(names, _MOST_FEATURES)):
            values = columns[name]
            edges = quantile_edges(values, _BINS)
            if not edges.size:
                continue
            known, index, classes = np.isfinite(values), bin_of(values, edges), []
            for i, class_ in enumerate(table.classes):
                mine = known & (scored.labels == i)
                bins = [mine & (index == number) for number in range(len(edges) - 1)]
                found = [efficiency(passed[inside], scored.weights[inside]) for inside in bins]
                kept, errors = (
                    np.array(each, np.float64) for each in zip(*((it.value, it.error) for it in found), strict=True)
                )
                classes.append(ClassHistogram(class_, Histogram(kept, errors)))
            features.append(FeatureEfficiency(name, label(table, name), edges, classes))
        return cls(cut, features, len(names), len(scored))

    def draw(self, style: Style) -> Figure | None:
        """Efficiency by class against each feature."""
        some = of_all(len(self.features), self.columns, "columns")
        right = f"{self.events:,} events, score ≥ {self.score_at_least:.3f}{some}"
        return panels(style, [it.show for it in self.features], right)


def is_mass(name: str) -> bool:
    """Whether a column is a mass by its name: ..._mass, ..._mT, m_..., invMass and the like."""
    return bool(re.search(r"mass|Mass|(^|_)(m[TtZW]?|mjj|mll)(_|$)|mT(?![a-z])", name))


@dataclass(frozen=True)
class Cut:
    """A cut whose shapes are compared."""

    score_at_least: float
    background_efficiency: float | None


@dataclass(frozen=True)
class ShapeAfterCut:
    """Shape of a mass in the events that pass a cut."""

    bins: Histogram = field(metadata=MERGED)
    events: int
    sculpting: Sculpting = field(metadata=MERGED)


@dataclass(frozen=True)
class SculptedMass:
    """Shapes of a mass for one background, before and after the cuts."""

    feature: str
    label: str
    background: str
    edges: Floats
    before: Histogram
    after: list[ShapeAfterCut]

    @property
    def tests(self) -> list[Sculpting]:
        """Those of the cuts that enough events pass and fail."""
        return [it.sculpting for it in self.after if it.sculpting.standard_deviations is not None]

    @property
    def is_sensitive(self) -> bool:
        """Whether these events are enough for a change of the shape to be seen."""
        return any(it.excess / it.standard_deviations <= _SHAPE for it in self.tests if it.standard_deviations)

    def show(self, cuts: Sequence[Cut], axes: Axes, style: Style) -> None:
        """Fill a panel: all events, and those behind each of the `cuts`."""
        before, highest = self.before.values, 0.0
        axes.stairs(before, self.edges, fill=True, color=GREY, label="All")
        axes.stairs(before, self.edges, color=UNKNOWN, lw=1)
        for i, (cut, it) in enumerate(zip(cuts, self.after, strict=True)):
            kept = 100 * (cut.background_efficiency or 0)
            label = f"Score ≥ {cut.score_at_least:.3f} (keeps {kept:.3g} % of the background)"
            errors, few = it.bins.errors, it.sculpting.jensen_shannon is None
            # no point without an event, no shape of a few
            values = np.where((errors == 0) | few, np.nan, it.bins.values)
            places = middles(self.edges, i, len(cuts))
            axes.errorbar(places, values, errors, elinewidth=1, label=label, **marker(i, len(cuts), 4))
            highest = max(highest, float(np.nanmax(np.append(values + errors, 0))))
        axes.set_ylim(0, max(before.max(), highest) * 1.35 or 1)
        divergences = (it.sculpting.jensen_shannon for it in self.after)
        found = ", ".join("-" if it is None else f"{it:.3f}" for it in divergences)
        note_in(axes, f"{shorten(style.name(self.background), 18)}\nJSD {found}")
        finish_panel(axes, self.edges, style.axis(self.feature, self.label))


@section("sculpting", only="classification", after="efficiency", asked_after="calibration")
@dataclass(frozen=True)
class SculptedMasses(Part):
    """Shapes of masses for each background, before and after cuts: of those that change most if there are more `masses`."""

    caption = Caption(
        "Mass sculpting",
        "Shape of masses for each background: all events (grey) and those that pass cuts on the score. JSD is the "
        "Jensen-Shannon divergence between events that pass and those that fail, in bits, in the order of the cuts: 0 "
        "for the same shape, 1 for no overlap. Of many masses, those that change most.",
        "A background that peaks where the signal would be. That is natural for a network that knows the mass; it "
        "matters where the background is estimated from the mass's sidebands.",
    )
    unmeasured = (
        "Does a cut sculpt the mass?",
        "Nothing was tested: no input has the name of a mass, or there is no cut.",
    )

    cuts: list[Cut]
    panels: list[SculptedMass]
    masses: int
    events: int
    is_decorrelated: bool = False  # whether the training was to keep the shape

    @classmethod
    def compute(cls, of: Measurement) -> SculptedMasses | None:
        """Measure how cuts sculpt the column that the training was decorrelated from, or else all masses."""
        decorrelate = of.training.description.config.decorrelate
        return cls.behind_cuts(of.part, of.some, decorrelate.column if decorrelate else None, best_cut(of))

    @classmethod
    def behind_cuts(
        cls, tested: OutOfFold, scored: Scored, column: str | None, cut: float | None
    ) -> SculptedMasses | None:
        """Measure it for a column, or else for all masses among the features but the parameter, which background events have at random.

        The cuts keep 50 % and 10 % of the background; `cut` is one more. None if there is no mass, or no cut.
        """
        columns, chosen, panels = spectators(tested.table), _cuts(scored, cut), []
        parameter = tested.training.parameter
        others = [name for name in columns if parameter is None or name != parameter.column]
        masses = [column] if column is not None else [name for name in others if is_mass(name)]
        binned = {name: even_edges(columns[name][~scored.truth], _MASS_BINS) for name in masses if chosen}
        change = {name: _change(columns[name], edges, scored, chosen) for name, edges in binned.items() if edges.size}
        most = sorted(change, key=lambda name: -change[name])[:_MOST_MASSES]
        for name in (name for name in change if name in most):
            values, edges = columns[name], binned[name]
            title = label(tested.table, name)
            for i in scored.backgrounds:
                mine = scored.labels == i
                x, score, weights = values[mine], scored.score[mine], scored.weights[mine]
                after = [_after(x, score >= it.score_at_least, weights, edges, tested.seed) for it in chosen]
                before = histogram(x, weights, edges)
                panels.append(SculptedMass(name, title, tested.table.classes[i], edges, before, after))
        return cls(chosen, panels, len(change), len(scored), column is not None) if panels else None

    def draw(self, style: Style) -> Figure | None:
        """Shape of each mass for each background, before and after cuts on the score."""
        shows = [partial(it.show, self.cuts) for it in self.panels]
        # one column for each background, if that leaves a few
        columns = min(len({it.background for it in self.panels}), 4) if len(shows) > 3 else len(shows)
        some = of_all(len({it.feature for it in self.panels}), self.masses, "masses")
        return panels(style, shows, f"{self.events:,} events{some}", columns, (4.6, 3.6), 1)

    def answer(self, page: Evaluation) -> Answer | None:
        """By the mass that changes most."""
        if not separated(page):
            return None
        question = self.unmeasured[0]
        tested = [(panel, it) for panel in self.panels for it in panel.tests]
        if not tested:
            return Answer(question, "open", "Nothing was tested: too few events pass the cuts.")
        significant = [each for each in tested if (each[1].standard_deviations or 0) > _EXCESS]
        panel, most = max(significant or tested, key=lambda it: it[1].excess)
        relevant = most.excess > _SHAPE
        remark = finding(bool(significant), relevant, f"{_EXCESS} standard deviations", f"{_SHAPE} beyond chance")
        text = (
            f"Most of all {panel.feature} of {panel.background}: Jensen-Shannon divergence {most.jensen_shannon:.3f} between "
            f"events that pass and those that fail, where chance gives {most.by_chance:.3f}. That is {remark}."
        )
        if significant and relevant:
            if self.is_decorrelated:
                return Answer(question, "look", f"{text} A larger train.decorrelate.strength keeps more of the shape.")
            text += (
                " That is natural for a network that knows the mass. If the background is taken from that mass's sidebands, leave the mass "
                "out, or name it in train.decorrelate."
            )
            return Answer(question, "good", text)
        if relevant:
            return Answer(question, "open", f"{text} More events are needed to tell.")
        untested = [f"{it.feature} of {it.background}" for it in self.panels if not it.is_sensitive]
        if untested:
            return Answer(question, "open", f"{text} Too few events pass the cuts to tell for {', '.join(untested)}.")
        return Answer(question, "good", text)


def _change(values: NDArray[np.generic], edges: Floats, scored: Scored, cuts: Sequence[Cut]) -> float:
    """By how much the cuts change the shape of a mass for any background, at most: a divergence."""
    found = []
    for i in scored.backgrounds:
        mine = np.isfinite(values) & (scored.labels == i)
        place, weights, score = bin_of(values[mine], edges), scored.weights[mine], scored.score[mine]
        for it in cuts:
            passed = score >= it.score_at_least
            parts = (np.bincount(place[part], weights[part], len(edges) - 1) for part in (passed, ~passed))
            found.append(jensen_shannon(*parts) or 0.0)
    return max(found)


def _cuts(scored: Scored, best: float | None) -> list[Cut]:
    values = {at for at in (*map(scored.cut_at, _KEPT), best) if at is not None}
    score, weights = scored.score[~scored.truth], scored.weights[~scored.truth]
    return [Cut(at, efficiency(score >= at, weights).value) for at in sorted(values)]


def _after(
    values: NDArray[np.generic], passed: NDArray[np.bool_], weights: NDArray[np.generic], edges: Floats, seed: int
) -> ShapeAfterCut:
    found = sculpting(values, passed, weights, edges, seed)
    return ShapeAfterCut(histogram(values[passed], weights[passed], edges), int(passed.sum()), found)
