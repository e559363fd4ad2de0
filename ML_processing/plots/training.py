"""Figures of the course of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ML_processing.plots.style import LEGEND, in_style, line, single

__all__ = ["losses"]


@in_style
def losses(
    histories: Sequence[Sequence[dict[str, Any]]], title: str = "Loss (weighted cross entropy)"
) -> Figure:
    """Training and validation loss of each network by epoch, with the epoch whose weights were kept."""
    figure, axes = single(f"{len(histories)} network{'s' * (len(histories) > 1)}")
    for i, history in enumerate(histories):
        color = line(i, len(histories))["color"]
        epoch, train, validation = (
            [entry[key] for entry in history] for key in ("epoch", "train_loss", "validation_loss")
        )
        best = int(np.argmin(validation))
        axes.plot(epoch, validation, color=color, lw=2, label=f"Fold {i}")
        axes.plot(epoch, train, color=color, lw=1.6, ls=(0, (2, 1.5)))
        axes.plot(epoch[best], validation[best], "o", color=color, mec="black", ms=9)
    for label, style in (
        ("Validation", {"ls": "-"}),
        ("Training", {"ls": (0, (2, 1.5))}),
        ("Kept", {"ls": "", "marker": "o"}),
    ):
        axes.plot([], [], color="black", label=label, **style)
    axes.set_xlabel("Epoch")
    axes.set_ylabel(title)
    axes.legend(loc="best", ncols=2, fontsize=LEGEND)
    return figure
