"""Numbers as text, and limits of axes, in the figures of the report."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ML_processing.metrics.measured import Measured


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


def shortened(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of bins with the first and last moved inwards: tails would leave no room for the rest."""
    low, high = edges[1], edges[-2]
    reach = (high - low) * 0.35 or edges[-1] - edges[0]
    return np.clip(edges, low - reach, high + reach)


def room(rows: int) -> float:
    """The power by which to stretch a logarithmic axis, so that a legend with this number of rows covers no curve."""
    share = min(0.06 * rows + 0.05, 0.6)
    return share / (1 - share)
