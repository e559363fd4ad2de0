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

from ML_processing.evaluation.data_comparison import Assigned, DataPanel
from ML_processing.evaluation.expected import BinnedOutput, Separation
from ML_processing.evaluation.report import _draw
from ML_processing.evaluation.scored import ClassHistogram
from ML_processing.evaluation.sections.calibration import Calibration, ClassCalibration
from ML_processing.evaluation.sections.cuts import (
    Cut,
    Efficiency,
    FeatureEfficiency,
    SculptedMass,
    SculptedMasses,
    ShapeAfterCut,
)
from ML_processing.evaluation.sections.data import DataComparison
from ML_processing.evaluation.sections.drift import Drift, FeatureDrift
from ML_processing.evaluation.sections.faults import Losses
from ML_processing.evaluation.sections.importance import Importance, InputImportance
from ML_processing.evaluation.sections.inputs import ClassMatrix, Correlations, Distributions, InputShape
from ML_processing.evaluation.sections.regions import RegionResult
from ML_processing.evaluation.sections.regression import Prediction, Predictions, Profile, ResidualShapes
from ML_processing.evaluation.sections.roc import Curve, RocCurves
from ML_processing.evaluation.sections.scores import ClassScores, Confusion, Probabilities, Scores
from ML_processing.evaluation.sections.significance import BestCut, ChosenCut, CrossFit, Significance
from ML_processing.evaluation.sections.stability import EraResult, Eras, Repeat, Repeats
from ML_processing.metrics.distances import Kolmogorov, Sculpting, ShapeTest
from ML_processing.metrics.measured import Histogram, Measured, number
from ML_processing.metrics.roc import Reliability, auc, roc
from ML_processing.metrics.significance import CutScan
from ML_processing.training.description import Epoch
from MLTools.NanoML.report.section import PRIVATE_WORK
from MLTools.NanoML.report.stack import Observed
from services.evaluations import evaluation

pytestmark = pytest.mark.exhaustive("each section and answer of the report")

CLASSES = ["signal_M600", "WZTo3LNu", "ZGToLLG", "DYJetsToLL", "TTTo2L2Nu", "ZZTo4L", "rare"]


class Recorder(RendererAgg):
    """Draws a figure, and remembers its texts: matplotlib keeps more of them than it draws."""

    def __init__(self, figure: Figure) -> None:
        super().__init__(*figure.bbox.size, figure.dpi)
        self.texts: list[Text] = []

    def draw_text(self, gc: Any, x: Any, y: Any, s: str, *args: Any, mtext: Text | None = None, **options: Any) -> None:
        if mtext is not None and s.strip():
            self.texts.append(mtext)


