"""Figures of the report, in CMS style and in colours that the colour-blind can tell apart.

Each is drawn from what metrics.json holds of it under "plots", and so every number of a figure is there, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ML_processing.plots.classification import calibration, confusion, roc, scores, significance
from ML_processing.plots.inputs import correlations, importance
from ML_processing.plots.panels import drift, efficiency, features, sculpting
from ML_processing.plots.regression import predictions, residuals
from ML_processing.plots.style import number, save
from ML_processing.plots.training import losses

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

_EMPTY = ("panels", "features", "classes", "inputs")  # what a figure needs at least one of


def draw(
    content: dict[str, Any], histories: Sequence[Sequence[dict[str, Any]]], directory: Path
) -> list[str]:
    """Draw all figures of an evaluation.

    Parameters
    ----------
    content
        Content of metrics.json.
    histories
        Of each network the entries of its epochs.
    directory
        Where NAME.png and NAME.pdf are written.

    Returns
    -------
    Names of the figures; those of which the events allow nothing are left out, and what an earlier evaluation
    drew of them is removed.
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
    name: str, data: dict[str, Any], histories: Sequence[Sequence[dict[str, Any]]], regression: bool
) -> Figure:
    if name == "loss":
        return losses(histories, "Loss" if regression else "Loss (weighted cross entropy)")
    if name == "importance":
        return importance(data, "Relative growth of the RMSE" if regression else "Loss of AUC when shuffled")
    return FIGURES[name](data)
