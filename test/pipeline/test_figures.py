"""Every figure of an analysis with two eras, two masses, data, blind bins and regions, and one-sided variations: blind, and unblinded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("data_processing.histograms.stage")
pytest.importorskip("ML_processing.stages")
pytest.importorskip("optuna")
pytest.importorskip("statistical_analysis.stages")

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.collections import Collection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.config.load import load
from MLTools.NanoML.report import figures as report_figures
from MLTools.NanoML.report.figures import in_style
from MLTools.NanoML.report.section import Style, style_of
from MLTools.NanoML.terminal import progress
from services.blinding import unblind_all
from services.points import write_columns

Drawn = tuple[Path, list[Figure], list[Figure]]
pytestmark = pytest.mark.exhaustive("every figure of an analysis with all that can be shown")

CONFIG = """\
workdir: all
eras: {2018: {luminosity: 150, energy: 13}, 2022: {luminosity: 300, energy: 13.6}}
datasets:
  wprime18: {files: wprime18.root, class: wprime, cross_section: 0.002, era: 2018, parameters: {mass: 600}}
  heavy18: {files: heavy18.root, class: wprime, cross_section: 0.001, era: 2018, parameters: {mass: 800}}
  WZ18: {files: WZ18.root, class: WZ, cross_section: 0.03, era: 2018}
  ZG18: {files: ZG18.root, class: ZG, cross_section: 0.01, era: 2018}
  data18: {files: data18.root, data: true, era: 2018}
  wprime22: {files: wprime22.root, class: wprime, cross_section: 0.002, era: 2022, parameters: {mass: 600}}
  heavy22: {files: heavy22.root, class: wprime, cross_section: 0.001, era: 2022, parameters: {mass: 800}}
  WZ22: {files: WZ22.root, class: WZ, cross_section: 0.03, era: 2022}
  ZG22: {files: ZG22.root, class: ZG, cross_section: 0.01, era: 2022}
  data22: {files: data22.root, data: true, era: 2022}
regions: {SR: "tight", CR: "!tight"}
skim: {selection: "mine.py:Loose"}
convert: {features: [m, y]}
train: {model: mlp, epochs: 3, folds: 3, signal: wprime}
evaluate: {data_in: [CR]}
histogram:
  wprime: {bins: {edges: [0, 0.1, 0.4, 0.7, 1]}, regions: [SR]}
  m: {bins: {edges: [0, 50, 100, 200, 500]}, overflow: add, regions: [CR]}
  y: {bins: [6, -3, 3], regions: [CR]}
fit: {channels: {SR: wprime}, parameter: mass, uncertainties: {WZ: 10 %}}
tune: {trials: 2, space: {learning_rate: {low: 0.001, high: 0.01}}}
blind: {regions: [SR], signal_over_root_background: 0.05}
style:
  processes: {wprime: {label: "$W'(600)$"}, ZG: {label: "$Z\\\\gamma$", color: purple}}
  quantities: {m: {label: "$m_{ll}$"}, mass: {label: "$m_{W'}$", unit: GeV}}
"""
SELECTION = """\
import numpy as np
from MLTools.NanoML.selection import Column, Factor, Selection, Weight

class Loose(Selection):
    branches = ["x", "tight"]
    columns = {"m": Column("f4", "mass of the pair [GeV]"), "y": Column("f4", "something without unit"), "tight": Column("?", "tight")}
    weights = {"scale": Weight(), "herwig": Weight(["up"])}

    def select(self, events, cutflow):
        events = cutflow.cut("x above -3", events.x > -3, events)
        tilt = 0.05 * np.asarray(events.x)
        cutflow.weigh("scale", lambda: Factor(1 + 0 * tilt, {"up": 1 + tilt, "down": 1 - tilt}))
        cutflow.weigh("herwig", lambda: Factor(1 + 0 * tilt, {"up": 1 + 0.5 * tilt}))
        return events, {"m": 100 * np.exp(0.5 * events.x), "y": events.x, "tight": events.tight}
