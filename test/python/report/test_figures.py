from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("mplhep")

import mplhep
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch
from scipy.stats import poisson

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.config.analysis import ProcessLook, QuantityLook
from MLTools.NanoML.report.figures import Figures, grid, in_style, legend_above, save, single, small, with_ratio
from MLTools.NanoML.report.section import PRIVATE_WORK, Beams, Style
from MLTools.NanoML.report.stack import Bins, Drawn, Observed, Stack, draw_ratio, draw_stack


@in_style
def test_all_figures_say_what_they_show() -> None:
    for has_data, text in ((True, "data/simulation"), (False, "simulation")):
        expected = f"Private work (CMS {text})"
        assert expected in [it.get_text() for it in single(PRIVATE_WORK, "13 TeV", has_data=has_data)[1].texts]
        assert expected in [it.get_text() for it in with_ratio(PRIVATE_WORK, "13 TeV", has_data)[1].texts]
        found = [it.get_text() for it in small(PRIVATE_WORK, (4, 4), "13 TeV", has_data).texts]
        assert found == [f"{expected}, 13 TeV"]
    example = Style("Example", eras={"": Beams(59.8, 13)})
    assert [it.get_text() for it in single(example, "9 events")[1].texts] == ["Example", "9 events (13 TeV)"]
    assert [it.get_text() for it in small(example, (4, 4), "").texts] == ["Example, 13 TeV"]


def test_cms_stands_before_the_label_if_it_may() -> None:
    for label, has_data, text in (("", True, ""), ("Pre", True, " Pre"), ("Pre", False, " Simulation Pre")):
        assert Style(label, is_cms=True).shown(has_data) == f"$\\mathbf{{CMS}}${text}"


def test_luminosities_are_rounded_as_cms_does() -> None:
    style = Style(eras={"2018": Beams(59.83, 13), "2022": Beams(8, 13.6), "2017": Beams(41.48, 13)})
    assert style.conditions({"2022": (8.0, 8.0)}) == "8.0 fb$^{-1}$ (13.6 TeV)"
    assert style.conditions({"2018": (5.983, 59.83)}) == "6.0 to 59.8 fb$^{-1}$ (13 TeV)"
    assert style.conditions() == "109 fb$^{-1}$ (13, 13.6 TeV)"
    assert style.conditions({"2018": ()}) == "(13 TeV)"
    assert style.conditions({"2018": (0.0123, 0.0123)}) == "0.012 fb$^{-1}$ (13 TeV)"
    assert Style().conditions() == ""


def test_each_process_has_one_colour_and_the_signal_alone_is_red() -> None:
    for names in ("abcs", "abcdefghijs"):
        style = Style(processes={"b": ProcessLook("B", "blue")}).with_processes(names, "s")
        colors = {name: style.color(name) for name in names}
        assert colors["b"] == "blue"
        assert style.name("b") == "B"
        assert colors["s"] in ("#e42536", "#bd1f01")
        assert len({*colors.values()}) == len(names)
        assert list(colors.values()).count(colors["s"]) == 1
        assert style.with_processes(names, "s") == style


def test_quantities_are_called_by_the_user_or_by_their_titles() -> None:
    style = Style(quantities={"m": QuantityLook("$m$"), "x": QuantityLook("", "TeV"), "d": QuantityLook("d", "")})
    assert style.axis("m", "mass of it [GeV]") == "$m$ [GeV]"
    assert style.axis("x") == "x [TeV]"
    assert style.axis("d", "distance [cm]") == "d"
    assert style.axis("y", "mass of it [GeV]") == "Mass of it [GeV]"
    assert style.axis("MET_pt", "pt") == "MET_pt [GeV]"
    assert style.axis("y", f"a {'very ' * 10} long title [cm]") == "y [cm]"


def test_the_order_of_the_user_decides_who_lies_on_whom() -> None:
    sizes = {"a": 3.0, "b": 1.0, "c": 2.0}
    assert Style().from_bottom(sizes) == ["b", "c", "a"]
    assert Style(stacked=("b", "c")).from_bottom(sizes) == ["a", "c", "b"]


@pytest.mark.parametrize("scale", ["linear", "log"])
@in_style
def test_a_legend_lies_above_all_that_is_drawn(scale: str) -> None:
    _, axes = single(PRIVATE_WORK, "")
    axes.stairs([1.0, 100.0], [0, 1, 2], label="Events")
    axes.axvspan(0, 1, hatch="xx")
    axes.set_yscale(scale)
    axes.set_ylim(0.1, 110)
    legend_above(axes, title="two\nlines")
    box = axes.get_legend().get_window_extent().transformed(axes.transAxes.inverted())
    top = axes.transAxes.inverted().transform(axes.transData.transform((0, 110)))[1]
    assert top < box.y0
    assert axes.patches[1].get_height() < box.y0


