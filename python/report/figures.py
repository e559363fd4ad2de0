"""The look of all figures: CMS style, in colours that the colour-blind can tell apart."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, TypeVar

import matplotlib.pyplot as plt
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import ScalarFormatter
from numpy.typing import NDArray

from MLTools.NanoML.atomic import replacing, write_json
from MLTools.NanoML.report.page import stem_of
from MLTools.NanoML.report.section import COLORS, LINES, RED, SIX, Style, points

_PANEL = (3.5, 3.0)
_POWER = re.compile("1e([-\u2212]?[0-9]+)")  # with the hyphen or the minus sign
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
LEGEND = 22
"""Font size of legends: 8 points in a column of 8.6 cm, where a figure of 9 inches has 0.376 of its size."""
_CROWDED = 16  # 6 points: of legends with more than there is room for
_DARK = 0.65  # of the largest value of a matrix: on its colour, black cannot be read

Show = Callable[[Axes, Style], None]
"""Fills a panel."""
Draw = Callable[[], Optional[Figure]]
"""Draws a figure, if there is something to be drawn."""
_Draw = TypeVar("_Draw", bound=Callable[..., Any])


def in_style(draw: _Draw) -> _Draw:
    """Make a function draw in the style of CMS."""
    # from 100,000 on, and below 0.01, numbers have no room beside an axis
    more = {"axes.formatter.limits": (-3, 5), "axes.unicode_minus": True}
    styled: _Draw = plt.style.context([mplhep.style.CMS, more])(draw)
    return styled


def shorten(name: str, most: int) -> str:
    """A name with at most this number of characters."""
    return name if len(name) <= most or "$" in name else f"{name[: most - 2]}…"


@in_style
def save(figure: Figure, stem: Path, numbers: object = None) -> None:
    """Write a figure as `stem`.png and `stem`.pdf, each drawn once, and its numbers as `stem`.json: `savefig` draws everything twice."""
    _name_powers(figure)
    _fit_names(figure)
    png, pdf = io.BytesIO(), io.BytesIO()  # matplotlib cannot end a PDF file on a full disk
    _canvas(figure).print_png(png, pil_kwargs={"compress_level": 1})
    _fix_layout(figure)
    FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None})
    for kind, drawn in (("png", png), ("pdf", pdf)):
        with replacing(stem.with_name(f"{stem.name}.{kind}")) as aside:
            aside.write_bytes(drawn.getvalue())
    if numbers is not None:
        write_json(stem.with_name(f"{stem.name}.json"), numbers)


@dataclass
class Figures:
    """The figures beside a page. With `only`, those with other names stay as they are."""

    directory: Path
    only: Sequence[str] = ()
    names: list[str] = field(default_factory=list)  # of those that the page can show, without suffix

    def add(self, name: str, draw: Draw, numbers: object) -> None:
        """Draw and `save` a figure, if it is one of these; where nothing is to be drawn, no older figure stays."""
        stem = self.directory / stem_of(name)
        if not self.only or name in self.only:
            try:
                is_drawn = _drawn(draw, stem, numbers)
            except ValueError as problem:  # a name of somebody else's that looks like mathematics, and is none
                if "ParseException" not in str(problem) and "ParseFatalException" not in str(problem):
                    raise
                with plt.rc_context({"text.parse_math": False}):
                    is_drawn = _drawn(draw, stem, numbers)
            for kind in () if is_drawn else ("png", "pdf", "json"):
                stem.with_name(f"{stem.name}.{kind}").unlink(missing_ok=True)
        if stem.with_name(f"{stem.name}.png").exists():
            self.names.append(stem.name)


def _drawn(draw: Draw, stem: Path, numbers: object) -> bool:
    figure = draw()
    if figure is not None:
        save(figure, stem, numbers)
    return figure is not None


def remove_others(directory: Path, names: Collection[str]) -> None:
    """Remove the figures in a directory that are not among these, with their numbers: those of what there was in an earlier run."""
    for path in directory.glob("*.json"):
        files = [path.with_name(f"{path.stem}.{kind}") for kind in ("png", "pdf", "json")]
        if path.stem not in names and files[0].exists():
            for each in files:
                each.unlink(missing_ok=True)


def _canvas(figure: Any) -> FigureCanvasAgg:
    """The one canvas that a figure is drawn on, which remembers how wide each text is."""
    return figure.canvas if isinstance(figure.canvas, FigureCanvasAgg) else FigureCanvasAgg(figure)


def _fit_names(figure: Figure) -> None:
    """Make names of axes that are longer than their axes smaller; panels that are to be laid out have about their size already."""
    renderer = _canvas(figure).get_renderer()
    for axes in figure.axes:
        room = axes.get_window_extent(renderer)
        if figure.get_layout_engine() is not None:
            room = room.expanded(1.2, 1.2)
        for text, most, side in ((axes.xaxis.label, room.width, "width"), (axes.yaxis.label, room.height, "height")):
            taken = getattr(text.get_window_extent(renderer), side)
            if taken > most:
                text.set_fontsize(float(text.get_fontsize()) * max(most / taken, 0.5))


def _name_powers(figure: Figure) -> None:
    """Say by which power of ten numbers are to be multiplied in the name of the axis: beside it there are other texts."""
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        formatter, name = axis.get_major_formatter(), axis.get_label_text()
        if name and isinstance(formatter, ScalarFormatter):
            formatter.set_locs([float(it) for it in axis.get_majorticklocs()])
            power = _POWER.fullmatch(formatter.get_offset())
            if power:
                axis.set_label_text(f"{name}  [$10^{{{power[1]}}}$]")
                axis.get_offset_text().set_visible(False)


def _fix_layout(figure: Figure) -> None:
    """Keep everything where it has been drawn: finding the places takes as long as drawing."""
    figure.set_layout_engine("none")
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            place = axis.label.get_transform().transform(axis.label.get_position())
            x, y = figure.transFigure.inverted().transform(place)
            axis.set_label_coords(x, y, transform=figure.transFigure)


def label(style: Style, axes: Axes, right: str, has_data: bool = False) -> None:
    """Write above a plot what it shows and, at the right end, `right`: luminosity and energy, or a number of events."""
    at: dict[str, Any] = {"transform": axes.transAxes, "va": "baseline"}
    texts = (
        axes.text(0.008, 1.014, style.shown(has_data), fontsize=19, fontstyle="italic", **at),
        axes.text(1, 1.014, style.with_energy(right), fontsize=17.3, ha="right", **at),
    )
    _shrink(axes.figure, texts, axes.get_window_extent().width)


def fit_label(figure: Figure, axes: Axes) -> None:
    """Make the label as small as the plot has become, of which the margins are found from its texts."""
    figure.draw_without_rendering()
    _shrink(figure, axes.texts[:2], axes.get_window_extent().width)


def _shrink(figure: Any, texts: Sequence[Text], room: float) -> None:
    """Make texts in a row smaller until they have room [pixels]."""
    renderer = _canvas(figure).get_renderer()
    taken = sum(text.get_window_extent(renderer).width for text in texts) + 0.03 * room
    for text in texts if taken > room else ():
        text.set_fontsize(float(text.get_fontsize()) * room / taken)


def legend_above(axes: Axes, **look: object) -> None:
    """A legend at the top of a plot, which gets so much room above all that is drawn in it; blind bins are hatched below it."""
    renderer = _canvas(axes.figure).get_renderer()
    inside = axes.get_window_extent(renderer)
    close: dict[str, Any] = {"loc": "upper right", "columnspacing": 1.0, "handletextpad": 0.5}
    for columns, size in ((2, LEGEND), (1, LEGEND), (2, _CROWDED)):
        box = axes.legend(**{"ncols": columns, "fontsize": size, **close, **look}).get_window_extent(renderer)
        if box.width < inside.width and box.height < 0.6 * inside.height:
            break
    share = min((inside.y1 - box.y0) / inside.height + 0.02, 0.75)
    bottom, top = axes.get_ylim()
    is_log = axes.get_yscale() == "log"
    axes.set_ylim(
        bottom, bottom * (top / bottom) ** (1 / (1 - share)) if is_log else bottom + (top - bottom) / (1 - share)
    )
    for patch in axes.patches:
        if isinstance(patch, Rectangle) and patch.get_hatch() and patch.get_height() == 1:  # of axvspan
            patch.set_height(1 - share)


def single(
    style: Style, right: str, size: Optional[float] = None, ratio: float = 8 / 9, has_data: bool = False
) -> tuple[Figure, Axes]:
    """A figure of one plot, `ratio` times as high as wide, with its label.

    With a `size` [inches] its margins are found from the texts, which takes time; without, they are fixed.
    """
    width = size or 9.0
    figure = Figure(
        figsize=(width, width * ratio), layout=ConstrainedLayoutEngine(w_pad=0.03 * width, h_pad=0.1) if size else None
    )
    axes = figure.subplots()
    if size is None:
        figure.subplots_adjust(left=0.145, right=0.965, bottom=0.111 / ratio, top=1 - 0.053 / ratio)
    axes.tick_params(axis="x", pad=12)  # in the corner, the first numbers of both axes come close
    label(style, axes, right, has_data)
    return figure, axes


def with_ratio(style: Style, right: str, has_data: bool) -> tuple[Figure, Axes, Axes]:
    """A figure of one plot with its label, and another plot for a ratio below."""
    figure = Figure(figsize=(9, 9.5))
    axes, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    figure.subplots_adjust(left=0.15, right=0.965, bottom=0.105, top=0.94, hspace=0.06)
    label(style, axes, right, has_data)
    return figure, axes, below


def small(style: Style, size: tuple[float, float], right: str, has_data: bool = False, pad: float = 0.08) -> Figure:
    """A figure of small plots with its label; the fonts are small from here on, so it is for functions `in_style`."""
    plt.rcParams.update(_SMALL)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=pad))
    text = ", ".join(filter(None, (style.shown(has_data), style.with_energy(right))))
    title = figure.suptitle(text, x=0.01, ha="left", fontsize=15, fontstyle="italic")
    _shrink(figure, [title], figure.bbox.width)
    return figure


def grid(
    style: Style, panels: int, right: str, columns: int = 4, panel: tuple[float, float] = _PANEL, legend: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure of many small plots, as `small`."""
    columns = min(columns, panels)
    rows = -(-panels // columns)
    figure = small(style, (max(columns * panel[0], 7.0), rows * panel[1] + 0.5 + 0.5 * legend), right)
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in all_axes[panels:]:
        unused.remove()
    return figure, list(all_axes[:panels])


def panels(
    style: Style,
    shows: Sequence[Show],
    right: str,
    columns: int = 4,
    panel: tuple[float, float] = _PANEL,
    legend: int = 4,
) -> Optional[Figure]:
    """A `grid` of which each function fills a panel, with the legend of the first in so many columns below; None without any."""
    if not shows:
        return None
    figure, all_axes = grid(style, len(shows), right, columns, panel)
    for axes, show in zip(all_axes, shows):
        show(axes, style)
    legend_below(figure, all_axes[0], legend)
    return figure


def ratio_grid(style: Style, panels: int, right: str, columns: int = 4) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """A figure of small plots of data, each with another one for a ratio below; as `small`."""
    columns = min(columns, panels)
    rows = -(-panels // columns)
    figure = small(style, (max(columns * 3.9, 7.0), rows * 4.1 + 1.0), right, has_data=True, pad=0.03)
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
    return figure, pairs[:panels]


def line(i: int, of: int) -> dict[str, Any]:
    """Style of curve `i` among `of` that are no processes; none is red."""
    colors = [color for number, color in enumerate(SIX if of < len(SIX) else COLORS) if number != RED]
    return {"color": colors[i % len(colors)], "ls": LINES[i % len(LINES)], "lw": 2.2}


def marker(i: int, of: int, size: float = 6) -> dict[str, Any]:
    """Points with errors of kind `i` among `of` that are no processes."""
    return points(line(i, of)["color"], i, size)


def of_all(shown: int, all_: int, what: str) -> str:
    """The addition to the title of a figure that does not show all."""
    return f", {shown} of {all_} {what}" if shown < all_ else ""


def note_in(axes: Axes, text: str, size: float = 12) -> None:
    """Write a text into the upper right corner of a panel."""
    axes.text(0.97, 0.95, text, transform=axes.transAxes, ha="right", va="top", fontsize=size)


def legend_below(figure: Figure, axes: Axes, columns: int = 4) -> None:
    """One legend for all panels, below them."""
    handles, labels = axes.get_legend_handles_labels()
    labels = [shorten(text, 60) for text in labels]
    width = max(1, int(figure.get_size_inches()[0] / (0.6 + 0.12 * max(map(len, labels), default=1))))
    figure.legend(handles, labels, loc="outside lower center", ncols=min(width, max(columns, 1), len(labels)))


def without_tails(edges: NDArray[np.generic]) -> NDArray[Any]:
    """Edges of bins with the first and last moved inwards: tails would leave no room for the rest."""
    low, high = edges[1], edges[-2]
    reach = (high - low) * 0.35 or edges[-1] - edges[0]
    return np.clip(edges, low - reach, high + reach)


def middles(edges: NDArray[Any], i: int = 0, of: int = 1, step: float = 0.2) -> NDArray[Any]:
    """The middles of bins; points `i` among `of` that would cover each other are beside them, with a `step` in widths of the bins."""
    return (edges[1:] + edges[:-1]) / 2 + (i - (of - 1) / 2) * step * np.diff(edges)


def finish_panel(
    axes: Axes, edges: NDArray[Any], label: str, what: str = "Fraction of events", room: Optional[float] = None
) -> None:
    """Limits and names of the axes of a panel of shapes; with `room`, it begins at 0 and is so many times as high as the shapes."""
    axes.set_xlim(edges[0], edges[-1])
    if room is not None:
        axes.set_ylim(0)
        axes.set_ylim(0, axes.get_ylim()[1] * room)
    axes.set_xlabel(label)
    axes.set_ylabel(what)


def name_rows(axes: Axes, names: Sequence[str]) -> NDArray[Any]:
    """Name the rows of a plot from the top to the bottom, and return their places."""
    places = np.arange(len(names), dtype=float)[::-1]
    axes.set_yticks(places, names)
    axes.set_ylim(-0.7, max(len(names), 1) - 0.3)
    axes.tick_params(axis="y", which="both", length=0)
    return places


def name_cells(
    axes: Axes, values: NDArray[Any], names: Sequence[str], texts: Sequence[Sequence[str]], size: float, **look: Any
) -> None:
    """Name rows and columns of a matrix that is shown in colours, the latter with a `look`, and write texts into its cells, if any."""
    for (row, column), value in np.ndenumerate(values if texts else np.zeros((0, 0))):
        color = "white" if abs(value) > _DARK else "black"
        axes.text(column, row, texts[row][column], ha="center", va="center", fontsize=size, color=color)
    axes.set_xticks(range(len(names)), names, **look)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(which="both", length=0)
