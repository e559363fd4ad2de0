from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("jax")
pytest.importorskip("mplhep")
pytest.importorskip("statistical_analysis.report")

from MLTools.NanoML.batch.job import decode, encode
from MLTools.NanoML.config.fit import Fit
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.templates import (
    DATA,
    FilledHistogram,
    HistogramChannel,
    Hypothesis,
    Template,
    TemplateAxis,
    Templates,
)
from MLTools.NanoML.report.page import digits
from MLTools.NanoML.report.section import PRIVATE_WORK
from MLTools.NanoML.schema.plain import build, plain
from MLTools.NanoML.workflow.analysis import Analysis
from services.blinding import unblind_all
from statistical_analysis import results as of_fits
from statistical_analysis.draw import draw_fit
from statistical_analysis.fit import FitJob
from statistical_analysis.report import limits as page_of
from statistical_analysis.report.limits import Limits, Point, excluded, in_words, together
from statistical_analysis.results import FREE, FittedPoint, Limit, NoFit, Parameter, Results, Scan, Significance
from statistical_analysis.stages import fit_stage, limits_stage, plot_stage

VALUES = (600.0, 1000.0, 2000.0)
ANALYSIS = """
luminosity: 10
datasets:
  W600: {files: a.root, class: signal, cross_section: 2, k_factor: 1.5, parameters: {mass: 600}}
  W1000: {files: b.root, class: signal, cross_section: 0.5, parameters: {mass: 1000}}
  W2000: {files: c.root, class: signal, cross_section: 0.01, parameters: {mass: 2000}}
  WZ: {files: d.root, class: WZ, cross_section: 1}
score: {model: []}
histogram: {wprime: {bins: [3, 0, 1]}}
fit: {channels: {all: wprime}, signal: signal, parameter: mass}
"""


def results(limits: Sequence[float] | None, observed: float | None = None) -> Results:
    strength = Parameter("mu", FREE, 1.0, 0.3)
    unblinded = None if observed is None else "unblinded by me@here on 2026-01-02"
    seen = None if observed is None else 2.0
    scan = Scan((0.0,), (0.0,), (0.0,))
    return Results(
        ("signal",), strength, (), (), scan, 40.0, Limit(0.95, tuple(limits), observed) if limits else None,
        Significance(3.0, seen), 50.0, 0, "NanoML", "", unblinded, (strength,), ((1.0,),), None, (),
    )  # fmt: skip


def fits(medians: Sequence[float | None], observed: float | None = None) -> list[tuple[FittedPoint, Results | NoFit]]:
    """None has no limit, and 0 no fit."""
    masses = [Hypothesis("mass", value) for value in VALUES]
    points = [FittedPoint(it, Path("fit", it.ending, "results.json"), 0.1) for it in masses]
    bands = [None if it is None else [0.5 * it, 0.7 * it, it, 1.4 * it, 2 * it] for it in medians]
    found = [results(band, observed) for band in bands]
    nothing = NoFit("NanoML", "no fit", found[0].unblinded, ("signal",), "")
    return [(point, nothing if it == 0 else each) for point, each, it in zip(points, found, medians)]


def test_next_to_a_value_without_a_limit_nothing_is_excluded() -> None:
    assert excluded(VALUES, [0.1, 0.2, None]) == ((600, 1000),)
    assert excluded(VALUES, [None, 0.2, 0.5]) == ((1000, 2000),)
    assert excluded(VALUES, [0.1, None, 0.1]) == ((600, 600), (2000, 2000))
    assert excluded(VALUES, [None, None, None]) == ()
    assert in_words("mass", ((600, 800), (1500.04, 2000))) == "mass from 600 to 800 and from 1500 to 2000"
    assert in_words("mass", ()) == "no mass"


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(-5, 5)), min_size=1, max_size=8))
def test_excluded_ranges_are_where_the_interpolated_limit_is_below_one(steps: list[tuple[int, float]]) -> None:
    values = np.cumsum([float(step) for step, _ in steps])
    logarithms = np.array([height for _, height in steps])
    found = excluded(values.tolist(), np.exp(logarithms).tolist())
    assert all(values[0] <= low <= high <= values[-1] for low, high in found)
    assert all(before[1] <= after[0] for before, after in zip(found, found[1:]))
    for value in np.linspace(values[0], values[-1], 101):
        height = float(np.interp(value, values, logarithms))
        if abs(height) > 1e-6:
            assert any(low - 1e-9 <= value <= high + 1e-9 for low, high in found) == (height < 0)


