"""The figures of the closure of ratios of densities."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from MLTools.NanoML.contracts.closure import ClosureTest, RatioClosure
from MLTools.NanoML.report.figures import Figures, finish_panel, grid, in_style, middles, shorten, without_tails
from MLTools.NanoML.report.section import Style
from MLTools.NanoML.schema.plain import plain

_REACH = (0.05, 1.0)  # of the axis around one, at least and at most
_LONGEST = 30  # of a name above a panel


def draw_closure(
    closure: RatioClosure, directory: Path, channel: str, style: Style, only: Sequence[str] = ()
) -> list[str]:
    """Draw the figures of a channel, or those of them that are named, into a directory; return the names of all."""
    figures = Figures(directory, only)
    for it in closure.figures(channel):
        figures.add(it.name, partial(_panels, style, it.tests), plain(it.tests))
    return figures.names


@in_style
def _panels(style: Style, tests: Sequence[ClosureTest]) -> Figure:
    """Reweighted over true events, a panel for each test."""
    figure, all_axes = grid(style, len(tests), "", 4, legend=False)
    for axes, it in zip(all_axes, tests, strict=True):
        edges = without_tails(np.array(it.edges)) if len(it.edges) > 3 else np.array(it.edges)
        true = np.where(np.array(it.true) > 0, it.true, np.nan)
        ratio, error = np.array(it.reweighted) / true, np.array(it.errors) / true
        axes.axhline(1, color="black", lw=0.8)
        axes.errorbar(middles(edges), ratio, error, np.diff(edges) / 2, **style.marker(it.process, 4))
        reach = np.clip(1.1 * np.nanmax(np.abs(ratio - 1) + error, initial=0.0), *_REACH)
        axes.set_ylim(1 - reach, 1 + reach)
        finish_panel(axes, edges, style.axis(it.quantity), "Reweighted / true")
        name = ", ".join(filter(None, (style.name(it.process), it.variation)))
        axes.set_title(f"{shorten(name, _LONGEST)}: $\\chi^2$/ndf = {it.chi2:.0f}/{it.ndf}", fontsize=11)
    return figure
