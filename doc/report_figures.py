"""Draws figures of the report, once as they should be and once not: python doc/report_figures.py writes doc/images/report-*.png.

The scores are made up; the figures are drawn as those of the report are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ML_processing.evaluation.sections.calibration import Calibration, ClassCalibration
from ML_processing.evaluation.sections.scores import ClassScores, Scores
from ML_processing.metrics.measured import Histogram, histogram
from ML_processing.metrics.roc import reliability
from ML_processing.training.description import Epoch
from ML_processing.training.loss_figure import losses as losses_of
from MLTools.NanoML.report.section import Style

IMAGES = Path(__file__).parent / "images"
_PER_INCH = 50
_EVENTS = 4000
_RANDOM = np.random.default_rng(1)
STYLE = Style().with_processes(["signal", "background"], "signal")


def note(figure: Figure, text: str, point: tuple[float, float], at: tuple[float, float]) -> None:
    """An arrow from a text to a point, both in parts of the plot's width and height."""
    axes = figure.axes[0]
    arrow = {"arrowstyle": "->", "lw": 2, "color": "black"}
    box = {"boxstyle": "round", "fc": "#fff4d6", "ec": "#8a93a6"}
    axes.annotate(
        text,
        point,
        at,
        "axes fraction",
        "axes fraction",
        arrow,
        fontsize=21,
        ha="center",
        va="center",
        bbox=box,
        zorder=20,
    )


def losses(overtrained: bool) -> Figure:
    """Losses of five networks by epoch."""
    epochs = np.arange(1, 81)
    histories = []
    for fold in range(5):
        level = 0.30 + 0.01 * fold
        noise = 0.002 * _RANDOM.normal(size=(2, len(epochs)))
        falling = np.exp(-epochs / 9)
        training = level - 0.012 + 0.35 * falling - (0.0022 * epochs if overtrained else 0)
        validation = level + 0.34 * falling + (1.6e-5 * np.maximum(epochs - 20, 0) ** 2.1 if overtrained else 0)
        both = (np.stack([training, validation]) + noise).T.tolist()
        histories.append([Epoch(n + 1, seen, unseen, 1e-3, None) for n, (seen, unseen) in enumerate(both)])
    figure = losses_of(STYLE, histories, False)
    if overtrained:
        note(figure, "solid lines rise:\nmemorising begins", (0.86, 0.385), (0.66, 0.66))
        note(figure, "dots: the epochs\nthat are kept", (0.43, 0.29), (0.24, 0.16))
    else:
        note(figure, "both fall and flatten,\nclose to each other", (0.7, 0.14), (0.62, 0.5))
    return figure


def scores(overtrained: bool) -> Figure:
    """Scores of training and test events."""
    edges = np.linspace(0, 1, 21)

    def shape(a: float, b: float, events: int) -> Histogram:
        return histogram(_RANDOM.beta(a, b, events), np.ones(events), edges)

    shapes = {"signal": (4.0, 1.4), "background": (1.2, 3.6)}
    seen = {"signal": (9.0, 1.0), "background": (0.8, 8.0)} if overtrained else shapes
    probability = 1e-30 if overtrained else 0.43
    classes = [
        ClassScores(name, shape(*seen[name], 4 * _EVENTS), shape(*shapes[name], _EVENTS), probability)
        for name in shapes
    ]
    figure = Scores("signal", "Probability of signal", edges, classes, 2 * _EVENTS).draw(STYLE)
    if overtrained:
        note(figure, "points are not\non the lines", (0.63, 0.57), (0.42, 0.14))
    else:
        note(figure, "points are on the lines", (0.5, 0.66), (0.5, 0.16))
    return figure


def calibration(confident: bool) -> Figure:
    """Predicted and observed probabilities."""
    predicted = _RANDOM.uniform(0, 1, 5 * _EVENTS)
    true = 0.5 + 0.55 * (predicted - 0.5) if confident else predicted
    found = reliability(predicted, _RANDOM.uniform(size=len(predicted)) < true, np.ones(len(predicted)))
    assert found is not None
    figure = Calibration([ClassCalibration("signal", found)], [], len(predicted)).draw(STYLE)
    if confident:
        note(figure, "predicts 0.9, but only\n0.7 are signal", (0.86, 0.575), (0.62, 0.2))
    else:
        note(figure, "what is predicted\nis what happens", (0.71, 0.59), (0.65, 0.2))
    return figure


def write(figure: Figure, name: str) -> None:
    """As a small PNG."""
    figure.set_dpi(_PER_INCH)
    FigureCanvasAgg(figure).print_png(str(IMAGES / f"report-{name}.png"), metadata={"Software": None})


if __name__ == "__main__":
    for draw in (losses, scores, calibration):
        write(draw(False), f"{draw.__name__}-fine")
        write(draw(True), f"{draw.__name__}-worrying")
