"""Figures of the report, in CMS style and in colours that the colour-blind can tell apart.

Each is drawn from its part of "plots" in metrics.json, which so contains every number of a figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from ML_processing.plots.panels import (
    correlations,
    drift,
    efficiency,
    features,
    importance,
    predictions,
    residuals,
    sculpting,
)
from ML_processing.plots.single import calibration, confusion, losses, roc, scores, significance
from ML_processing.plots.style import number, save

if TYPE_CHECKING:
    from ML_processing.training.description import Epoch

__all__ = [
    "FIGURES",
    "calibration",
    "confusion",
    "correlations",
    "draw",
    "drift",
    "efficiency",
    "features",
    "importance",
    "losses",
    "number",
    "predictions",
    "residuals",
    "roc",
    "save",
    "scores",
    "sculpting",
    "significance",
]

FIGURES = {
    "roc": roc,
    "scores": scores,
    "confusion": confusion,
    "calibration": calibration,
    "significance": significance,
    "efficiency": efficiency,
    "sculpting": sculpting,
    "predictions": predictions,
    "residuals": residuals,
    "features": features,
    "correlations": correlations,
    "drift": drift,
}
"""What is drawn from metrics.json alone; importance and loss depend on the task, too."""

_EMPTY = ("panels", "features", "classes", "inputs")  # a figure needs at least one of these


def draw(content: dict[str, Any], histories: Sequence[Sequence[Epoch]], directory: Path) -> list[str]:
    """Draw all figures of an evaluation.

    Parameters
    ----------
    content
        Content of metrics.json.
    histories
        The entries of its epochs for each network.
    directory
        Where NAME.png and NAME.pdf are written.

    Returns
    -------
    Names of the figures. Those for which there is nothing to show are left out, and removed if an earlier evaluation
    drew them.
    """
    regression, plots = content["task"] == "regression", content["plots"]
    drawn = []
    for name in (*FIGURES, "importance", "loss"):
        data = plots.get("predictions" if name == "residuals" else name)
        if name != "loss" and (not data or any(not data[key] for key in _EMPTY if key in data)):
            for kind in ("png", "pdf"):
                (directory / f"{name}.{kind}").unlink(missing_ok=True)
            continue
        save(_figure(name, data, histories, regression), directory / name)
        drawn.append(name)
    return drawn


def _figure(
    name: str, data: dict[str, Any], histories: Sequence[Sequence[Epoch]], regression: bool
) -> Figure:
    if name == "loss":
        return losses(histories, "Loss" if regression else "Loss (weighted cross entropy)")
    if name == "importance":
        return importance(data, "Relative growth of the RMSE" if regression else "Loss of AUC when shuffled")
    return FIGURES[name](data)
