"""Expected events on top of each other, data as points, and the ratio of the two; and all of their numbers, as HEPData has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincinv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from MLTools.NanoML.report.section import Style

_CENTRAL = 0.6827  # coverage of one standard deviation
_NARROWEST = 0.004  # of the axis: about a line of a figure
_BAND = "#d0d0d6"  # of errors around one
_MOST_OUTSIDE = 0.25  # share of the points of a ratio beyond its axis
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Observed:
    """Counted events in bins, and the ends of the central intervals of their Poisson means; float64 of shape (bins,), NaN if blind."""

    values: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, counts: ArrayLike, coverage: float = _CENTRAL) -> Observed:
        """With the intervals of F. Garwood, Biometrika 28 (1936) 437: quantiles of the gamma distribution."""
        n, tail = np.asarray(counts, np.float64), (1 - coverage) / 2
        low = np.where(n > 0, gammaincinv(np.maximum(n, 1.0), tail), 0.0 * n)
        return cls(n, low, gammaincinv(n + 1, 1 - tail))

    @property
    def blind(self) -> NDArray[np.bool_]:
        """Which bins must not be looked at."""
        return np.isnan(self.values)


@dataclass(frozen=True)
class Bins:
    """The bins of an axis, and how they are drawn.

    Bins of unequal width are divided by their width if the axis has a unit. If it has none, as a score, or if a bin would be too narrow to
    be seen, all are drawn with the same width: numbered, or, in the small plots of a page, with their edges as labels.
    """

    edges: Floats
    unit: str = ""

    @property
    def widths(self) -> Floats:
        """The widths of the bins, float64 of shape (bins,)."""
        return np.diff(self.edges)

    @property
    def is_even(self) -> bool:
        """Whether all have the same width."""
        return bool(np.ptp(self.widths) <= 1e-6 * self.widths.max())

    @property
    def by_number(self) -> bool:
        """Whether all are drawn with the same width, though they differ."""
        return not self.is_even and (not self.unit or bool(self.widths.min() < _NARROWEST * np.ptp(self.edges)))

    @property
    def drawn(self) -> Floats:
        """Where the edges are drawn."""
        return np.arange(len(self.edges), dtype=np.float64) if self.by_number else self.edges

    @property
    def centers(self) -> Floats:
        """Where the middles of the bins are drawn, float64 of shape (bins,)."""
        return (self.drawn[1:] + self.drawn[:-1]) / 2

    @property
    def divisor(self) -> Floats:
        """The divisors of the events of each bin, float64 of shape (bins,)."""
        return np.ones(len(self.widths)) if self.is_even or self.by_number else self.widths

    @property
    def each(self) -> str:
        """The unit that events are counted for: "5 GeV", "GeV" if they are divided by the width, or "bin"."""
        if not self.is_even:
            return "bin" if self.by_number else self.unit
        text = f"{self.widths[0]:.3g} {self.unit}".strip()
        return "bin" if text == "1" else text

    @property
    def said(self) -> str:
        """What is to be said beside a figure in which they are numbered."""
        return f"The edges of the bins are {', '.join(f'{it:.4g}' for it in self.edges)}." if self.by_number else ""

    def named(self, axis: str) -> str:
        """The title of an axis on which they are numbered, if they are."""
        return f"Bin of the {axis}" if self.by_number else axis

    def label(self, axes: Axes) -> None:
        """Set the limits of the x axis, and write the numbers or edges of bins there that are drawn with the same width."""
        axes.set_xlim(self.drawn[0], self.drawn[-1])
        if self.by_number and axes.figure.get_layout_engine() is None:
            step = 1 + len(self.centers) // 20
            axes.set_xticks(self.centers[::step], [*map(str, range(1, len(self.edges), step))])
            axes.set_xticks(self.drawn, minor=True)
            axes.tick_params(axis="x", length=0)
        elif self.by_number:
            axes.set_xticks(range(len(self.edges)), [f"{it:.4g}" for it in self.edges])
            axes.tick_params(axis="x", labelrotation=90, labelsize=11)
            axes.minorticks_off()


@dataclass(frozen=True)
class Drawn:
    """The events of a process in each bin, float64 of shape (bins,), its name and its colour; and the error of a line with one."""

    name: str
    events: Floats
    color: str
    error: Optional[Floats] = None


@dataclass(frozen=True)
class Stack:
    """Expected and counted events in bins.

    Attributes
    ----------
    bins
        The bins.
    processes
        What is expected, from the bottom to the top.
    error, contains
        Error of the sum of the processes, float64 of shape (bins,), and which errors that are.
    line
        A process that is drawn as a line, and is not in the sum.
    data
        What was counted.
    prefit
        The sum of the processes before the fit, if these are fitted.
    what
        What the bins have.
    """

    bins: Bins
    processes: Sequence[Drawn]
    error: Floats
    contains: str
    line: Optional[Drawn] = None
    data: Optional[Observed] = None
    prefit: Optional[Drawn] = None
    what: str = "Events"

    @property
    def expected(self) -> Floats:
        """The sum of the processes, float64 of shape (bins,)."""
        return sum((it.events for it in self.processes), np.zeros(len(self.bins.widths)))

    def numbers(self, axis: str, qualifiers: Mapping[str, str]) -> dict[str, Any]:
        """A table as HEPData has it: events in each bin, not divided by its width. Bins that are blind have no data."""
        drawn = [it for it in (*self.processes, self.line, self.prefit) if it is not None]
        found = [_variable(it.name, it.events, it.error) for it in drawn]
        found.append(_variable("Total", self.expected, self.error, self.contains))
        if self.data is not None:
            n = self.data.values
            found.append(_variable("Data", n, (self.data.low - n, self.data.high - n)))
        named = {**qualifiers, "drawn": f"{self.what} / {self.bins.each}"}.items()
        said = [{"name": name, "value": value} for name, value in named if value]
        ends = [{"low": float(low), "high": float(high)} for low, high in zip(self.bins.edges, self.bins.edges[1:])]
        header = {"name": axis, **({"units": self.bins.unit} if self.bins.unit else {})}
        return {
            "independent_variables": [{"header": header, "values": ends}],
            "dependent_variables": [{**each, "qualifiers": said} for each in found],
        }


def _variable(name: str, values: Floats, error: Any = None, what: str = "stat.") -> dict[str, Any]:
    """A dependent variable of HEPData: `error` is one array, or those of the ends below and above."""

    def error_of(at: int) -> dict[str, Any]:
        if not isinstance(error, tuple):
            return {"symerror": float(error[at]), "label": what}
        return {"asymerror": {"minus": float(error[0][at]), "plus": float(error[1][at])}, "label": what}

    cells = []
    for at, value in enumerate(values):
        is_blind = bool(np.isnan(value))
        errors = {} if error is None or is_blind else {"errors": [error_of(at)]}
        cells.append({"value": None if is_blind else float(value), **errors})
    return {"header": {"name": name}, "values": cells}


def draw_stack(axes: Axes, stack: Stack, logarithmic: bool = False, scale: float = 1.0, room: float = 0.0) -> None:
    """Draw everything into a plot; `scale` is the size of points and lines, and `room` the share that stays empty above."""
    edges, per, expected = stack.bins.drawn, stack.bins.divisor, stack.expected / stack.bins.divisor
    bottom: NDArray[Any] = np.zeros(len(per))
    for it in stack.processes:
        axes.stairs(bottom + it.events / per, edges, baseline=bottom, fill=True, color=it.color, label=it.name)
        bottom = bottom + it.events / per
    tops = [expected + stack.error / per]
    if stack.processes:
        axes.stairs(
            tops[0], edges, baseline=expected - stack.error / per, label=stack.contains, fill=True, facecolor="none",
            edgecolor="#4c4c4c", lw=0, hatch="////",
        )  # fmt: skip
    for curve, dashes in ((stack.prefit, "--"), (stack.line, "-")):
        if curve is not None:
            tops.append(curve.events / per)
            axes.stairs(tops[-1], edges, baseline=None, color=curve.color, lw=3 * scale, ls=dashes, label=curve.name)
    if stack.data is not None:
        n, low, high = (it / per for it in (stack.data.values, stack.data.low, stack.data.high))
        tops.append(high)
        style: dict[str, Any] = {"fmt": "o", "color": "black", "ms": 7 * scale, "elinewidth": 2 * scale}
        axes.errorbar(stack.bins.centers, n, [n - low, high - n], label="Data", **style)
        _cover(axes, edges, stack.data.blind)
    highest = max(*(float(np.nan_to_num(top).max()) for top in tops), 1e-9)
    if logarithmic:
        least = max(min(expected[expected > 0], default=highest / 10), highest * 1e-5) / 3
        # first, as there may be nothing to be scaled
        axes.set_ylim(least, 1.5 * highest * (highest / least) ** (room / (1 - room)))
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.05 * highest / (1 - room))
    stack.bins.label(axes)
    axes.set_ylabel(f"{stack.what} / {stack.bins.each}")


def _cover(axes: Axes, edges: Floats, blind: NDArray[np.bool_]) -> None:
    """Hatch the bins that are blind."""
    grey: dict[str, Any] = {"facecolor": (0.6, 0.6, 0.65, 0.35), "edgecolor": "#9c9ca1", "hatch": "xx", "lw": 0}
    for number, place in enumerate(np.flatnonzero(blind)):
        axes.axvspan(edges[place], edges[place + 1], label="Blind" if number == 0 else None, zorder=3, **grey)


def draw_ratio(axes: Axes, stack: Stack, scale: float = 1.0) -> None:
    """Draw data over what is expected, or the relative error of that alone; arrows are points that are outside."""
    expected, edges, known = stack.expected, stack.bins.drawn, stack.expected > 0
    safe = np.where(known, expected, np.nan)
    error = np.nan_to_num(stack.error / safe)
    axes.stairs(1 + error, edges, baseline=1 - error, fill=True, color=_BAND)
    axes.axhline(1, color="black", lw=scale)
    if stack.prefit is not None and stack.prefit.error is not None:
        before, wide = np.nan_to_num(stack.prefit.events / safe, nan=1), np.nan_to_num(stack.prefit.error / safe)
        axes.stairs(before + wide, edges, baseline=before - wide, fill=True, color=stack.prefit.color, alpha=0.25, lw=0)
        axes.stairs(before, edges, baseline=None, color=stack.prefit.color, lw=2 * scale, ls="--")
    stack.bins.label(axes)
    if stack.data is None:
        reach = min(0.9, max(0.1, 1.3 * float(error.max())))
        axes.set_ylim(1 - reach, 1 + reach)
        axes.set_ylabel("Ratio")
        return
    with np.errstate(divide="ignore", invalid="ignore"):  # what is seen where nothing is expected is far above
        ratio, low, high = (it / np.maximum(expected, 0) for it in (stack.data.values, stack.data.low, stack.data.high))
    drawn = known & np.isfinite(ratio)
    style: dict[str, Any] = {"fmt": "o", "color": "black", "ms": 6 * scale, "elinewidth": 2 * scale}
    errors = [ratio[drawn] - low[drawn], high[drawn] - ratio[drawn]]
    axes.errorbar(stack.bins.centers[drawn], ratio[drawn], errors, **style)
    _cover(axes, edges, stack.data.blind)
    bottom, top = 0.3, 1.7
    beyond = (high[drawn] < bottom) | (low[drawn] > top)
    if np.sum(beyond) > _MOST_OUTSIDE * drawn.sum():  # data are not what is expected at all
        bottom, top = 0.0, float(np.clip(1.2 * ratio[drawn].max(initial=top), top, 5))
    axes.set_ylim(bottom, top)
    margin = 0.06 * (top - bottom)
    for outside, marker, height in ((ratio > top, "^", top - margin), (ratio < bottom, "v", bottom + margin)):
        centers = stack.bins.centers[outside]
        axes.plot(centers, np.full(len(centers), height), marker, color="black", mfc="white", ms=9 * scale)
    axes.set_ylabel("Data / exp.")


@dataclass(frozen=True)
class Ratio:
    """What is varied over nominal in bins, float64 of shape (bins,), NaN where that is not defined; its name and the look of its line."""

    name: str
    values: Floats
    look: Mapping[str, Any]


def up_and_down(name: str, up: Floats, down: Optional[Floats], color: str) -> list[Ratio]:
    """An uncertainty over nominal: up solid, and down, if it has both, dashed."""
    lines = [(name, up, "-")] if down is None else [(f"{name}, up", up, "-"), (f"{name}, down", down, "--")]
    return [Ratio(text, values, {"color": color, "lw": 2, "ls": dashes}) for text, values, dashes in lines]


def show_varied(
    axes: Axes, bins: Bins, label: str, ratios: Sequence[Ratio], error: Optional[Floats] = None, room: float = 1.3
) -> None:
    """Fill a panel with variations over nominal, in front of the statistical `error` of that, which does not set the limits."""
    axes.axhline(1, color="black", lw=0.8)
    for it in ratios:
        axes.stairs(it.values, bins.drawn, baseline=None, label=it.name, **it.look)
    if error is not None:
        known, band = np.nan_to_num(error), "Statistical error of nominal"
        axes.stairs(1 + known, bins.drawn, baseline=1 - known, fill=True, color=_BAND, label=band, zorder=0)
    changes = np.abs(np.concatenate([np.zeros(0), *(it.values for it in ratios)]) - 1)
    reach = max(room * float(np.max(changes[np.isfinite(changes)], initial=0.0)), 0.02)
    axes.set_ylim(1 - min(reach, 1), 1 + min(reach, 2))
    bins.label(axes)
    axes.set_xlabel(label)
    axes.set_ylabel("Varied / nominal")


def stack_figure(
    style: Style, stack: Stack, axis: str, right: str, has_data: bool, logarithmic: bool = False
) -> Figure:
    """A figure of expected and observed events, with the ratio below; to be called `in_style`. The page says what is not in the bins.

    Without data, the ratio is that of a line to what is expected, if there is one. Bins that are blind are hatched.
    """
    from MLTools.NanoML.report.figures import legend_above, with_ratio

    figure, axes, below = with_ratio(style, right, has_data)
    draw_stack(axes, stack, logarithmic)
    if stack.data is not None or stack.line is None:
        draw_ratio(below, stack)
    else:
        expected = stack.expected
        ratio = np.divide(stack.line.events, expected, out=np.zeros_like(expected), where=expected > 0)
        below.stairs(ratio, stack.bins.drawn, color=stack.line.color, lw=2.5)
        below.set_ylim(0, None)
        below.set_ylabel("S / B")
        stack.bins.label(below)
    below.set_xlabel(stack.bins.named(axis))
    legend_above(axes)
    figure.align_ylabels()
    return figure