@in_style
def test_a_long_name_of_an_axis_is_made_smaller(tmp_path: Path) -> None:
    figure, (axes, *_) = grid(PRIVATE_WORK, 4, "")
    axes.set_xlabel("Transverse momentum of the lepton of the W [GeV]")
    save(figure, tmp_path / "a", {"x": 1})
    assert axes.xaxis.label.get_window_extent().width <= axes.get_window_extent().width
    assert (tmp_path / "a.json").read_text() == '{\n "x": 1\n}\n'


@in_style
def test_a_grid_has_as_many_panels_as_asked_for(tmp_path: Path) -> None:
    figure, panels = grid(PRIVATE_WORK, 5, "", 3)
    assert figure.axes == panels
    assert len(panels) == 5
    save(figure, tmp_path / "a.b")
    assert (tmp_path / "a.b.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.b.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(("largest", "power"), [(2e7, "  [$10^{7}$]"), (99_000, ""), (0.0004, "  [$10^{-4}$]")])
@in_style
def test_a_power_of_ten_is_in_the_name_of_the_axis(tmp_path: Path, largest: float, power: str) -> None:
    figure, axes = single(PRIVATE_WORK, "13 TeV")
    axes.set(xlim=(0, largest), xlabel="Events", ylim=(0, largest), ylabel="Events")
    save(figure, tmp_path / "a")
    for axis in (axes.xaxis, axes.yaxis):
        assert axis.get_label_text().replace("\u2212", "-") == f"Events{power}"
        assert axis.get_offset_text().get_visible() == (not power)


def test_some_figures_are_drawn_and_the_others_stay(tmp_path: Path) -> None:
    def draw(text: str) -> Figure:
        return single(Style(label=text), "")[0]

    def never() -> Figure:
        raise AssertionError

    every = Figures(tmp_path)
    for name in ("roc", "scores", "eras"):
        every.add(name, partial(draw, "before"), {"n": 1})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    some = Figures(tmp_path, ["roc", "eras"])
    some.add("roc", partial(draw, "after"), {"n": 2})
    some.add("scores", never, {"n": 2})
    some.add("new", never, {"n": 2})
    some.add("eras", lambda: None, {"n": 2})
    assert (every.names, some.names) == (["roc", "scores", "eras"], ["roc", "scores"])
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert [*sorted(after)] == [f"{name}.{kind}" for name in ("roc", "scores") for kind in ("json", "pdf", "png")]
    assert {name.split(".")[0] for name in after if after[name] != before[name]} == {"roc"}


def test_intervals_are_those_of_the_tables() -> None:
    found = Observed.of([0, 1, 10])
    assert found.low == pytest.approx([0, 0.173, 6.891], abs=1e-3)
    assert found.high == pytest.approx([1.841, 3.300, 14.267], abs=1e-3)


@given(st.integers(0, 2000), st.floats(0.5, 0.99))
def test_an_end_is_the_mean_for_which_the_count_is_at_its_tail(count: int, coverage: float) -> None:
    found = Observed.of([count], coverage)
    (low,), (high,) = found.low, found.high
    tail = (1 - coverage) / 2
    assert poisson.cdf(count, high) == pytest.approx(tail, rel=1e-6)
    assert low == 0 if count == 0 else poisson.sf(count - 1, low) == pytest.approx(tail, rel=1e-6)


def stack(data: Optional[list[float]] = None) -> Stack:
    small = np.array([1.0, 0.0, 2.0, 1.0, 1.0])
    processes = [Drawn("small", small, "C0"), Drawn("large", 9 * small, "C1")]
    observed = None if data is None else Observed.of(data)
    error, line = np.array([1.0, 0.0, 4.0, 1.0, 1.0]), Drawn("signal", np.full(5, 0.5), "C2")
    return Stack(Bins(np.array([0.0, 1.0, 2.0, 4.0, 5.0, 6.0]), "GeV"), processes, error, "Error", line, observed)


def test_processes_lie_on_each_other() -> None:
    axes = Figure().subplots()
    content = stack([10, 0, 25, 10, 10])
    draw_stack(axes, content)
    assert content.expected.tolist() == [10, 0, 20, 10, 10]
    assert axes.get_legend_handles_labels()[1] == ["small", "large", "Error", "signal", "Data"]
    assert 25 / 2 < axes.get_ylim()[1] < 25  # of a bin of two GeV


@pytest.mark.parametrize("content", [stack([0] * 5), Stack(Bins(np.arange(4.0)), [], np.zeros(3), "Error")])
def test_a_logarithmic_axis_needs_positive_ends(content: Stack) -> None:
    axes = Figure().subplots()
    draw_stack(axes, content, logarithmic=True)
    assert 0 < axes.get_ylim()[0] < axes.get_ylim()[1]


@pytest.mark.parametrize(
    ("data", "limits", "arrows"),
    [
        (None, (0.74, 1.26), []),
        ([10, 3, 20, 10, 10], (0.3, 1.7), [(1.5, "^")]),  # nothing is expected there
        *(([10, 0, 20, 10, 10], (0.3, 1.7), []), ([10, 0, 0, 10, 10], (0.3, 1.7), [(3.0, "v")])),
        ([2, 0, 20, 10, 10], (0.3, 1.7), [(0.5, "v")]),  # though 2 + 2.6 where 10 are expected are inside
        ([90, 0, 90, 10, 10], (0.0, 5.0), [(0.5, "^")]),
    ],
)
def test_points_beyond_are_arrows(data: Optional[list[float]], limits: tuple[float, float], arrows: list[Any]) -> None:
    axes = Figure().subplots()
    draw_ratio(axes, stack(data))
    assert axes.get_ylim() == pytest.approx(limits)
    found = [(x, it.get_marker()) for it in axes.lines if it.get_marker() in ("^", "v") for x in it.get_xdata()]
    assert found == arrows


@pytest.mark.parametrize(
    ("edges", "unit", "drawn", "each"),
    [
        ([0, 5, 10, 15], "GeV", [0, 5, 10, 15], "5 GeV"),
        ([0, 5, 10, 20], "GeV", [0, 5, 10, 20], "GeV"),  # divided by the width
        ([0, 5, 10, 20], "", [0, 1, 2, 3], "bin"),  # a score: there is nothing to divide by
        ([0, 0.001, 10, 20], "GeV", [0, 1, 2, 3], "bin"),  # it could not be seen
        ([0, 0.5, 1], "", [0, 0.5, 1], "0.5"),
    ],
)
def test_the_axis_says_what_bins_are_counted_for(edges: list[float], unit: str, drawn: list[float], each: str) -> None:
    bins = Bins(np.array(edges, float), unit)
    axes = Figure().subplots()
    events = np.full(len(edges) - 1, 10.0)
    draw_stack(axes, Stack(bins, [Drawn("a", events, "C0")], np.zeros(len(events)), "Error"))
    assert axes.get_ylabel() == f"Events / {each}"
    assert axes.get_xlim() == (drawn[0], drawn[-1])
    values, found, _ = axes.patches[0].get_data()
    assert found.tolist() == drawn
    assert values.tolist() == pytest.approx((10 / np.diff(edges) if each == "GeV" else events).tolist())
    labels = [it.get_text() for it in axes.get_xticklabels()]
    assert (labels == [f"{it + 1}" for it in range(len(events))]) == (each == "bin")
    assert bins.named("x") == ("Bin of the x" if each == "bin" else "x")
    panel = Figure(layout="constrained").subplots()
    bins.label(panel)  # small plots have no caption each
    assert ([it.get_text() for it in panel.get_xticklabels()] == [f"{it:g}" for it in edges]) == (each == "bin")


@pytest.mark.parametrize("unit", ["GeV", ""])  # divided by the width, and by number
def test_a_figure_is_redrawn_from_its_numbers_by_mplhep_alone(unit: str, tmp_path: Path) -> None:
    content = stack([10, 0, 25, np.nan, 12])
    content = replace(content, bins=Bins(content.bins.edges, unit))
    write_json(tmp_path / "a.json", content.numbers("$m$", {"region": "SR"}))

    figure = json.loads((tmp_path / "a.json").read_text())
    columns = {it["header"]["name"]: it["values"] for it in figure["dependent_variables"]}
    bins, qualifiers = figure["independent_variables"][0]["values"], figure["dependent_variables"][0]["qualifiers"]
    width = 1 if {"name": "drawn", "value": "Events / GeV"} in qualifiers else None
    edges = [bins[0]["low"], *(it["high"] for it in bins)] if width else list(range(len(bins) + 1))
    values = {name: [np.nan if it["value"] is None else it["value"] for it in cells] for name, cells in columns.items()}
    none = [{"asymerror": {"minus": np.nan, "plus": np.nan}}]
    ends = [it.get("errors", none)[0]["asymerror"] for it in columns["Data"]]
    errors, axes = np.abs([[it[end] for it in ends] for end in ("minus", "plus")]), Figure().subplots()
    mplhep.histplot([values["small"], values["large"]], edges, stack=True, histtype="fill", binwnorm=width, ax=axes)
    mplhep.histplot(values["signal"], edges, binwnorm=width, yerr=False, ax=axes)
    mplhep.histplot(values["Data"], edges, yerr=errors, histtype="errorbar", binwnorm=width, ax=axes)

    ours = Figure().subplots()
    draw_stack(ours, content)
    assert {"name": "region", "value": "SR"} in qualifiers
    assert [it["errors"][0]["symerror"] for it in columns["Total"]] == content.error.tolist()
    drawn, redrawn = ([it for it in each.patches if isinstance(it, StepPatch)] for each in (ours, axes))
    for one, other in zip((drawn[1], drawn[0], drawn[3]), redrawn, strict=True):  # it begins at the top
        assert one.get_data().values == pytest.approx(other.get_data().values)
        assert one.get_data().edges == pytest.approx(other.get_data().edges)
    for point, other in zip(ours.containers[0], axes.containers[-1]):
        if isinstance(point, Line2D):
            assert np.allclose(point.get_data(), other.get_data(), equal_nan=True)
    bars, others = (each.containers[-1][2][0].get_segments() for each in (ours, axes))
    assert all(np.allclose(one, other, equal_nan=True) for one, other in zip(bars, others, strict=True))
