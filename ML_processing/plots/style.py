"""The look of all figures: CMS style, in colours that the colour-blind can tell apart."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from ML_processing.metrics.measured import Measured
from MLTools.NanoML.atomic import replacing

_SIX = ("#5790fc", "#f89c20", "#e42536", "#964a8b", "#9c9ca1", "#7a21dd")
_TEN = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
"""M. Petroff, Accessible color sequences for data visualization (arXiv:2107.02270), as CMS recommends them."""
_LINES = ("-", "--", ":", "-.")
_SIZE = (9.0, 8.0)
_PANEL = (3.5, 3.0)
_LABEL = "Private work (simulation)"
_DATA_LABEL = "Private work (CMS data/simulation)"
_SMALL: dict[Any, Any] = {
    "font.size": 12,
    "axes.labelsize": 13,
    "axes.titlesize": 13,
    "axes.linewidth": 1,
    "legend.fontsize": 14,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "xtick.major.size": 6,
    "xtick.minor.size": 3,
    "ytick.major.size": 6,
    "ytick.minor.size": 3,
    "xtick.major.pad": 7,
    "axes.formatter.limits": (-3, 4),
    "xtick.minor.visible": False,  # they would take most of the time of drawing
    "ytick.minor.visible": False,
}
LEGEND = 17
"""Font size of legends."""

_Draw = TypeVar("_Draw", bound=Callable[..., Any])


def in_style(draw: _Draw) -> _Draw:
    """Make a function draw in the style of CMS."""
    styled: _Draw = plt.style.context(mplhep.style.CMS)(draw)
    return styled


def number(measured: Measured, digits: int = 3) -> str:
    """A measured number as text: "0.941 ± 0.006"."""
    if measured.value is None or measured.error is None:
        return "not defined"
    return f"{measured.value:.{digits}f} ± {measured.error:.{digits}f}"


def per_cent(*changes: float | None, unit: str = "") -> str:
    """Relative changes in per cent as text: "+1.2 / -0.95", and the unit; None is left out."""
    texts = []
    for change in changes:
        if change is not None:
            value = 100 * change
            digits = 0 if abs(value) >= 9.95 else 1 if abs(value) >= 0.995 else 2
            texts.append(f"{value:+.{digits}f}" if abs(value) >= 0.005 else "0")
    return " / ".join(texts) + unit if texts else "not defined"


def shorten(name: str, most: int) -> str:
    """A name with at most this number of characters."""
    return name if len(name) <= most else f"{name[: most - 2]}…"


def shortened(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of bins with the first and last moved inwards: tails would leave no room for the rest."""
    low, high = edges[1], edges[-2]
    reach = (high - low) * 0.35 or edges[-1] - edges[0]
    return np.clip(edges, low - reach, high + reach)


@in_style
def save(figure: Figure, stem: Path) -> None:
    """Write a figure as `stem`.png and `stem`.pdf, each drawn once: `savefig` draws everything twice."""
    png, pdf = io.BytesIO(), io.BytesIO()  # matplotlib cannot end a PDF file on a full disk
    FigureCanvasAgg(figure).print_png(png, pil_kwargs={"compress_level": 1})
    _fix_layout(figure)
    FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None})
    for kind, drawn in (("png", png), ("pdf", pdf)):
        with replacing(stem.with_name(f"{stem.name}.{kind}")) as aside:
            aside.write_bytes(drawn.getvalue())


def _fix_layout(figure: Figure) -> None:
    """Keep everything where it has been drawn: finding the places takes as long as drawing."""
    figure.set_layout_engine("none")
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            place = axis.label.get_transform().transform(axis.label.get_position())
            x, y = figure.transFigure.inverted().transform(place)
            axis.set_label_coords(x, y, transform=figure.transFigure)


def single(right: str, size: float | None = None) -> tuple[Figure, Axes]:
    """A figure of one plot, with `right` above its right end.

    With a `size` [inches] its margins are found from the texts, which takes time; without, they are fixed.
    """
    width = size or _SIZE[0]
    figure = Figure(
        figsize=(width, width * _SIZE[1] / _SIZE[0]),
        layout=ConstrainedLayoutEngine(w_pad=0.3, h_pad=0.1) if size else None,
    )
    axes = figure.subplots()
    if size is None:
        figure.subplots_adjust(left=0.145, right=0.965, bottom=0.125, top=0.94)
    axes.tick_params(axis="x", pad=12)  # in the corner, the first numbers of both axes come close
    mplhep.label.exp_label(exp="", text=_LABEL, data=True, rlabel=right, fontsize=20, ax=axes)
    return figure, axes


def grid(
    panels: int, right: str, columns: int = 4, panel: tuple[float, float] = _PANEL, legend: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure of many small plots; the fonts are small from here on, so it is for functions `in_style`."""
    plt.rcParams.update(_SMALL)
    columns = min(columns, panels)
    rows = -(-panels // columns)
    size = (max(columns * panel[0], 7.0), rows * panel[1] + 0.5 + 0.5 * legend)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in all_axes[panels:]:
        unused.remove()
    figure.suptitle(f"{_LABEL}, {right}" if right else _LABEL, x=0.01, ha="left", fontsize=15, fontstyle="italic")
    return figure, list(all_axes[:panels])


def ratio_grid(panels: int, right: str, columns: int = 4) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """A figure of small plots of data, each with another one for a ratio below; as `grid`, for functions `in_style`."""
    plt.rcParams.update(_SMALL)
    columns = min(columns, panels)
    rows = -(-panels // columns)
    size = (max(columns * 3.9, 7.0), rows * 4.1 + 1.0)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.03))
    all_axes = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[3, 1.1] * rows)
    pairs = [
        (all_axes[2 * (i // columns), i % columns], all_axes[2 * (i // columns) + 1, i % columns])
        for i in range(rows * columns)
    ]
    for pair in pairs[panels:]:
        for unused in pair:
            unused.remove()
    for upper, _ in pairs[:panels]:
        upper.set_xticklabels([])
    figure.suptitle(f"{_DATA_LABEL}, {right}", x=0.01, ha="left", fontsize=15, fontstyle="italic")
    return figure, pairs[:panels]


def line(i: int, of: int) -> dict[str, Any]:
    """Style of curve `i` among `of`."""
    colors = _SIX if of <= len(_SIX) else _TEN
    return {"color": colors[i % len(colors)], "ls": _LINES[i % len(_LINES)], "lw": 2.2}


def marker(i: int, of: int, size: float = 6) -> dict[str, Any]:
    """Style of points with errors of kind `i` among `of`."""
    return {"fmt": "os^Dvp"[i % 6], "color": line(i, of)["color"], "ms": size, "mec": "black", "mew": size / 10}


def room(rows: int) -> float:
    """The power by which to stretch a logarithmic axis, so that a legend with this number of rows covers no curve."""
    share = min(0.06 * rows + 0.05, 0.6)
    return share / (1 - share)