def draw(figure: Figure) -> list[Text]:
    renderer = Recorder(figure)
    with plt.style.context(mplhep.style.CMS):  # fonts are found when a figure is drawn
        figure.draw(renderer)
    return renderer.texts


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Texts of a figure that cover each other."""
    texts = [text for text in draw(figure) if text.get_rotation() in (0, 90)]  # the box of a slanted one says little
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    pairs = itertools.combinations(boxes, 2)
    return [(a, b) for (a, box), (b, other) in pairs if box.shrunk(0.9, 0.9).overlaps(other.shrunk(0.9, 0.9))]


def titles(figure: Figure) -> tuple[str, str]:
    axes = figure.axes[0]
    return axes.get_xlabel(), axes.get_ylabel()


def shape(bins: int, seed: int = 1) -> Histogram:
    values = np.random.default_rng(seed).random(bins)
    return Histogram(values / values.sum(), np.sqrt(values) / 50)


def by_class(count: int, bins: int = 25) -> list[ClassHistogram]:
    return [ClassHistogram(CLASSES[i], shape(bins, i)) for i in range(count)]


def features(panels: int, classes: int = 3) -> Distributions:
    edges = np.linspace(0, 1, 26)
    shown, label = by_class(classes), "LeadingLepton{}_pt [GeV]"
    shapes = [InputShape(f"f{i}", label.format(i), edges, 0.1 * (i == 0), shown) for i in range(panels)]
    return Distributions(shapes, 40 if panels > 1 else 1, 12_345)


def efficiency() -> Efficiency:
    edges = np.array([0.0, 10, 20, 30, 40, 50, 60, 80, 2000])
    found = [FeatureEfficiency("", f"LeadingLepton{i}_pt [GeV]", edges, by_class(3, 8)) for i in range(12)]
    found[0].classes[1].bins.values[3] = found[0].classes[1].bins.errors[3] = np.nan
    return Efficiency(0.5, found, 12, 12_345)


def sculpting(masses: int = 2, backgrounds: int = 3) -> SculptedMasses:
    after = [ShapeAfterCut(shape(20, i), 100, Sculpting(0.01 * i if i else None)) for i in range(3)]
    edges = np.linspace(50, 150, 21)
    pairs = itertools.product(range(masses), CLASSES[1 : backgrounds + 1])
    panels = [SculptedMass("", f"Candidate{i}_mass [GeV]", it, edges, shape(20), after) for i, it in pairs]
    return SculptedMasses([Cut(0.1 * i, 0.5 / (i + 1)) for i in range(3)], panels, 7, 12_345)


def drift() -> Drift:
    edges, test = np.linspace(0, 1, 26), Kolmogorov(0.1, 0.5)
    panels = [FeatureDrift(f"f{i}", f"f{i}_pt [GeV]", test, (0, 0), edges, shape(25), shape(25, 2)) for i in range(15)]
    return Drift([], 1000, 2000, panels)


def data_panel(i: int, classes: int, bins: int = 20) -> DataPanel:
    random, edges = np.random.default_rng(i), np.linspace(0, 1, bins + 1)
    expected = random.exponential(20, (classes, bins))
    found = [ClassHistogram(CLASSES[k], Histogram(it, np.sqrt(it) / 3)) for k, it in enumerate(expected)]
    counts = random.poisson(expected[1:].sum(axis=0)).astype(float)
    test = ShapeTest(20.0, 19, 0.0123) if i else ShapeTest()
    return DataPanel(f"v{i}", f"LeadingLepton{i}_pt [GeV]", edges, Observed.of(counts), found, test)


def data_comparison(inputs: int, classes: int) -> DataComparison:
    panels_ = [data_panel(i, classes) for i in range(inputs)]
    one = Measured(1.0, 0.1)
    assigned = [Assigned(CLASSES[i], 10, one, one, data_panel(i, classes, 10), {}) for i in range(classes)]
    measured = Measured(1000.0, 10.0), Measured(1.0, 0.03)
    shown = panels_, [it.score for it in assigned], assigned, None
    return DataComparison("a", [], ["SR"], 0.5, 123_456, 123_456, *measured, CLASSES[0], 0.1, True, 59.8, *shown)


def probabilities(count: int) -> Probabilities:
    edges = np.linspace(0, 1, 26)
    classes = [ClassScores(CLASSES[i], shape(25, i), shape(25, i), None) for i in range(count)]
    return Probabilities([Scores(it, f"Probability of {it}", edges, classes, 1489) for it in CLASSES[:count]])


def eras(count: int, classes: int) -> Eras:
    names, edges = CLASSES[:classes], np.linspace(0, 1, 21)
    shown = BinnedOutput("Probability of signal", edges, [ClassHistogram(it, shape(20)) for it in names])
    areas = [Separation(Measured(0.8 + 0.01 * i, 0.01), {}) for i in range(count)]
    found = {f"202{i}": EraResult({}, area, shown, 100) for i, area in enumerate(areas)}
    return Eras(found, Measured(0.81, 0.005), 0.012, True, names)


def repeats(seeds: int, shares: int) -> Repeats:
    area, undefined = Measured(0.9, 0.01), Measured(None, None)
    found = [Repeat(i, 1000, area) for i in range(1, seeds + 1)]
    curve = [Repeat(1, 30 * 3**i, area) for i in range(shares)]
    return Repeats(found, Measured(0.003, 0.001), 0.05, curve, area if curve else undefined)


def importance(rows: int) -> Importance:
    names = [(i, f"SomeCollection{i}_quantity", i % 7 == 3) for i in range(rows)]
    inputs = [InputImportance(name, whole, 0.01 * i, 1e-3, None if whole else 0.2 * i) for i, name, whole in names]
    return Importance(inputs, 1000, 5)


def correlations(columns: int, classes: int) -> Correlations:
    matrix = np.corrcoef(np.random.default_rng(1).random((columns, 10)))
    names = [f"ThreeLep_quantity{i}" for i in range(columns)]
    return Correlations(names, [ClassMatrix(name, matrix) for name in CLASSES[:classes]], columns - 1, 1000)


def region(panels: int, classes: int) -> RegionResult:
    edges = np.linspace(0, 1, 26)
    shown = [BinnedOutput(f"Probability of {CLASSES[i]}", edges, by_class(classes)) for i in range(panels)]
    shown[0].classes[1].bins.values[:5] *= -1  # more is subtracted than there is
    return RegionResult("", True, {}, Separation(Measured(None, None), {}), CLASSES[0], shown, 1000, True)


def calibration(count: int) -> Calibration:
    steps = np.linspace(0.05, 0.95, 10)
    curve = Reliability(steps, steps, np.full(10, 0.02), np.full(10, 0.1), 0.01, 0.02)
    classes = [ClassCalibration(name, curve) for name in CLASSES[:count]]
    return Calibration(classes, [ClassCalibration("discriminant wprime", curve)], 1000)


def significance() -> Significance:
    cuts = np.linspace(0, 1, 101)
    plain = 5 * np.sqrt(cuts) * (1 - cuts) + 1
    scan = CutScan(cuts, cuts, cuts, plain, 0.1 * plain, 0.8 * plain, cuts < 0.9)
    halves = [ChosenCut("even", 0.31, 3.4, 0.3), ChosenCut("odd", 0.38, 3.1, 0.2)]
    best, tested = BestCut(0.34, *[1.0] * 7), CrossFit(3.25, 0.2, halves)
    return Significance("probability of signal_M600", True, best, tested, 1.0, scan, 1000)


def confusion(count: int) -> Confusion:
    sums = np.random.default_rng(1).random((count, count))
    return Confusion(CLASSES[:count], sums, sums * 12_345, 1489)


def predictions(targets: int) -> Predictions:
    edges, bins = np.linspace(100, 900, 26), np.linspace(-50, 50, 41)
    sums = np.random.default_rng(1).random((25, 25)) - 0.2
    means = [1.0, 0, -1, None], [0.5, 0.5, 0.5, None]
    profile = Profile(np.array([100.0, 200, 300, 400, 9000]), *means, [10.0, 11, 12, 13], [1.0] * 4)
    rest = (edges, sums, profile, bins, *[shape(40)] * 3, 0.5)
    return Predictions([Prediction("", f"Candidate{i}_mass [GeV]", *rest) for i in range(targets)], 1000)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: confusion(7).draw(PRIVATE_WORK), id="confusion-7"),
        pytest.param(lambda: calibration(3).draw(PRIVATE_WORK), id="calibration"),
        pytest.param(lambda: significance().draw(PRIVATE_WORK), id="significance"),
        pytest.param(lambda: efficiency().draw(PRIVATE_WORK), id="efficiency"),
        pytest.param(lambda: sculpting().draw(PRIVATE_WORK), id="sculpting"),
        pytest.param(lambda: sculpting(1, 1).draw(PRIVATE_WORK), id="sculpting-1"),
        pytest.param(lambda: features(1).draw(PRIVATE_WORK), id="features-1"),
        pytest.param(lambda: features(10, 7).draw(PRIVATE_WORK), id="features-10"),
        pytest.param(lambda: importance(40).draw(PRIVATE_WORK), id="importance-40"),
        pytest.param(lambda: correlations(25, 4).draw(PRIVATE_WORK), id="correlations-25"),
        pytest.param(lambda: drift().draw(PRIVATE_WORK), id="drift"),
        pytest.param(lambda: probabilities(7).draw(PRIVATE_WORK), id="probabilities-7"),
        pytest.param(lambda: eras(6, 7).draw(PRIVATE_WORK), id="eras-6"),
        pytest.param(lambda: repeats(6, 4).draw(PRIVATE_WORK), id="repeats-6"),
        pytest.param(lambda: data_comparison(1, 2).draw_inputs(PRIVATE_WORK), id="data-1"),
        pytest.param(lambda: data_comparison(30, 4).draw_inputs(PRIVATE_WORK), id="data-30"),
        pytest.param(lambda: data_comparison(1, 7).draw_scores(PRIVATE_WORK), id="data-scores-7"),
        pytest.param(lambda: region(7, 7).draw(PRIVATE_WORK), id="region-7"),
        pytest.param(lambda: predictions(2).draw(PRIVATE_WORK), id="predictions"),
        pytest.param(lambda: ResidualShapes(predictions(2)).draw(PRIVATE_WORK), id="residuals"),
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
    assert titles(features(2).draw(PRIVATE_WORK)) == ("f0 [GeV]", "Fraction")
    assert titles(confusion(2).draw(PRIVATE_WORK)) == ("Class of the highest probability", "True class")
    assert titles(efficiency().draw(PRIVATE_WORK)) == ("LeadingLepton0_pt [GeV]", "Efficiency")
    assert titles(predictions(1).draw(PRIVATE_WORK))[0] == "True Candidate0_mass [GeV]"


def test_an_error_far_above_all_efficiencies_does_not_hide_them() -> None:
    content = efficiency()
    content.features[0].classes[0].bins.errors[2] = 4500
    assert 1 < content.draw(PRIVATE_WORK).axes[0].get_ylim()[1] < 1.5


def test_class_without_weight() -> None:
    content = Confusion(CLASSES[:2], np.array([[1.0, 1.0], [0.0, 0.0]]), np.ones((2, 2)), 2)
    figure = content.draw(PRIVATE_WORK)
    assert {"50.0 %\n1 events", "0.0 %\n1 events"} <= {text.get_text() for text in figure.findobj(Text)}


@pytest.mark.parametrize("count", [1, 4, 8])
def test_legend_of_the_roc_covers_no_curve(count: int) -> None:
    random = np.random.default_rng(1)
    truth = random.random(300) < 0.5
    curves = []
    for i in range(count):
        score, weight = random.normal(truth * (1 + i / 2), 1), np.where(random.random(300) < 0.2, -1.0, 1.0)
        curve, area = roc(score, truth, weight), auc(score, truth, weight)
        curves.append(Curve(f"Network (vs {CLASSES[i % 7]})", curve.signal, curve.background, area))
    figure = RocCurves(curves, True, None, 300).draw(PRIVATE_WORK)
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
    classes = [ClassScores(CLASSES[i], shape(25, i), shape(25, i), 0.012) for i in range(count)]
    figure = Scores(CLASSES[0], "Discriminant wprime", edges, classes, 1489).draw(PRIVATE_WORK)
    draw(figure)
    axes = figure.axes[0]
    legend = axes.get_legend().get_window_extent()
    values = np.concatenate([it.test.values for it in classes])
    points = np.column_stack([np.tile((edges[1:] + edges[:-1]) / 2, count), values])
    assert not legend.count_contains(axes.transData.transform(points))
    assert titles(figure) == ("Discriminant wprime", "Fraction of events / 0.04")
    assert overlapping(figure) == []


def test_no_curve() -> None:
    draw(RocCurves([], False, None, 0).draw(PRIVATE_WORK))


def test_what_is_not_there_is_not_drawn(tmp_path: Path) -> None:
    for kind in ("png", "json"):
        (tmp_path / f"drift.{kind}").write_bytes(b"of an earlier evaluation")
    losses = Losses([[Epoch(1, 1.0, 1.1, 0.1, None)]], False)
    content = {Distributions: features(1), Drift: None, Importance: importance(0), Losses: losses}
    assert _draw(evaluation(content), PRIVATE_WORK, tmp_path, ()) == ["features", "loss"]
    files = {f"{name}.{kind}" for name in ("features", "loss") for kind in ("json", "pdf", "png")}
    assert {path.name for path in tmp_path.iterdir()} == files


def test_number() -> None:
    assert number(Measured(0.94126, 0.00598)) == "0.9413 ± 0.0060"
    assert number(Measured(None, None)) == "not defined"
