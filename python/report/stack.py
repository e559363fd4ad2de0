"""Expected events on top of each other, data as points, and the ratio of the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincinv

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CENTRAL = 0.6827  # coverage of one standard deviation
_NARROWEST = 0.004  # of the axis: about a line of a figure
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
class Drawn:
    """The events of a process in each bin, float64 of shape (bins,), and its colour."""

    name: str
    events: Floats
    color: str


@dataclass(frozen=True)
class Stack:
    """Expected and counted events in bins.

    Attributes
    ----------
    edges
        Edges of the bins, float64 of shape (bins + 1,).
    processes
        What is expected, from the bottom to the top.
    error, contains
        Error of the sum of the processes, float64 of shape (bins,), and which errors that are.
    line
        A process that is drawn as a line, and is not in the sum.
    data
        What was counted.
    """

    edges: Floats
    processes: Sequence[Drawn]
    error: Floats
    contains: str
    line: Optional[Drawn] = None
    data: Optional[Observed] = None

    @property
    def expected(self) -> Floats:
        """The sum of the processes, float64 of shape (bins,)."""
        return sum((it.events for it in self.processes), np.zeros(len(self.edges) - 1))

    @property
    def centers(self) -> Floats:
        """Centres of the bins, float64 of shape (bins,)."""
        return (self.edges[1:] + self.edges[:-1]) / 2


def drawn_edges(edges: Sequence[float]) -> Floats:
    """Where the edges of bins are drawn: where they are, or evenly if a bin would be too narrow to be seen."""
    found = np.array(edges)
    return np.arange(len(found), dtype=np.float64) if _is_narrow(found) else found


def label_edges(axes: Axes, edges: Sequence[float]) -> None:
    """Write the edges of bins that are drawn evenly on the x axis."""
    if _is_narrow(np.array(edges)):
        axes.set_xticks(range(len(edges)), [f"{it:.7g}" for it in edges])
        axes.tick_params(axis="x", labelrotation=90, labelsize=11 if len(edges) > 12 else 15)
        axes.minorticks_off()
        if axes.figure.get_layout_engine() is None:
            axes.figure.subplots_adjust(bottom=0.165)  # the labels take more room than numbers


def _is_narrow(edges: Floats) -> bool:
    return bool(np.diff(edges).min() < _NARROWEST * np.ptp(edges))


def draw_stack(axes: Axes, stack: Stack, logarithmic: bool = False, scale: float = 1.0) -> None:
    """Draw everything into a plot; `scale` is the size of points and lines."""
    edges, expected = stack.edges, stack.expected
    bottom: NDArray[Any] = np.zeros(len(edges) - 1)
    for it in stack.processes:
        axes.stairs(bottom + it.events, edges, baseline=bottom, fill=True, color=it.color, label=it.name)
        bottom = bottom + it.events
    tops = [expected + stack.error]
    if stack.processes:
        axes.stairs(
            tops[0], edges, baseline=expected - stack.error, label=stack.contains, fill=True, facecolor="none",
            edgecolor="#4c4c4c", lw=0, hatch="////",
        )  # fmt: skip
    if stack.line is not None:
        tops.append(stack.line.events)
        axes.stairs(tops[1], edges, baseline=None, color=stack.line.color, lw=3 * scale, label=stack.line.name)
    if stack.data is not None:
        n, low, high = stack.data.values, stack.data.low, stack.data.high
        tops.append(high)
        style: dict[str, Any] = {"fmt": "o", "color": "black", "ms": 7 * scale, "elinewidth": 2 * scale}
        axes.errorbar(stack.centers, n, [n - low, high - n], label="Data", **style)
        _cover(axes, edges, stack.data.blind)
    highest = max(*(float(np.nan_to_num(top).max()) for top in tops), 1e-9)
    axes.set_xlim(edges[0], edges[-1])
    if logarithmic:
        least = max(min(expected[expected > 0], default=highest / 10), highest * 1e-5) / 3
        axes.set_ylim(least, highest * (highest / least) ** 0.45)  # first, as there may be nothing to be scaled
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, highest * 1.5)
    axes.set_ylabel("Events")


def _cover(axes: Axes, edges: Floats, blind: NDArray[np.bool_]) -> None:
    """Hatch the bins that are blind."""
    grey: dict[str, Any] = {"facecolor": (0.6, 0.6, 0.65, 0.35), "edgecolor": "#9c9ca1", "hatch": "xx", "lw": 0}
    for number, place in enumerate(np.flatnonzero(blind)):
        axes.axvspan(edges[place], edges[place + 1], label="Blind" if number == 0 else None, zorder=3, **grey)


def draw_ratio(axes: Axes, stack: Stack, scale: float = 1.0) -> None:
    """Draw data over what is expected, or the relative error of that alone; arrows are points whose errors are outside, too."""
    expected, known = stack.expected, stack.expected > 0
    safe = np.where(known, expected, np.nan)
    error = np.nan_to_num(stack.error / safe)
    axes.stairs(1 + error, stack.edges, baseline=1 - error, fill=True, color="#d0d0d6")
    axes.axhline(1, color="black", lw=scale)
    axes.set_xlim(stack.edges[0], stack.edges[-1])
    if stack.data is None:
        reach = min(0.9, max(0.1, 1.3 * float(error.max())))
        axes.set_ylim(1 - reach, 1 + reach)
        axes.set_ylabel("Ratio")
        return
    centers = stack.centers[known]
    ratio, low, high = ((it / safe)[known] for it in (stack.data.values, stack.data.low, stack.data.high))
    style: dict[str, Any] = {"fmt": "o", "color": "black", "ms": 6 * scale, "elinewidth": 2 * scale}
    axes.errorbar(centers, ratio, [ratio - low, high - ratio], **style)
    _cover(axes, stack.edges, stack.data.blind)
    bottom, top = 0.3, 1.7
    if np.sum((high < bottom) | (low > top)) > _MOST_OUTSIDE * len(ratio):  # data are not what is expected at all
        bottom, top = 0.0, float(np.clip(1.2 * np.nan_to_num(ratio).max(), top, 5))
    axes.set_ylim(bottom, top)
    margin = 0.04 * (top - bottom)
    for outside, marker, height in ((low > top, "^", top - margin), (high < bottom, "v", bottom + margin)):
        axes.plot(centers[outside], np.full(outside.sum(), height), marker, color="#e42536", ms=8 * scale)
    axes.set_ylabel("Data / exp.")
