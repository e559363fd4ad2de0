from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import mplhep
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from ML_processing import plots
from ML_processing.metrics import Measured, auc, roc

CLASSES = ["signal_M600", "WZTo3LNu", "ZGToLLG", "DYJetsToLL", "TTTo2L2Nu", "ZZTo4L", "rare"]


def draw(figure: Figure) -> None:
    with plt.style.context(mplhep.style.CMS):  # fonts are found when a figure is drawn
        figure.draw_without_rendering()


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Texts of a figure that cover each other."""
    draw(figure)
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    texts = [text for text in texts if text.get_rotation() in (0, 90)]  # the box of a slanted one says little
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    pairs = itertools.combinations(boxes, 2)
    return [(a, b) for (a, box), (b, other) in pairs if box.shrunk(0.9, 0.9).overlaps(other.shrunk(0.9, 0.9))]


def titles(figure: Figure) -> tuple[str, str]:
    axes = figure.axes[0]
    return axes.get_xlabel(), axes.get_ylabel()


@pytest.mark.parametrize("count", [2, 3, 7])
def test_confusion_can_be_read(count: int) -> None:
    sums = np.random.default_rng(1).random((count, count))
    figure = plots.confusion(sums, sums * 12_345, CLASSES[:count], "1,489 events")
    assert overlapping(figure) == []
    assert titles(figure) == ("Class of the highest probability", "True class")


def test_class_without_weight() -> None:
    figure = plots.confusion(np.array([[1.0, 1.0], [0.0, 0.0]]), np.ones((2, 2)), CLASSES[:2], "")
    assert {"50.0%\n1 events", "0.0%\n1 events"} <= {text.get_text() for text in figure.findobj(Text)}


@pytest.mark.parametrize("count", [1, 4, 8])
def test_legend_of_the_roc_covers_no_curve(count: int) -> None:
    random = np.random.default_rng(1)
    truth = random.random(300) < 0.5
    curves = []
    for i in range(count):
        score, weight = random.normal(truth * (1 + i / 2), 1), np.where(random.random(300) < 0.2, -1.0, 1.0)
        curves.append(
            (f"Network (vs {CLASSES[i % 7]})", roc(score, truth, weight), auc(score, truth, weight))
        )
    figure = plots.roc(curves, "300 events")
    draw(figure)
    axes = figure.axes[0]
    legend = axes.get_legend().get_window_extent()
    for line in axes.lines:
        assert not legend.count_contains(axes.transData.transform(line.get_xydata()))
    assert titles(figure) == ("Signal efficiency", "Background efficiency")
    assert axes.get_legend().get_texts()[0].get_text().startswith("Network (vs signal_M600): AUC 0.")


@pytest.mark.parametrize("count", [2, 7])
def test_legend_of_the_scores_covers_no_point(count: int) -> None:
    edges = np.linspace(0, 1, 26)
    values = np.random.default_rng(1).random((count, 25)) / 5
    histograms = [(row, np.sqrt(row) / 10) for row in values]
    figure = plots.scores(edges, CLASSES[:count], histograms, histograms, CLASSES[0], "")
    draw(figure)
    axes = figure.axes[0]
    legend = axes.get_legend().get_window_extent()
    points = np.column_stack([np.tile((edges[1:] + edges[:-1]) / 2, count), values.ravel()])
    assert not legend.count_contains(axes.transData.transform(points))
    assert titles(figure) == ("Probability of signal_M600", "Fraction of events / 0.04")


def test_no_curve() -> None:
    draw(plots.roc([], ""))


def test_number() -> None:
    assert plots.number(Measured(0.94126, 0.00598)) == "0.941 ± 0.006"
    assert plots.number(Measured(None, None)) == "not defined"