def test_results_together() -> None:
    limits = together(fits([0.1, 10, 20]))
    assert limits.summary == (
        "expected limits on the signal strength from 0.1 (mass = 600) to 20 (mass = 2000) at 95 % CL; expected to be "
        "excluded: mass from 600 to 800; blinded"
    )
    assert (limits.excluded_observed, [it.fit for it in limits.points]) == (None, ["mass600", "mass1000", "mass2000"])
    seen = together(fits([0.1, 10, 20], observed=0.5))
    assert seen.excluded_observed == ((600, 2000),)
    assert seen.summary.endswith("; excluded: mass from 600 to 2000; unblinded by me@here on 2026-01-02")


@pytest.mark.parametrize("observed", [None, 0.5])
def test_the_page_has_all_values_and_leads_to_their_fits(tmp_path: Path, observed: float | None) -> None:
    limits = together(fits([0.1, 10, 20], observed))
    drawn = page_of.draw_limits(PRIVATE_WORK, limits, "10 fb$^{-1}$", tmp_path)
    page = page_of.limits_report(limits, drawn, PRIVATE_WORK, tmp_path)
    assert all(f'<a href="mass{value:g}/report.html">mass = {value:g}</a>' in page for value in VALUES)
    assert "Expected to be excluded at 95 % CL: mass from 600 to 800." in page
    assert "Nothing is said below 600 and above 2000" in page
    assert "<td>0.01</td><td>0.007 to 0.014</td><td>0.005 to 0.02</td>" in page  # times 0.1 pb
    assert ("Excluded at 95 % CL: mass from 600 to 2000." in page) == (observed is not None)
    assert ("local p-value" in page) == (observed is not None)
    assert drawn == (["limits"] if observed is None else ["limits", "pvalues"])
    files = {f"{name}.{kind}" for name in drawn for kind in ("json", "png", "pdf")}
    assert {path.name for path in tmp_path.iterdir()} == files
    unknown = replace(limits, points=(*limits.points[:2], replace(limits.points[2], cross_section=None)))
    assert "[pb]" not in page_of.limits_report(unknown, drawn, PRIVATE_WORK, tmp_path)


def filled(tmp_path: Path) -> None:
    """Histograms of three masses: the second has no signal, and the heaviest cannot be told from a background that is hardly known."""
    axis, strange = TemplateAxis("wprime", (0.0, 0.3, 0.6, 1.0)), [29876.0, 3e4, 3e4]
    counts = {"WZ": [3e4, 3e4, 3e4], "W600": [0, 0, 8], "W1000": [0, 0, 0], "W2000": [10, 10, 10], DATA: strange}
    made = {name: Template(*2 * [np.array([0.0, *each, 0.0])]) for name, each in counts.items()}
    histograms = tuple(
        FilledHistogram(
            f"wprime_mass{mass}",
            (axis,),
            (HistogramChannel("all", None, {"signal": made[f"W{mass}"], "WZ": made["WZ"], DATA: made[DATA]}),),
        )
        for mass in (600, 1000, 2000)
    )
    (tmp_path / "a/histograms").mkdir(parents=True)
    templates = Templates("NanoML", histograms, ("signal", "WZ"), "signal", {"": 10.0})
    templates.write(tmp_path / "a/histograms/histograms.h5")


def done(analysis: Analysis) -> Limits:
    """What all fits give together, each done as a job; the names of their tasks are checked."""
    stage, last = fit_stage(analysis), limits_stage(analysis)
    assert last is not None
    assert [task.name for task in stage.tasks] == ["mass600", "mass1000", "mass2000"]
    for task in [*stage.tasks, *plot_stage(analysis).tasks, *last.tasks]:
        json.dumps(task.settings)
        decode(json.loads(json.dumps(encode(task.work))))()
        assert all(path.is_file() for path in task.outputs)
    return build(Limits, json.loads(last.tasks[0].outputs[0].read_text()))


