from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("mplhep")

from matplotlib.figure import Figure

from MLTools.NanoML.config.analysis import ProcessLook, QuantityLook
from MLTools.NanoML.report.figures import Figures, grid, in_style, legend_above, save, single, small, with_ratio
from MLTools.NanoML.report.section import PRIVATE_WORK, Beams, Style


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
    for label, has_data, text in (
        ("", True, ""),
        ("Preliminary", True, " Preliminary"),
        ("Preliminary", False, " Simulation Preliminary"),
    ):
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


@pytest.mark.parametrize(
    ("largest", "name"), [(2e7, "Events  [$10^{7}$]"), (99_000, "Events"), (0.0004, "Events  [$10^{-4}$]")]
)
@in_style
def test_a_power_of_ten_is_in_the_name_of_the_axis(tmp_path: Path, largest: float, name: str) -> None:
    figure, axes = single(PRIVATE_WORK, "13 TeV")
    axes.set(xlim=(0, largest), xlabel="Events", ylim=(0, largest), ylabel="Events")
    save(figure, tmp_path / "a")
    for axis in (axes.xaxis, axes.yaxis):
        assert axis.get_label_text().replace("\u2212", "-") == name
        assert axis.get_offset_text().get_visible() == (name == "Events")


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
