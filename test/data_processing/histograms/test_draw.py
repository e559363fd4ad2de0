"""Tables of events, and the figures beside them."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mplhep")

from matplotlib.patches import Rectangle
from matplotlib.text import Text

from data_processing.histograms.draw import Yield, YieldTable, draw_histograms, stacked, write_tables, yields_of
from MLTools.NanoML.config.analysis import ProcessLook
from MLTools.NanoML.contracts.blinding import BlindBins
from MLTools.NanoML.contracts.templates import (
    FilledHistogram,
    HistogramChannel,
    Template,
    TemplateAxis,
    Templates,
    added,
    summed,
)
from MLTools.NanoML.report.figures import in_style
from MLTools.NanoML.report.section import PRIVATE_WORK
from MLTools.NanoML.report.stack import Bins, Drawn, Observed, Stack, stack_figure

AXES = (TemplateAxis("mass", (0.0, 1.0, 2.0, 4.0, 5.0)),)


def template(scale: float, **changes: float) -> Template:
    """Four bins with an underflow and an overflow, and what each nuisance parameter changes by up; down is the opposite."""
    values = scale * np.array([0.0, 1, 2, 3, 4, 0.5])
    up = {name: values * (1 + change) for name, change in changes.items()}
    down = {name: values * (1 - change) for name, change in changes.items()}
    return Template(values, values * 0.1, up, down)


def channel(era: str | None) -> HistogramChannel:
    return HistogramChannel(
        "SR_x",
        era,
        {
            "WZ": template(10, jes=0.1, pileup=0.05),
            "ZG": template(5, jes=-0.2),
            "signal": template(1, jes=0.3),
            "data_obs": Template(np.array([0.0, 12, 0, 50, 60, 5]), np.array([0.0, 12, 0, 50, 60, 5])),
        },
    )


@pytest.fixture
def templates() -> Templates:
    whole = FilledHistogram("mass", AXES, (channel("2018"), channel("2022")))
    plane = FilledHistogram("both", (*AXES, TemplateAxis("pt", (0.0, 1.0))), ())
    return Templates("NanoML", (whole, plane), ("signal", "WZ", "ZG"), "signal", {"2018": 59.8, "2022": 8.0})


def test_errors_of_a_nuisance_parameter_are_added_before_they_are_squared() -> None:
    found = {each.process: each for each in yields_of(channel(None), "signal")}
    assert list(found) == ["WZ", "ZG", "all backgrounds", "signal", "data"]
    total = found["all backgrounds"]
    assert total.events == pytest.approx(157.5)
    assert total.statistical == pytest.approx(np.sqrt(15.75))
    # jes: 10.5 of WZ and -10.5 of ZG cancel; pile-up: 5 % of WZ
    assert total.systematic == pytest.approx(0.05 * 105)
    assert found["data"] == Yield("data", 127.0, 0.0, 0.0)


def test_of_two_directions_the_larger_change_counts() -> None:
    nominal, up, down = np.array([0.0, 4, 6, 0]), np.array([0.0, 5, 6, 0]), np.array([0.0, 1, 6, 0])
    for one, other in ((up, down), (down, up)):
        assert Yield.of("x", Template(nominal, nominal, {"jes": one}, {"jes": other})).systematic == 3


def test_eras_are_added() -> None:
    whole = added([channel("2018"), channel("2022")])
    assert whole.name == "SR_x"
    assert whole.processes["WZ"].nominal.tolist() == (2 * template(10).nominal).tolist()
    assert whole.processes["WZ"].up["jes"] == pytest.approx(2.2 * template(10).nominal)
    lonely = HistogramChannel("SR_x", "2016", {"WZ": template(1, isr=0.5)})
    more = added([channel("2018"), lonely]).processes["WZ"]
    assert more.up["isr"] == pytest.approx(11.5 * template(1).nominal)
    assert more.up["jes"] == pytest.approx(12 * template(1).nominal)
    assert summed([template(1, a=0.1), template(2)]).up["a"] == pytest.approx(3.1 * template(1).nominal)


def test_one_table_has_processes_and_regions(templates: Templates, tmp_path: Path) -> None:
    write_tables(templates, tmp_path, ["mass_SR_x", "mass_SR_x_log", "mass_SR_x_uncertainties"])
    markdown = (tmp_path / "yields.md").read_text().splitlines()
    assert markdown[::8] == [f"| events ± stat. ± syst., {it} | SR_x |" for it in ("all eras", "2018", "2022")]
    assert [line.split(" | ")[0] for line in markdown[2:7]] == [
        "| WZ", "| ZG", "| all backgrounds", "| signal", "| data",
    ]  # fmt: skip
    assert markdown[4::8] == [f"| all backgrounds | {it} |" for it in ("315 ± 6 ± 10", *["157.5 ± 4.0 ± 5.2"] * 2)]
    assert markdown[6::8] == ["| data | 254 |", *["| data | 127 |"] * 2]
    page = (tmp_path / "histograms.html").read_text()
    assert "<td>all backgrounds</td><td>315 ± 6 ± 10</td>" in page
    assert page.count("<img") == 3
    assert 'alt="mass in SR_x, logarithmic axis. Background: ' in page
    assert "The edges of the bins are 0, 1, 2, 4, 5." in page
    assert "It has several axes and is not drawn." in page


def test_hypotheses_of_the_signal_are_rows(templates: Templates) -> None:
    made = [FilledHistogram(f"a_{it}", AXES, (channel(None),), f"mass = {it}") for it in (600, 700)]
    found = YieldTable.of(replace(templates, histograms=tuple(made)))
    assert [*found.columns] == ["SR_x"]
    assert list(found.rows) == ["WZ", "ZG", "all backgrounds", "signal, mass = 600", "signal, mass = 700", "data"]


LOOKS = {"ZG": ProcessLook(r"$Z\gamma$ & $t\bar{t}$"), "signal": ProcessLook("$W'$ (100 %, a_b~c^d\\e) < 3")}
STYLE = replace(PRIVATE_WORK, processes=LOOKS, regions={"SR_x": r"$|m_{\ell\ell}| > 1$ | SR"})


def test_tables_have_the_labels_of_figures(templates: Templates, tmp_path: Path) -> None:
    write_tables(templates, tmp_path, [], STYLE)
    markdown, page = ((tmp_path / name).read_text() for name in ("yields.md", "histograms.html"))
    assert r"| events ± stat. ± syst., 2018 | $\|m_{\ell\ell}\| > 1$ \| SR |" in markdown
    assert r"| $Z\gamma$ & $t\bar{t}$ | 105" in markdown
    assert '<th scope="col">|m\u2113\u2113| &gt; 1 | SR</th>' in page
    assert "<td>Z\u03b3 &amp; tt\u0304</td>" in page


def test_latex(templates: Templates, tmp_path: Path) -> None:
    latex = replace(YieldTable.of(templates), style=STYLE).latex
    assert r"\multicolumn{2}{l}{events $\pm$ stat. $\pm$ syst., 2018} \\" in latex
    assert "\n & $|m_{\\ell\\ell}| > 1$ $|$ SR \\\\\n" in latex
    assert r"all backgrounds & $315 \pm 6 \pm 10$ \\" in latex
    assert r"$Z\gamma$ \& $t\bar{t}$ & " in latex
    many = [replace(channel(era), region=f"R{it}") for it in range(6) for era in ("2018", "2022")]
    noted = [replace(channel(None), region="R", note="10 % of the data, without the events of SR_x")]
    tables = [
        YieldTable.of(replace(templates, histograms=(replace(templates.histograms[0], channels=tuple(it)),))).latex
        for it in (many, noted)
    ]
    assert [re.findall(r"tabular}{(l.*)}", it) for it in tables] == [["lrr"] * 9, ["lr"]]
    assert r"R, 10 \% of the data" in tables[1]
    if shutil.which("pdflatex") is None:
        pytest.skip("there is no LaTeX")
    pages = "\n\n".join([latex, *tables])
    (tmp_path / "a.tex").write_text(rf"\documentclass[a4paper]{{article}}\begin{{document}}{pages}\end{{document}}")
    done = subprocess.run(["pdflatex", "-halt-on-error", "a.tex"], cwd=tmp_path, check=True, capture_output=True)
    assert b"Overfull" not in done.stdout


@pytest.mark.usefixtures("white_figures")
def test_blind_bins_have_no_data(templates: Templates, tmp_path: Path) -> None:
    histogram = templates.histograms[0]
    hidden = np.array([False, False, True, True, False, False])
    channels = []
    for each in histogram.channels:
        data = np.where(hidden, np.nan, each.processes["data_obs"].nominal)
        channels.append(replace(each, processes={**each.processes, "data_obs": Template(data, data)}))
    blinded, axis, whole_region = replace(histogram, channels=tuple(channels)), histogram.axes[0], added(channels)
    content = stacked(PRIVATE_WORK, axis, whole_region, "signal")
    axes, ratio = in_style(stack_figure)(PRIVATE_WORK, content, axis.title, "", True).axes
    for each in (axes, ratio):
        spans = [patch for patch in each.patches if isinstance(patch, Rectangle)]
        assert [(it.get_x(), it.get_x() + it.get_width()) for it in spans] == [(1.0, 2.0), (2.0, 3.0)]
    points = axes.containers[0][0].get_ydata()
    assert np.array_equal(points, [24, np.nan, np.nan, 120], equal_nan=True)
    assert "Blind" in [text.get_text() for text in axes.get_legend().get_texts()]
    whole = replace(templates, histograms=(blinded,), blind=BlindBins("signal", 0.5))
    write_tables(whole, tmp_path, draw_histograms(PRIVATE_WORK, whole, tmp_path))
    assert (tmp_path / "yields.md").read_text().count("| data | partly blind |") == 3
    assert (tmp_path / "yields.tex").read_text().count(r"data & partly blind \\") == 3
    page = (tmp_path / "histograms.html").read_text()
    assert "Hatched bins with an expected S / sqrt(B) above 0.5 are blind" in page


@pytest.mark.usefixtures("white_figures")
def test_figures(templates: Templates, tmp_path: Path) -> None:
    from data_processing.histograms.draw import total_error

    drawn = draw_histograms(PRIVATE_WORK, templates, tmp_path)
    assert drawn == ["mass_SR_x", "mass_SR_x_log", "mass_SR_x_2018", "mass_SR_x_2022", "mass_SR_x_uncertainties"]
    files = {f"{name}.{suffix}" for name in drawn for suffix in ("json", "pdf", "png")}
    assert {path.name for path in tmp_path.iterdir()} == files
    for path in tmp_path.iterdir():
        path.write_text("")
    (tmp_path / "mine.png").touch()
    assert draw_histograms(PRIVATE_WORK, templates, tmp_path, ["mass_SR_x_log"]) == drawn
    (tmp_path / "mine.png").unlink()  # it is nobody's figure
    assert {path.stem for path in tmp_path.iterdir() if path.stat().st_size} == {"mass_SR_x_log"}
    of_one_era = replace(templates.histograms[0], name="m", channels=(channel("2018"),))
    left = draw_histograms(PRIVATE_WORK, replace(templates, histograms=(of_one_era,)), tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {*left} == {"m_SR_x", "m_SR_x_log", "m_SR_x_uncertainties"}
    statistical, total = total_error(channel(None), ["WZ", "ZG"])
    assert statistical == pytest.approx(np.sqrt(template(1.5).nominal))
    assert total**2 - statistical**2 == pytest.approx((0.05 * template(10).nominal) ** 2)


@pytest.mark.parametrize(("count", "logarithmic"), [(4, False), (15, True), (45, False)])
def test_texts_can_be_read_in_a_column(count: int, logarithmic: bool) -> None:
    """They have 6 points or more where the figure is 8.6 cm wide, the legend 8; and they do not overlap."""
    names = ["W+jets", "Drell-Yan", "Single top, t channel", "ttW, ttZ, ttH", "Nonprompt leptons", "Top-quark pairs"]
    edges, events = np.linspace(0, 1, count + 1) ** 2, np.full(count, 90.0)
    line, counts = Drawn("Signal (600 GeV)", events / 9, "red"), Observed.of(events * len(names))
    content = Stack(Bins(edges), [Drawn(it, events, "blue") for it in names], events, "Stat. and syst.", line, counts)
    right = "138 fb$^{-1}$ (13, 13.6 TeV)"
    figure = in_style(stack_figure)(PRIVATE_WORK, content, "DNN score", right, True, logarithmic)
    figure.draw_without_rendering()
    scale = 8.6 / 2.54 / figure.get_size_inches()[0]
    sizes = {it.get_text(): scale * it.get_fontsize() for it in figure.findobj(Text) if it.get_text()}
    assert {*names, right, "Bin of the DNN score"} < {*sizes}
    assert min(sizes.values()) >= 6
    legend, inside = figure.axes[0].get_legend(), figure.axes[0].get_window_extent()
    assert min(sizes[it.get_text()] for it in legend.get_texts()) >= 8
    assert inside.x0 < legend.get_window_extent().x0
    labels = [it.get_window_extent() for it in figure.axes[1].get_xticklabels()]
    assert all(one.x1 < other.x0 for one, other in zip(labels, labels[1:]))
    assert figure.axes[1].get_xticklabels()[1].get_text() == ("4" if count == 45 else "2")