@pytest.mark.exhaustive("limits for each value of a parameter, through all stages")
@pytest.mark.usefixtures("compiled_once", "white_figures")
def test_the_stages_fit_each_value_with_data_once_unblinded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = ANALYSIS.replace("parameter: mass}", "parameter: mass, uncertainties: {WZ: +300 % -75 %}}")
    (tmp_path / "a.yaml").write_text(text.replace("  WZ:", "  Muon: {files: e.root, data: true}\n  WZ:"))
    (tmp_path / "e.root").write_text("events")
    filled(tmp_path)
    # else a limit is looked for up to a million standard deviations
    monkeypatch.setattr("statistical_analysis.likelihood._REACH", 30.0)
    analysis, fits = Analysis(load(tmp_path / "a.yaml")), tmp_path / "a/fit"
    expected = done(analysis)
    assert [(it.value, it.cross_section) for it in expected.points] == [(600, 3), (1000, 0.5), (2000, 0.01)]
    first, last = (of_fits.read_results(fits / name / "results.json") for name in ("mass600", "mass2000"))
    assert isinstance(first, Results)
    assert isinstance(last, Results)
    assert (first.hypothesis, first.limit) == ("mass = 600", expected.points[0].limit)
    assert last.limit is expected.points[2].limit is None
    above = f"it is above {digits(last.highest, 3)}"
    assert last.summary.startswith(f"no limit on the signal strength: {above}; expected signif")
    assert f"no limit at mass = 1000 (no fit), mass = 2000 ({above}): the signal has" in expected.summary
    page = (fits / "mass2000/report.html").read_text()
    assert "<h1>Fit of the strength of signal at mass = 2000: " in page
    assert '<a href="../report.html">' in page
    without = (fits / "mass1000/report.html").read_text()
    assert "No fit: no channel has events of signal" in without
    assert '<a href="../report.html">' in without
    assert "<td>Limit</td><td>none: it is above" in page
    assert "Is there a limit?" in page
    assert (fits / "mass600/limit.png").exists()
    assert not (fits / "mass2000/limit.png").exists()

    before = {path for path in fits.rglob("*") if path.is_file()}
    assert not any(b"29876" in path.read_bytes() for path in before if path.suffix in (".json", ".html", ".txt"))
    assert [it.limit.observed for it in expected.points if it.limit] == [None]
    assert expected.points[1] == Point(1000, "mass1000", 0.5)
    entry = unblind_all(analysis.config, expected.summary)
    observed = done(Analysis(analysis.config))
    assert observed.unblinded == str(entry)
    assert [it.significance and it.significance.observed is None for it in observed.points] == [False, None, False]
    (limit,) = (it.limit for it in observed.points if it.limit)
    assert limit.observed is not None
    assert limit.observed != pytest.approx(limit.expected[2])
    assert "29876" in (fits / "mass600/workspace.json").read_text()
    assert {path.name for path in fits.rglob("*")} - {path.name for path in before} >= {"pvalues.png", "pvalues.pdf"}


@pytest.mark.parametrize(
    ("medians", "observed"),
    [([0.1, 10, None], None), ([None, 0.1, 0], 0.5), ([None, None, None], 0.5), ([0, 0, 0], 0.5)],
)
@pytest.mark.usefixtures("white_figures")
def test_a_value_without_a_limit_is_named(tmp_path: Path, medians: list[float | None], observed: float | None) -> None:
    limits = together(fits(medians, observed))
    assert build(Limits, plain(limits)).points == limits.points
    reasons = {None: "it is above 40", 0: "no fit"}
    named = ", ".join(f"mass = {it:g} ({reasons[median]})" for it, median in zip(VALUES, medians) if not median)
    assert f"; no limit at {named}: the signal has too few events, or " in limits.summary
    for kind in ("png", "json"):
        (tmp_path / f"pvalues.{kind}").touch()  # of a fit to data
    page = page_of.limits_report(
        limits, page_of.draw_limits(PRIVATE_WORK, limits, "10 fb$^{-1}$", tmp_path), PRIVATE_WORK, tmp_path
    )
    assert f"There is no limit at {named}" in page
    columns = 3 if observed is None else 4
    assert page.count("<td>above 4</td>") == columns * medians.count(None)  # 40 times 0.1 pb
    assert page.count("<td>no signal</td>") == columns * medians.count(0)
    assert ("p-values" in page) == (observed is not None and medians.count(0) < 3)
    assert (tmp_path / "pvalues.json").exists() == ("p-values" in page)
    assert page.count("<td>0.01</td><td>0.007 to 0.014</td>") == medians.count(0.1)
    lines = {
        it.get_label(): it.get_ydata() for it in page_of.limit_figure(PRIVATE_WORK, limits, "").axes[0].get_lines()
    }
    assert lines["Expected, median"] == pytest.approx([it / 10 if it else np.nan for it in medians], nan_ok=True)
    above = lines.get("No limit up to here", [np.nan] * 3)
    assert above == pytest.approx([4 if it is None else np.nan for it in medians], nan_ok=True)


def test_a_signal_without_events_has_no_figures(tmp_path: Path) -> None:
    for kind in ("png", "pdf", "json"):
        (tmp_path / f"limit.{kind}").touch()  # of an earlier fit
    NoFit("NanoML", "no fit", None, ("signal",), "mass = 600").write(tmp_path / "results.json")
    draw_fit(FitJob(tmp_path / "h.h5", tmp_path, Fit({}), {}, {}, [], True, None, "a.yaml:7"), PRIVATE_WORK)
    assert {it.name for it in tmp_path.iterdir()} == {"report.html", "results.json"}


def test_without_a_parameter_there_are_no_limits_to_collect(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ANALYSIS.replace(", parameter: mass}", "}"))
    analysis = Analysis(load(tmp_path / "a.yaml"))
    assert limits_stage(analysis) is None
    assert [task.name for task in fit_stage(analysis).tasks] == ["all"]
