"""How much the expected events, the separation and the discriminant change under the variations of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ML_processing.evaluation.content import Evaluation, Part, section
from ML_processing.evaluation.expected import BinnedOutput, VariedSums, binned_outputs, varied_sums
from ML_processing.evaluation.measurement import Measurement
from ML_processing.evaluation.scored import OutOfFold
from ML_processing.evaluation.sections.significance import FitSignificance, ScoreFit, best_cut, score_fit
from ML_processing.events.columns import NOMINAL, Source, sources_of
from ML_processing.metrics.measured import MERGED, Floats, bin_of, per_cent
from ML_processing.metrics.significance import asimov
from MLTools.NanoML.contracts.hdf5 import ConvertedDataset
from MLTools.NanoML.nanoaod.accounting import add_weight_sums
from MLTools.NanoML.report.figures import line, note_in, panels, shorten
from MLTools.NanoML.report.page import Answer, state_of, table, worst_of
from MLTools.NanoML.report.section import Caption, Style
from MLTools.NanoML.report.stack import Bins, Ratio, show_varied, up_and_down

_MOST_BINS = 1 << 11  # of the discriminant: so fine that its AUC is that of the events
_DRAWN = 3  # sources
_LISTED = 20  # variations in the table
_YIELD = (0.1, 0.3)  # relative change of the expected events of a class
_AREA = (0.01, 0.05)  # relative change of the AUC
_ONE_SIDED = 0.005  # change of the expected events to the same side by both
_MEAN = (0.2, 0.5)  # distance of the mean of a weight from one


@dataclass(frozen=True)
class Change:
    """Relative change of a quantity, 0.01 for 1 %; None where there is none, or nothing to compare with."""

    up: float | None
    down: float | None

    @property
    def size(self) -> float:
        """The larger one, without its sign."""
        return max(abs(self.up or 0.0), abs(self.down or 0.0))

    @property
    def same_side(self) -> float:
        """By how much both go to the same side at least; 0 if they do not."""
        up, down = self.up or 0.0, self.down or 0.0
        return min(abs(up), abs(down)) if up * down > 0 else 0.0


@dataclass(frozen=True)
class VariedYields:
    """How much the expected events of each class change."""

    name: str  # of the source of uncertainty
    yields: dict[str, Change]

    @property
    def size(self) -> float:
        """The largest change."""
        return max(change.size for change in self.yields.values())


@dataclass(frozen=True)
class Variation:
    """The changes by a source of uncertainty."""

    of: VariedYields = field(metadata=MERGED)
    auc: Change | None  # None for a regression
    significance: Change | None  # behind the best cut; None if there is none

    @property
    def size(self) -> float:
        """The largest change."""
        return max(self.of.size, *(it.size for it in (self.auc, self.significance) if it is not None), 0.0)


@dataclass(frozen=True)
class WeightMean:
    """Mean of a weight where the selection gives it, before it is normalised, or under one of its variations."""

    weight: str
    variation: str
    dataset: str
    mean: float


@section("variations", place="last", after="correlations", asked_after="sculpting")
@dataclass(frozen=True)
class Variations(Part):
    """Changes under all variations of weights, the largest first."""

    sources: list[Variation]
    regions: dict[str, list[VariedYields]]
    means: list[WeightMean]  # for each weight that may change the yield, that furthest from one

    @classmethod
    def compute(cls, of: Measurement) -> Variations | None:
        """None if no weight has any."""
        return of.once(varied).changes

    def answer(self, page: Evaluation) -> Answer | None:
        """By the largest changes, if there are variations."""
        worries: list[tuple[str, str]] = []
        yields = [(it.of.name, name, change) for it in self.sources for name, change in it.of.yields.items()]
        if all(change.up is None and change.down is None for _, _, change in yields):
            text = "Nothing was tested: no class has a positive sum of weights that could change."
            return Answer("Stable under the variations of weights?", "open", text)
        source, name, change = max(yields, key=lambda it: it[2].size)
        text = f"Largest change of the expected events: {source}, {_percentages(change)} of {name}"
        worries.append(
            (state_of(change.size, _YIELD), "Such an uncertainty on the number of events may well limit the analysis.")
        )
        areas = [(it.of.name, it.auc) for it in self.sources if it.auc is not None]
        if areas:
            source, change = max(areas, key=lambda it: it[1].size)
            text += f"; of the AUC: {source}, {_percentages(change)}"
            worries.append(
                (state_of(change.size, _AREA), "The separation depends on a weight: look at the shapes below.")
            )
        sided = dict.fromkeys(source for source, _, change in yields if change.same_side > _ONE_SIDED)
        if sided:
            sentence = f"Up and down change the events of a class to the same side: {', '.join(sided)}. Fits expect opposite sides."
            worries.append(("look", sentence))
        for it in self.means:
            sentence = (
                f"The weight {it.weight} ({it.variation}) has the mean {it.mean:.3g} in {it.dataset} and is not normalised: "
                "if it must not change the number of events, declare it with keeps_yield."
            )
            worries.append((state_of(abs(it.mean - 1), _MEAN), sentence))
        state = worst_of(*(state for state, _ in worries))
        sentences = [f"{text}.", *(sentence for each, sentence in worries if each != "good")]
        return Answer("Stable under the variations of weights?", state, " ".join(sentences))


@dataclass(frozen=True)
class VariedRatio:
    """Ratio to nominal in bins."""

    name: str  # of the source of uncertainty
    up: Floats
    down: Floats | None


@dataclass(frozen=True)
class VariedShape:
    """The events of a class in bins of the discriminant: statistical error over nominal, and ratios to nominal."""

    name: str
    error: Floats
    sources: list[VariedRatio]

    def show(self, edges: Floats, label: str, axes: Axes, style: Style) -> None:
        """Fill a panel: up and down, with room for the name of the class."""
        of, ratios = len(self.sources), list[Ratio]()
        for i, it in enumerate(self.sources):
            ratios += up_and_down(it.name, it.up, it.down, line(i, of)["color"])
        show_varied(axes, Bins(edges), style.axis(label), ratios, self.error, room=1.4)
        note_in(axes, shorten(style.name(self.name), 30))


@section("variations", after="correlations", asked_after="sculpting")
@dataclass(frozen=True)
class VariedDiscriminant(Part):
    """The discriminant by class under the largest variations."""

    caption = Caption(
        "Systematic variations",
        "What the largest variations of weights do to the shape of the score, for each class: events with a varied weight over "
        "those with the nominal one. Grey is the statistical error of the nominal events.",
        "A variation that bends the shape where the signal is; or up and down on the same side of one.",
    )

    label: str
    edges: Floats
    classes: list[VariedShape]
    events: int

    @classmethod
    def compute(cls, of: Measurement) -> VariedDiscriminant | None:
        """None if no weight has variations."""
        return of.once(varied).picture

    def draw(self, style: Style) -> Figure | None:
        """Ratio to nominal in bins of the discriminant, up and down, one panel for each class."""
        shows = [partial(it.show, self.edges, self.label) for it in self.classes]
        return panels(style, shows, f"{self.events:,} events", 3, (5.4, 4.0), 2)

    def tables(self, page: Evaluation) -> str:
        """Changes under each variation, the largest first."""
        found = page.of(Variations)
        every = found.sources if found else []
        if not every:
            return ""
        beside = {"AUC": every[0].auc, "significance": every[0].significance}  # of all sources or of none
        head = [
            "variation: up / down [%]",
            *every[0].of.yields,
            *(name for name, it in beside.items() if it is not None),
        ]
        quantities = [[*it.of.yields.values(), *filter(None, (it.auc, it.significance))] for it in every]
        rows = [
            [it.of.name, *(per_cent(change.up, change.down) for change in changes)]
            for it, changes in zip(every[:_LISTED], quantities, strict=False)
        ]
        rest = quantities[_LISTED:]
        if rest:
            rows.append([f"{len(rest)} more, in quadrature", *map(_in_quadrature, zip(*rest, strict=True))])
        text = (
            "Relative change of the expected events of each class, of the AUC, and of the expected significance behind the best cut, "
            "with the networks as they are. A dataset that lacks a weight keeps its nominal one."
        )
        return table(head, rows) + f"<p>{text}</p>"


@dataclass(frozen=True)
class Varied:
    """The changes by the variations of weights, a picture of them, and the significance of a fit with them; None if there are none."""

    changes: Variations | None
    picture: VariedDiscriminant | None
    fit: FitSignificance | None


def varied(of: Measurement) -> Varied:
    """Add up the weights under each variation, once for all."""
    data, tested, cut, fitted = of.data, of.tested, best_cut(of), of.once(score_fit)
    sources, training = sources_of(data.columns.weights), tested.training
    if not sources:
        return Varied(None, None, None if fitted is None else fitted.significance)
    columns = [NOMINAL, *(column for source in sources for column in source.columns)]
    values = (tested.scores[:, 0] if training.targets else training.discriminant.values(tested.scores)).astype(
        np.float64
    )
    panels = binned_outputs(tested)
    shown = panels[0] if len(panels) >= max(len(training.targets), 1) else None
    more = [
        *(shown.edges if shown else ()),
        *([] if cut is None else [cut]),
        *(fitted.bins.edges[:-1] if fitted else ()),
    ]
    edges = _fine(values, more)
    sums = varied_sums(data, columns, of.table, of.rows, bin_of(values, edges), len(edges) - 1)
    found = _ordered(sources, sums, tested, edges[:-1], cut)
    names = [it.of.name for it in found[:_DRAWN]]
    drawn = [source for name in names for source in sources if source.name == name]
    regions = {
        name: sorted(_yields(sources, columns, yields, of.table.classes), key=lambda it: -it.size)
        for name, yields in sums.regions.items()
    }
    picture = None if shown is None else _picture(drawn, sums, shown, edges[:-1], len(tested.table))
    fit = None
    if fitted is not None:
        shifts = _shifts(sources, sums, edges[:-1], fitted, training.signal)
        fit = fitted.varied([it.name for it in sources], shifts)
    return Varied(Variations(found, regions, list(_means(data.columns.datasets))), picture, fit)


def _fine(values: Floats, more: Sequence[float]) -> Floats:
    """Edges of bins, with one for each different value if that is possible, and all of `more`."""
    known = np.unique(values[np.isfinite(values)])
    if len(known) > _MOST_BINS:
        known = np.unique(np.quantile(values, np.linspace(0, 1, _MOST_BINS), method="lower"))
    return np.append(np.unique(np.append(known, more)), np.inf)


def _ordered(
    sources: Sequence[Source], sums: VariedSums, tested: OutOfFold, starts: Floats, cut: float | None
) -> list[Variation]:
    training = tested.training
    area = expected = None
    if not training.targets:
        signal = sums.bins[:, training.signal]
        background = sums.bins[:, training.discriminant.backgrounds].sum(axis=1)
        area = _areas(signal, background)
        if cut is not None:
            expected = _significance(sums, starts >= cut, training.signal)
    found = [
        Variation(
            yields,
            None if area is None else _change(source, area, sums.columns),
            None if expected is None else _change(source, expected, sums.columns),
        )
        for source, yields in zip(
            sources, _yields(sources, sums.columns, sums.yields, tested.table.classes), strict=True
        )
    ]
    return sorted(found, key=lambda it: -it.size)


def _areas(signal: Floats, background: Floats) -> Floats:
    """AUC under each variation, from sums of weights (columns, bins); NaN if it is not defined."""
    below = np.cumsum(background, axis=1) - background / 2
    total = signal.sum(axis=1) * background.sum(axis=1)
    defined = (signal.sum(axis=1) > 0) & (background.sum(axis=1) > 0)
    area: Floats = np.divide((signal * below).sum(axis=1), total, out=np.full(len(total), np.nan), where=defined)
    return area


def _significance(sums: VariedSums, passed: NDArray[np.bool_], signal: int) -> Floats:
    """Expected significance behind a cut under each variation, of all events, tested or not."""
    behind = sums.bins[:, :, passed].sum(axis=2) * _scale(sums)
    return asimov(behind[:, signal], behind.sum(axis=1) - behind[:, signal])


def _shifts(sources: Sequence[Source], sums: VariedSums, starts: Floats, fitted: ScoreFit, signal: int) -> Floats:
    """How much each source changes the background of a fit, half of the way from down to up, (sources, bins)."""
    place = bin_of(starts, fitted.bins.edges)
    scaled = sums.bins * _scale(sums)[..., None]
    bins = np.stack([scaled[..., place == i].sum(axis=2) for i in range(len(fitted.bins.signal))], axis=2)
    background = np.delete(bins, signal, axis=1)
    nominal, found = background[sums.columns.index(NOMINAL)], []
    for source in sources:
        up, down = source.ends(background, sums.columns)
        found.append((up - nominal if down is None else (up - down) / 2).sum(axis=0))
    return np.array(found)


def _scale(sums: VariedSums) -> Floats:
    """For each variation and class, all events for each one that is tested, (columns, classes)."""
    tested = sums.bins.sum(axis=2)
    return np.divide(sums.yields, tested, out=np.ones_like(tested), where=tested != 0)


def _yields(
    sources: Sequence[Source], columns: Sequence[str], yields: Floats, classes: Sequence[str]
) -> list[VariedYields]:
    return [
        VariedYields(
            source.name, {name: _change(source, yields[:, i], columns) for i, name in enumerate(classes)}
        )
        for source in sources
    ]  # fmt: skip


def _change(source: Source, values: Floats, columns: Sequence[str]) -> Change:
    """The relative change of a quantity with these values under each variation, (columns,)."""
    nominal = values[columns.index(NOMINAL)]

    def relative(value: Floats | None) -> float | None:
        ratio = math.nan if value is None or not nominal > 0 else float(value / nominal)
        return ratio - 1 if math.isfinite(ratio) else None

    up, down = source.ends(values, columns)
    return Change(relative(up), relative(down))


def _picture(
    sources: Sequence[Source], sums: VariedSums, shown: BinnedOutput, starts: Floats, events: int
) -> VariedDiscriminant:
    edges = shown.edges
    place = bin_of(starts, edges)
    coarse = np.stack([sums.bins[..., place == i].sum(axis=2) for i in range(len(edges) - 1)], axis=2)
    classes = []
    for number, it in enumerate(shown.classes):
        mine = coarse[:, number]
        nominal = mine[sums.columns.index(NOMINAL)]

        def ratio(values: Floats, nominal: Floats = nominal) -> Floats:
            return np.divide(values, nominal, out=np.full(len(nominal), np.nan), where=nominal > 0)

        ratios = []
        for source in sources:
            up, down = source.ends(mine, sums.columns)
            ratios.append(VariedRatio(source.name, ratio(up), None if down is None else ratio(down)))
        classes.append(VariedShape(it.name, ratio(it.bins.errors), ratios))
    return VariedDiscriminant(shown.label, edges, classes, events)


def _means(datasets: Sequence[ConvertedDataset]) -> Iterator[WeightMean]:
    """For each weight that does not keep the yield its mean furthest from one."""
    found: dict[str, list[WeightMean]] = {}
    for dataset in datasets:
        for sums in add_weight_sums(file.weights for file in dataset.accounting.files):
            if not sums.keeps_yield:
                means = [
                    WeightMean(sums.weight, variation, dataset.name, mean) for variation, mean in sums.means.items()
                ]
                found.setdefault(sums.weight, []).extend(means)
    for means in found.values():
        if means:
            yield max(means, key=lambda it: abs(it.mean - 1))


def _in_quadrature(changes: Iterable[Change]) -> str:
    return per_cent(math.hypot(*(change.size for change in changes))).replace("+", "± ")


def _percentages(change: Change) -> str:
    return per_cent(change.up, change.down, unit=" %")