"""


def write(directory: Path) -> None:
    (directory / "mine.py").write_text(SELECTION)
    (directory / "a.yaml").write_text(CONFIG)
    shapes = {"wprime": (1.5, 500), "WZ": (0.0, 700), "ZG": (-0.5, 400), "data": (-0.1, 6000), "heavy": (2.0, 200)}
    for number, (name, (mean, count)) in enumerate(shapes.items()):
        for era in (18, 22):
            random = np.random.default_rng(10 * number + era)
            count *= 2 if (name, era) == ("data", 22) else 1
            x, run = random.normal(mean, 1, count).astype(np.float32), 300_000 + era if name == "data" else 1
            write_columns(directory / f"{name}{era}.root", run, x=x, tight=random.random(count) < 0.5)


def say(*arguments: object) -> str:
    progress._notes.clear()
    done = CliRunner().invoke(nanoml, [str(it) for it in arguments])
    assert done.exit_code == 0, f"{done.output}{done.exception!r}"
    return done.output


def laid_out(canvas: FigureCanvasAgg, *_: Any, **options: Any) -> None:
    """Find all places, and paint nothing, which takes longer than all else."""
    renderer = canvas.get_renderer()
    with renderer._draw_disabled():
        canvas.figure.draw(renderer)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, compiled_once: None) -> Iterator[Drawn]:
    """The analysis, its figures, and those after it was unblinded."""
    directory, figures, blind = tmp_path_factory.mktemp("figures"), list[Figure](), list[Figure]()
    write(directory)
    save = report_figures.save

    def named(figure: Figure, stem: Path, numbers: object = None) -> None:
        figure.set_label(stem.name)
        save(figure, stem, numbers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasAgg, "print_png", laid_out)
        patch.setattr(FigureCanvasPdf, "print_pdf", lambda it, *_, **options: figures.append(it.figure))
        patch.setattr(report_figures, "save", named)
        say("run", directory / "a.yaml")
        say("tune", directory / "a.yaml", "--workers", 1)
        say("toys", directory / "a.yaml", "--at", 800, "-n", 2)
        blind += figures
        figures.clear()
        unblind_all(load(directory / "a.yaml"))
        say("run", directory / "a.yaml", "--from", "fill")
        yield directory, blind, figures


def texts(figure: Figure) -> list[str]:
    return [it.get_text() for it in (*figure.texts, *(text for axes in figure.axes for text in axes.texts))]


def told(figure: Figure) -> str:
    return f"{texts(figure)[:3]} {[axes.get_xlabel() for axes in figure.axes]}"


def points_of(axes: Axes) -> np.ndarray:
    """Points on all that is drawn in a plot, in pixels, close to each other."""
    found = [np.empty((0, 2))]
    for artist in (*axes.lines, *axes.patches, *axes.collections):
        transform = artist.get_transform()
        # error bars and bands
        for path in artist.get_paths() if isinstance(artist, Collection) else [artist.get_path()]:
            vertices = transform.transform_path(path).vertices
            found.append(vertices)
            if not isinstance(artist, Line2D) or artist.get_linestyle() != "None":
                steps = np.linspace(0, 1, 50)[:, None]
                found += [start + steps * (end - start) for start, end in zip(vertices, vertices[1:])]
    every = np.concatenate(found)
    return every[np.isfinite(every).all(axis=1)]


def test_each_says_what_it_shows(drawn: Drawn) -> None:
    _, blind, unblinded = drawn
    assert len(blind) > 40
    shown = {axes.get_xlabel() for figure in blind for axes in figure.axes}
    assert {"Epoch", "Trial", "learning_rate", r"Pull of $\mu$", "$m_{W'}$ [GeV]"} <= shown
    for figure in (*blind, *unblinded):
        every = texts(figure)
        assert sum("Private work (CMS" in it for it in every) == 1, told(figure)
        assert sum("TeV)" in it or it.endswith("TeV") for it in every) == 1, told(figure)


def test_each_axis_has_a_name(drawn: Drawn) -> None:
    for figure in (*drawn[1], *drawn[2]):
        for axes in (it for it in figure.axes if it.get_label() != "<colorbar>" and not it.images):
            named = [any(it.get_text() for it in axis.get_ticklabels()) for axis in (axes.xaxis, axes.yaxis)]
            is_shown = axes.xaxis.get_tick_params().get("labelbottom", True)
            if named[0] and is_shown and axes.get_subplotspec().is_last_row():
                assert axes.get_xlabel(), told(figure)
            names = [it.get_text() for it in axes.get_yticklabels()]
            is_numeric = any(it and it[-1].isdigit() for it in names) and not any(it[:1].isalpha() for it in names)
            assert axes.get_ylabel() or not is_numeric, told(figure)
            assert not {axes.get_xlabel(), axes.get_ylabel()} & {"m", "wprime", "Events"}, told(figure)


def test_the_luminosity_is_that_of_what_is_shown(drawn: Drawn) -> None:
    seen = set()
    for figure in drawn[1]:
        every = " ".join(texts(figure))
        found = re.fullmatch(r"(\w+_[SC]R)(_20\d\d)?(_log)?", figure.get_label())
        if found:
            wanted = {"_2018": "150 fb$^{-1}$ (13 TeV)", "_2022": "300 fb$^{-1}$ (13.6 TeV)"}
            assert wanted.get(found[2], "450 fb$^{-1}$ (13, 13.6 TeV)") in every, told(figure)
            seen.add(figure.get_label())
    assert {"m_CR", "m_CR_2022", "prefit_SR_2018", "postfit_SR_2022"} <= seen


def test_a_process_has_one_colour_and_one_name(drawn: Drawn) -> None:
    style: Style = style_of(load(drawn[0] / "a.yaml"))
    names = {style.name(it): to_rgba(style.color(it)) for it in ("wprime", "WZ", "ZG")}
    assert names["$Z\\gamma$"] == to_rgba("purple")
    found = dict.fromkeys(names, 0)
    for figure in (*drawn[1], *drawn[2]):
        for axes in figure.axes:
            for handle, label in zip(*axes.get_legend_handles_labels()):
                assert label not in ("wprime", "ZG"), told(figure)
                name = next((it for it in names if label == it or label.startswith((f"{it}, ", f"{it}: "))), None)
                artist = handle[0] if isinstance(handle, tuple) and not hasattr(handle, "get_color") else handle
                color = artist.get_color() if isinstance(artist, Line2D) else artist.get_facecolor()
                if isinstance(artist, Patch) and not artist.get_fill():
                    color = artist.get_edgecolor()
                if name is not None:
                    assert to_rgba(color)[:3] == names[name][:3], (label, told(figure))
                    found[name] += 1
                elif not label.startswith("Signal"):
                    assert to_rgba(color)[:3] != names["$W'(600)$"][:3], (label, told(figure))
    assert min(found.values()) > 20


@in_style  # texts have the size of the font in which they are drawn
def test_nothing_lies_outside_or_under_a_legend(drawn: Drawn) -> None:
    for figure in (*drawn[1], *drawn[2]):
        renderer = FigureCanvasAgg(figure).get_renderer()
        width, height = figure.bbox.width, figure.bbox.height
        named = [it for axes in figure.axes for it in (*axes.texts, axes.xaxis.label, axes.yaxis.label)]
        legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend() is not None)]
        for it in (*figure.texts, *(it for it in named if it.get_text()), *legends):
            box = it.get_window_extent(renderer)
            assert -2 <= box.x0 <= box.x1 <= width + 2, (it, told(figure))
            assert -2 <= box.y0 <= box.y1 <= height + 2, (it, told(figure))
        for axes in (it for it in figure.axes if it.get_legend() is not None):
            box = axes.get_legend().get_window_extent(renderer)
            x, y = points_of(axes).T
            covered = (box.x0 < x) & (x < box.x1) & (box.y0 < y) & (y < min(box.y1, axes.bbox.y1))
            assert not covered.any(), told(figure)
            assert not any(isinstance(it, AxesImage) for it in axes.get_children()), told(figure)


def test_points_that_are_outside_have_arrows(drawn: Drawn) -> None:
    count = 0
    for figure in (*drawn[1], *drawn[2]):
        for axes in (it for it in figure.axes if it.get_ylabel() == "Data / exp."):
            low, high = axes.get_ylim()
            arrows = {x for it in axes.lines if it.get_marker() in ("^", "v") for x in it.get_xdata()}
            points = [it for it in axes.lines if it.get_marker() == "o"]
            outside = {x for it in points for x, y in zip(*it.get_data()) if not low <= y <= high and np.isfinite(y)}
            assert outside <= arrows, told(figure)
            count += len(points)
    assert count > 10


def test_figures_after_unblinding_have_data_with_prefit_and_postfit(drawn: Drawn) -> None:
    fits = [it.axes[0] for it in drawn[2] if it.get_label().startswith("postfit")]
    assert len(fits) == 4  # of two eras, at two masses
    for axes in fits:
        assert {"Data", "Prefit", "Uncertainty"} <= {*axes.get_legend_handles_labels()[1]}
    blind = [it.axes[0] for it in drawn[1] if re.search("_CR(_20..)?$", it.get_label())]
    assert any("Blind" in axes.get_legend_handles_labels()[1] for axes in blind)


def test_each_has_its_numbers_beside_it(drawn: Drawn) -> None:
    pictures = [*(drawn[0] / "all").rglob("*.png")]
    assert len(pictures) > 30
    for path in pictures:
        assert path.with_suffix(".pdf").exists()
        assert json.loads(path.with_suffix(".json").read_text()), path
