"""How much the expected events, the separation and the discriminant change under the variations of weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ML_processing.evaluation.cuts import FitSignificance, ScoreFit
from ML_processing.evaluation.regions import BinnedOutput, binned_outputs
from ML_processing.evaluation.scored import OutOfFold
from ML_processing.evaluation.systematics.sums import VariedSums, varied_sums
from ML_processing.events.data import Table
from ML_processing.metrics.measured import MERGED, Floats, bin_of
from ML_processing.metrics.significance import asimov
from ML_processing.training.data import TrainingFiles
from MLTools.NanoML.contracts.hdf5 import ConvertedDataset, ConvertedWeight
from MLTools.NanoML.nanoaod.accounting import add_weight_sums
from MLTools.NanoML.nanoaod.fileaccounting import combined

NOMINAL = "weight"
"""The column with the weights that are not varied."""

_MOST_BINS = 1 << 11  # of the discriminant: so fine that its AUC is that of the events
_DRAWN = 3  # sources


@dataclass(frozen=True)
class Source:
    """One source of uncertainty of a weight, as a nuisance parameter has it."""

    name: str
    weight: str
    columns: tuple[str, ...]  # with the weights of events under its variations
    combine: str = ""  # how; if empty, they are up and down, or one that has no opposite

    def ends(self, values: Floats, columns: Sequence[str]) -> tuple[Floats, Floats | None]:
        """A quantity up and down, from its values (columns, ...) under each variation."""
        nominal, found = values[columns.index(NOMINAL)], values[[columns.index(column) for column in self.columns]]
        if self.combine:
            up, down = combined(self.combine, nominal, found)
            return up, down
        return found[0], found[1] if len(found) > 1 else None


def sources_of(weights: Sequence[ConvertedWeight]) -> list[Source]:
    """All sources: variations that are combined are one; others that end with _up and _down, or are named so, are a pair."""
    return [source for weight in weights if weight.variations for source in _of_weight(weight)]


def _of_weight(weight: ConvertedWeight) -> Iterator[Source]:
    if weight.combine:
        yield Source(weight.name, weight.name, tuple(weight.variations.values()), weight.combine)
        return
    pairs: dict[str, dict[str, str]] = {}
    for variation, column in weight.variations.items():
        name, _, direction = variation.rpartition("_")
        if direction not in ("up", "down"):
            name, direction = variation, "up"
        pairs.setdefault(name, {})[direction] = column
    for name, pair in pairs.items():
        columns = [pair[direction] for direction in ("up", "down") if direction in pair]
        yield Source(f"{weight.name}_{name}" if name else weight.name, weight.name, tuple(columns))


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
    """What a source of uncertainty changes."""

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


@dataclass(frozen=True)
class Variations:
    """Changes under all variations of weights, the largest first."""

    sources: list[Variation]
    regions: dict[str, list[VariedYields]]
    means: list[WeightMean]  # for each weight that may change the yield, that furthest from one


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


@dataclass(frozen=True)
class VariedDiscriminant:
    """The discriminant by class under the largest variations."""

    label: str
    edges: Floats
    classes: list[VariedShape]
    events: int


def variations(
    data: TrainingFiles,
    table: Table,
    tested: OutOfFold,
    rows: NDArray[np.int64],
    cut: float | None,
    fitted: ScoreFit | None,
) -> tuple[Variations | None, VariedDiscriminant | None, FitSignificance | None]:
    """What the variations of weights change, a picture of it, and the significance of a fit with them; None if there are none.

    `table` and `rows` are those of `varied_sums`; the events of these rows are `tested`. `cut` is the best cut on the
    score, `fitted` a fit to it.
    """
    sources, training = sources_of(data.columns.weights), tested.training
    if not sources:
        return None, None, None if fitted is None else fitted.significance
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
    sums = varied_sums(data, columns, table, rows, bin_of(values, edges), len(edges) - 1)
    found = _ordered(sources, sums, tested, edges[:-1], cut)
    names = [it.of.name for it in found[:_DRAWN]]
    drawn = [source for name in names for source in sources if source.name == name]
    regions = {
        name: sorted(_yields(sources, columns, yields, table.classes), key=lambda it: -it.size)
        for name, yields in sums.regions.items()
    }
    picture = None if shown is None else _picture(drawn, sums, shown, edges[:-1], len(tested.table))
    fit = None
    if fitted is not None:
        shifts = _shifts(sources, sums, edges[:-1], fitted, training.signal)
        fit = fitted.varied([it.name for it in sources], shifts)
    return Variations(found, regions, list(_means(data.columns.datasets))), picture, fit


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
