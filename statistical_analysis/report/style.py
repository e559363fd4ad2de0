"""The look of the figures of a fit: CMS style."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import mplhep
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

from MLTools.NanoML.atomic import replacing

# M. Petroff, Accessible color sequences for data visualization (arXiv:2107.02270), as CMS recommends them; without the red, which is
# the signal's
COLORS = ("#3f90da", "#ffa90e", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd")
SIGNAL = "#e42536"
ONE_SIGMA, TWO_SIGMA = "#607641", "#f5bb54"
"""The bands of expected limits, as CMS recommends them."""
_Draw = TypeVar("_Draw", bound=Callable[..., Any])


def in_style(draw: _Draw) -> _Draw:
    """Make a function draw in the style of CMS."""
    styled: _Draw = plt.style.context(mplhep.style.CMS)(draw)
    return styled


def label(axes: Axes, right: str, has_data: bool, size: float = 19) -> None:
    """Write above a figure what it shows, and `right`: luminosity and energy."""
    text = f"Private work (CMS {'data/' if has_data else ''}simulation)"
    mplhep.label.exp_label(exp="", text=text, data=True, rlabel=right, fontsize=size, ax=axes)


@in_style
def save(figure: Figure, stem: Path) -> None:
    """Write a figure as `stem`.png and `stem`.pdf."""
    with replacing(stem.with_name(f"{stem.name}.png")) as aside, open(aside, "wb") as file:
        FigureCanvasAgg(figure).print_png(file)
    with replacing(stem.with_name(f"{stem.name}.pdf")) as aside, open(aside, "wb") as file:
        FigureCanvasPdf(figure).print_pdf(file, metadata={"CreationDate": None})
