"""Figures of the report, in CMS style and in colours that the colour-blind can tell apart.

Each shows a part of an evaluation that is in metrics.json, too, under "plots": so that contains every number of a figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from ML_processing.plots import data as of_data
from ML_processing.plots import panels, single, stability
from ML_processing.plots.single import losses
from MLTools.NanoML.report.figures import save

if TYPE_CHECKING:
    from ML_processing.evaluation.data_comparison.comparison import DataComparison
    from ML_processing.evaluation.regions import RegionResult
    from ML_processing.training.description import Epoch

__all__ = ["FIGURES", "draw", "draw_data", "draw_regions", "losses", "save"]

FIGURES: dict[str, Callable[[Any], Figure]] = {
    "roc": single.roc,
    "scores": single.scores,
    "probabilities": panels.probabilities,
    "discriminants": panels.features,
    "confusion": single.confusion,
    "calibration": single.calibration,
    "significance": single.significance,
    "efficiency": panels.efficiency,
    "sculpting": panels.sculpting,
    "predictions": panels.predictions,
    "residuals": panels.residuals,
    "features": panels.features,
    "correlations": panels.correlations,
    "drift": panels.drift,
    "region": of_data.region,
    "variations": panels.variations,
    "eras": stability.eras,
    "repeats": stability.repeats,
    "data_inputs": of_data.inputs,
    "data_scores": of_data.scores,
}
"""What is drawn from metrics.json alone; importance and loss depend on the task, too."""

_EMPTY = ("panels", "features", "classes", "inputs")  # a figure needs at least one of these


def draw(
    plots: Mapping[str, object], histories: Sequence[Sequence[Epoch]], is_boosted: bool, directory: Path
) -> list[str]:
    """Draw all figures of an evaluation as NAME.png and NAME.pdf.

    `plots` are what they show, by their names, `histories` all epochs of each network, which are rounds if it
    `is_boosted`. Returns the names of the figures.
    Those for which there is nothing to show are left out, and removed if an earlier evaluation drew them.
    """
    drawn = []
    for name in (*FIGURES, "importance", "loss"):
        data = plots.get("predictions" if name == "residuals" else name)
        if name != "loss" and (data is None or any(getattr(data, part, None) == [] for part in _EMPTY)):
            for kind in ("png", "pdf"):
                (directory / f"{name}.{kind}").unlink(missing_ok=True)
            continue
        save(_figure(name, data, "predictions" in plots, histories, is_boosted), directory / name)
        drawn.append(name)
    return drawn


def draw_regions(regions: Mapping[str, RegionResult], directory: Path) -> None:
    """Draw the scores in each region as region_NAME.png and region_NAME.pdf; those of others are removed."""
    for path in [*directory.glob("region_*.png"), *directory.glob("region_*.pdf")]:
        path.unlink()
    for name, found in regions.items():
        if found.outputs:
            save(_figure("region", found), directory / f"region_{name}")


def draw_data(compared: Mapping[str, DataComparison], directory: Path) -> None:
    """Draw data and simulation of each region as data_inputs_NAME and data_scores_NAME; those of others are removed."""
    for path in [*directory.glob("data_*.png"), *directory.glob("data_*.pdf")]:
        path.unlink()
    for name, found in compared.items():
        for kind, panels_ in (("data_inputs", found.inputs), ("data_scores", found.scores)):
            if panels_:
                save(_figure(kind, found), directory / f"{kind}_{name}")


def _figure(
    name: str, data: Any, regression: bool = False, histories: Sequence[Sequence[Epoch]] = (), is_boosted: bool = False
) -> Figure:
    if name == "loss":
        return losses(histories, is_boosted)
    if name == "importance":
        loss = "Relative growth of the RMSE" if regression else "Loss of AUC when shuffled"
        return panels.importance(data, loss)
    return FIGURES[name](data)
