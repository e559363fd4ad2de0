"""Figures of changes between two states of files of corrections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from MLTools.NanoML.atomic import make_directory
from MLTools.NanoML.extensions.survey.compare import Change
from MLTools.NanoML.report.figures import grid, in_style, legend_below, note_in, save, shorten
from MLTools.NanoML.report.section import COLORS, PRIVATE_WORK

_MOST, _LONG = 16, 38  # panels of a figure; characters of a title
_PANEL = (4.2, 3.4)  # inches


@in_style
def draw(changes: Sequence[Change], directory: Path) -> list[Path]:
    """Draw the changes of values, the largest first, 16 in each figure; returns the figures without their suffixes."""
    shown = sorted((each for each in changes if each.curve is not None), key=lambda each: -abs(each.largest or 0.0))
    stems = []
    for start in range(0, len(shown), _MOST):
        some = shown[start : start + _MOST]
        figure, panels = grid(PRIVATE_WORK, len(some), "new over old, minus 1", panel=_PANEL)
        for axes, change in zip(panels, some):
            curve = change.curve
            if curve is None:
                continue
            low, middle, high = (100 * band for band in curve.bands.T)
            axes.fill_between(
                curve.x, low, high, step="mid", color=COLORS[0], alpha=0.35, lw=0, label="lowest to highest"
            )
            axes.step(curve.x, middle, where="mid", color=COLORS[0], lw=2, label="median")
            axes.axhline(0, color="black", lw=0.8)
            axes.set(xlabel=curve.axis, ylabel="change [%]")
            if curve.x[0] > 0 and curve.x[-1] > 30 * curve.x[0]:
                axes.set_xscale("log")
            axes.set_title(f"{shorten(change.correction, _LONG)}\n{change.file}".rstrip(), fontsize=10)
            note_in(axes, f"typical {100 * (change.typical or 0.0):.2g} %", 10)
        legend_below(figure, panels[0])
        stems.append(make_directory(directory) / f"changes_{start // _MOST + 1}")
        save(figure, stems[-1])
    return stems
