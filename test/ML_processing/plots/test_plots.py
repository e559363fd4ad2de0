from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import mplhep
import numpy as np
import pytest
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from ML_processing import plots
from ML_processing.metrics.measured import Measured
from ML_processing.metrics.roc import auc, roc
from ML_processing.plots import panels, single
from ML_processing.training.description import Epoch

CLASSES = ["signal_M600", "WZTo3LNu", "ZGToLLG", "DYJetsToLL", "TTTo2L2Nu", "ZZTo4L", "rare"]


class Recorder(RendererAgg):
    """Draws a figure, and remembers its texts: matplotlib keeps more of them than it draws."""

    def __init__(self, figure: Figure) -> None:
        super().__init__(*figure.bbox.size, figure.dpi)
        self.texts: list[Text] = []

    def draw_text(
        self, gc: Any, x: float, y: float, s: str, *args: Any, mtext: Text | None = None, **options: Any
    ) -> None:
        if mtext is not None and s.strip():
            self.texts.append(mtext)


def draw(figure: Figure) -> list[Text]:
    renderer = Recorder(figure)
    with plt.style.context(mplhep.style.CMS):  # fonts are found when a figure is drawn
        figure.draw(renderer)
    return renderer.texts


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Texts of a figure that cover each other."""
    texts = draw(figure)
    texts = [text for text in texts if text.get_rotation() in (0, 90)]  # the box of a slanted one says little
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    pairs = itertools.combinations(boxes, 2)
    return [(a, b) for (a, box), (b, other) in pairs if box.shrunk(0.9, 0.9).overlaps(other.shrunk(0.9, 0.9))]


def titles(figure: Figure) -> tuple[str, str]:
    axes = figure.axes[0]
    return axes.get_xlabel(), axes.get_ylabel()


def shape(bins: int, seed: int = 1) -> dict[str, list[float]]:
    values = np.random.default_rng(seed).random(bins)
    return {"values": (values / values.sum()).tolist(), "errors": (np.sqrt(values) / 50).tolist()}


def by_class(count: int, bins: int = 25) -> list[dict[str, Any]]:
    return [{"name": CLASSES[i], **shape(bins, i)} for i in range(count)]


def features(panels: int, classes: int = 3) -> dict[str, Any]:
    edges = np.linspace(0, 1, 26).tolist()
    return {
        "events": 12_345,
        "panels": [
            {
                "name": f"f{i}",
                "label": f"LeadingLepton{i}_pt [GeV]",
                "edges": edges,
                "missing": 0.1 * (i == 0),
                "classes": by_class(classes),
            }
            for i in range(panels)
        ],
    }


def efficiency() -> dict[str, Any]:
    edges = [0.0, 10, 20, 30, 40, 50, 60, 80, 2000]
    panels = [{"label": f"LeadingLepton{i}_pt [GeV]", "edges": edges, "classes": by_class(3, 8)} for i in range(12)]
    panels[0]["classes"][1]["values"][3] = panels[0]["classes"][1]["errors"][3] = None
    return {"events": 12_345, "score_at_least": 0.5, "features": panels}


def sculpting(masses: int = 2, backgrounds: int = 3) -> dict[str, Any]:
    after = [{**shape(20, i), "jensen_shannon": 0.01 * i if i else None} for i in range(3)]
    cuts = [{"score_at_least": 0.1 * i, "background_efficiency": 0.5 / (i + 1)} for i in range(3)]
    panels = [
        {
            "label": f"Candidate{mass}_mass [GeV]",
            "background": CLASSES[i + 1],
            "edges": np.linspace(50, 150, 21).tolist(),
            "before": shape(20),
            "after": after,
        }
        for mass in range(masses)
        for i in range(backgrounds)
    ]
    return {"events": 12_345, "cuts": cuts, "panels": panels}


def drift() -> dict[str, Any]:
    edges = np.linspace(0, 1, 26).tolist()
    panels = [
        {
            "label": f"f{i}_pt [GeV]",
            "edges": edges,
            "training": shape(25),
            "other": shape(25, 2),
            "stability_index": 0.1,
        }
        for i in range(15)
    ]
    return {"events": 1000, "other_events": 2000, "without_signal": True, "panels": panels}


def importance(rows: int) -> dict[str, Any]:
    inputs = [
        {
            "name": f"SomeCollection{i}_quantity",
            "collection": i % 7 == 3,
            "loss": 0.01 * i,
            "error": 0.001,
            "attribution": None if i % 7 == 3 else 0.2 * i,
        }
        for i in range(rows)
    ]
    return {"events": 1000, "inputs": inputs}


def correlations(columns: int, classes: int) -> dict[str, Any]:
    matrix = np.corrcoef(np.random.default_rng(1).random((columns, 10)))
    names = [f"ThreeLep_quantity{i}" for i in range(columns)]
    return {
        "events": 1000,
        "columns": names,
        "classes": [{"name": name, "matrix": matrix.tolist()} for name in CLASSES[:classes]],
    }


def calibration(count: int) -> dict[str, Any]:
    steps = np.linspace(0.05, 0.95, 10).tolist()
    return {
        "events": 1000,
        "classes": [
            {
                "name": name,
                "predicted": steps,
                "observed": steps,
                "error": [0.02] * 10,
                "expected_calibration_error": 0.01,
                "by_chance": 0.02,
            }
            for name in CLASSES[:count]
        ],
    }


def significance() -> dict[str, Any]:
    cuts = np.linspace(0, 1, 101)
    plain = 5 * np.sqrt(cuts) * (1 - cuts) + 1
    return {
        "events": 1000,
        "physical": True,
        "cuts": cuts.tolist(),
        "plain": plain.tolist(),
        "plain_error": (0.1 * plain).tolist(),
        "significance": (0.8 * plain).tolist(),
        "usable": (cuts < 0.9).tolist(),
        "best": {"score_at_least": 0.34},
    }


def confusion(count: int) -> dict[str, Any]:
    sums = np.random.default_rng(1).random((count, count))
    return {"events": 1489, "classes": CLASSES[:count], "weights": sums.tolist(), "counts": (sums * 12_345).tolist()}


def predictions(targets: int) -> dict[str, Any]:
    edges, bins = np.linspace(100, 900, 26), np.linspace(-50, 50, 41).tolist()
    sums = np.random.default_rng(1).random((25, 25)) - 0.2
    profile = {"edges": [100.0, 200, 300, 400, 9000], "bias": [1.0, 0, -1, None], "bias_error": [0.5, 0.5, 0.5, None]}
    profile |= {"resolution": [10.0, 11, 12, 13], "resolution_error": [1.0, 1, 1, 1]}
    panel = {"edges": edges.tolist(), "sums": sums.tolist(), "profile": profile, "residual_edges": bins}
    panel |= {name: shape(40) for name in ("test", "trees", "training")}
    return {"events": 1000, "panels": [{**panel, "label": f"Candidate{i}_mass [GeV]"} for i in range(targets)]}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: single.confusion(confusion(2)), id="confusion-2"),
        pytest.param(lambda: single.confusion(confusion(7)), id="confusion-7"),
        pytest.param(lambda: single.calibration(calibration(3)), id="calibration"),
        pytest.param(lambda: single.significance(significance()), id="significance"),
        pytest.param(lambda: panels.efficiency(efficiency()), id="efficiency"),
        pytest.param(lambda: panels.sculpting(sculpting()), id="sculpting"),
        pytest.param(lambda: panels.sculpting(sculpting(1, 1)), id="sculpting-1"),
        pytest.param(lambda: panels.features(features(1)), id="features-1"),
        pytest.param(lambda: panels.features(features(10, 7)), id="features-10"),
        pytest.param(lambda: panels.importance(importance(4)), id="importance-4"),
        pytest.param(lambda: panels.importance(importance(40)), id="importance-40"),
        pytest.param(lambda: panels.correlations(correlations(8, 3)), id="correlations-8"),
        pytest.param(lambda: panels.correlations(correlations(25, 4)), id="correlations-25"),
        pytest.param(lambda: panels.drift(drift()), id="drift"),
        pytest.param(lambda: panels.predictions(predictions(2)), id="predictions"),
        pytest.param(lambda: panels.residuals(predictions(2)), id="residuals"),
    ],
)
def test_no_text_covers_another(make: Callable[[], Figure]) -> None:
    figure = make()
    assert overlapping(figure) == []
    page = figure.bbox.padded(1)
    for axes in figure.axes:
        for text in (axes.xaxis.label, axes.yaxis.label):
            if text.get_text():
                box = text.get_window_extent()
                assert page.count_contains([(box.x0, box.y0), (box.x1, box.y1)]) == 2


def test_titles_have_units() -> None:
    assert titles(panels.features(features(2))) == ("LeadingLepton0_pt [GeV]", "Fraction")
    assert titles(single.confusion(confusion(2))) == ("Class of the highest probability", "True class")
    assert titles(panels.efficiency(efficiency())) == ("LeadingLepton0_pt [GeV]", "Efficiency")
    assert titles(panels.predictions(predictions(1)))[0] == "True Candidate0_mass [GeV]"


def test_class_without_weight() -> None:
    content = {"events": 2, "classes": CLASSES[:2], "weights": [[1.0, 1.0], [0.0, 0.0]], "counts": np.ones((2, 2))}
    figure = single.confusion(content)
    assert {"50.0%\n1 events", "0.0%\n1 events"} <= {text.get_text() for text in figure.findobj(Text)}


@pytest.mark.parametrize("count", [1, 4, 8])
def test_legend_of_the_roc_covers_no_curve(count: int) -> None:
    random = np.random.default_rng(1)
    truth = random.random(300) < 0.5
    curves = []
    for i in range(count):
        score, weight = random.normal(truth * (1 + i / 2), 1), np.where(random.random(300) < 0.2, -1.0, 1.0)
        curve, area = roc(score, truth, weight), auc(score, truth, weight)
        curves.append(
            {
                "label": f"Network (vs {CLASSES[i % 7]})",
                "signal": curve.signal,
                "background": curve.background,
                "auc": area.value,
                "auc_error": area.error,
            }
        )
    figure = single.roc({"curves": curves, "band": None, "events": 300})
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
    classes = [
        {"name": CLASSES[i], "training": shape(25, i), "test": shape(25, i), "probability": 0.012} for i in range(count)
    ]
    figure = single.scores({"edges": edges.tolist(), "signal": CLASSES[0], "classes": classes, "events": 1489})
    draw(figure)
    axes = figure.axes[0]
    legend = axes.get_legend().get_window_extent()
    values = np.concatenate([it["test"]["values"] for it in classes])
    points = np.column_stack([np.tile((edges[1:] + edges[:-1]) / 2, count), values])
    assert not legend.count_contains(axes.transData.transform(points))
    assert titles(figure) == ("Probability of signal_M600", "Fraction of events / 0.04")
    assert overlapping(figure) == []


def test_no_curve() -> None:
    draw(single.roc({"curves": [], "band": None, "events": 0}))


def test_what_is_not_there_is_not_drawn(tmp_path: Path) -> None:
    (tmp_path / "drift.png").write_bytes(b"of an earlier evaluation")
    histories = [[Epoch(1, 1.0, 1.1, 0.1, None)]]
    content = {"task": "classification", "plots": {"features": features(1), "drift": None, "importance": importance(0)}}
    assert plots.draw(content, histories, tmp_path) == ["features", "loss"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.pdf", "features.png", "loss.pdf", "loss.png"]


def test_number() -> None:
    assert plots.number(Measured(0.94126, 0.00598)) == "0.941 ± 0.006"
    assert plots.number(Measured(None, None)) == "not defined"
