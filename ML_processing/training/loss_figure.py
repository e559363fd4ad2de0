"""The figure of the losses of a training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ML_processing.training.description import Epoch
from MLTools.NanoML.report.figures import in_style, legend_above, line, single
from MLTools.NanoML.report.section import Style

_DOTTED = (0, (2, 1.5))


@in_style
def losses(style: Style, histories: Sequence[Sequence[Epoch]], is_boosted: bool) -> Figure:
    """Training and validation loss of each network by epoch, or round if it `is_boosted`, with that whose weights were kept."""
    figure, axes = single(style, f"{len(histories)} network{'s' * (len(histories) > 1)}")
    for i, history in enumerate(histories):
        color = line(i, len(histories))["color"]
        epoch, train, validation = (
            [getattr(entry, key) for entry in history] for key in ("epoch", "train_loss", "validation_loss")
        )
        best = int(np.argmin(validation))
        label = f"Fold {i + 1} of {len(histories)}" if len(histories) > 1 else "Network"
        axes.plot(epoch, validation, color=color, lw=2, label=label)
        axes.plot(epoch, train, color=color, lw=1.6, ls=_DOTTED)
        axes.plot(epoch[best], validation[best], "o", color=color, mec="black", ms=9)
    for label, ls, marker in (("Validation", "-", ""), ("Training", _DOTTED, ""), ("Kept", "", "o")):
        axes.plot([], [], color="black", label=label, ls=ls, marker=marker)
    axes.set_xlabel("Round" if is_boosted else "Epoch")
    axes.set_ylabel("Weighted mean loss")
    legend_above(axes)
    return figure
