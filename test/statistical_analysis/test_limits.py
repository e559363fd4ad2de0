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
pytest.importorskip("statistical_analysis.limits")

from MLTools.NanoML.batch.job import decode, encode
from MLTools.NanoML.config.analysis import load
from MLTools.NanoML.contracts.hypothesis import Hypothesis
from MLTools.NanoML.contracts.plain import build
from MLTools.NanoML.contracts.templates import Templates
from MLTools.NanoML.workflow.stages import Analysis
from statistical_analysis.limits import FittedPoint, Limits, excluded, in_words, together
from statistical_analysis.results import FREE, Limit, Parameter, Results, Scan, Significance
from statistical_analysis.stages import fit_stage, limits_stage

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


def results(limits: Sequence[float], observed: float | None = None) -> Results:
    strength = Parameter("mu", FREE, 1.0, 0.3)
    unblinded = None if observed is None else "unblinded by me@here on 2026-01-02"
    seen = None if observed is None else 2.0
    scan = Scan((0.0,), (0.0,), (0.0,))
    return Results(
        "NanoML", "", unblinded, "signal", strength, (strength,), ((1.0,),), (), (), Limit(0.95, tuple(limits), observed),
        Significance(3.0, seen), scan, None, (), 50.0, 0,
    )  # fmt: skip


def fits(medians: Sequence[float], observed: float | None = None) -> list[tuple[FittedPoint, Results]]:
    points = [FittedPoint(it, Path("fit", it.ending), 0.1) for it in (Hypothesis("mass", value) for value in VALUES)]
    bands = [[0.5 * it, 0.7 * it, it, 1.4 * it, 2 * it] for it in medians]
    return [(point, results(band, observed)) for point, band in zip(points, bands)]


def test_what_is_excluded() -> None:
    assert excluded(VALUES, [0.1, 0.2, 0.5]) == ((600, 2000),)
    assert excluded(VALUES, [2, 1.5, 3]) == ()
    # log 0.1 and log 10 are at the same distance from log 1
    assert excluded(VALUES, [0.1, 10, 20]) == ((600, pytest.approx(800)),)
    assert excluded(VALUES, [10, 0.1, 10]) == ((pytest.approx(800), pytest.approx(1500)),)
    assert excluded(VALUES, [0.1, 10, 0.1]) == ((600, pytest.approx(800)), (pytest.approx(1500), 2000))
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
    from statistical_analysis.report.limits import draw_limits, limits_report

    limits = together(fits([0.1, 10, 20], observed))
    drawn = draw_limits(limits, "10 fb$^{-1}$", tmp_path)
    page = limits_report(limits, drawn, tmp_path)
    assert all(f'<a href="mass{value:g}/report.html">mass = {value:g}</a>' in page for value in VALUES)
    assert "Expected to be excluded at 95 % CL: mass from 600 to 800." in page
    assert "Nothing is said below 600 and above 2000" in page
    assert "<td>0.01</td><td>0.007 to 0.014</td><td>0.005 to 0.02</td>" in page  # times 0.1 pb
    assert ("Excluded at 95 % CL: mass from 600 to 2000." in page) == (observed is not None)
    assert ("local p-value" in page) == (observed is not None)
    assert drawn == (["limits"] if observed is None else ["limits", "pvalues"])
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{kind}" for name in drawn for kind in ("png", "pdf")}
    unknown = replace(limits, points=(*limits.points[:2], replace(limits.points[2], cross_section=None)))
    assert "[pb]" not in limits_report(unknown, drawn, tmp_path)


@pytest.mark.slow
def test_the_stages_fit_each_value_and_collect_them(templates: Templates, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ANALYSIS)
    analysis = Analysis(load(tmp_path / "a.yaml"))
    histogram = templates.histogram("wprime")
    channels = tuple(replace(it, region="all", era=None) for it in histogram.channels[:1])
    made = tuple(replace(histogram, name=f"wprime_mass{value:g}", channels=channels) for value in VALUES)
    (tmp_path / "a/histograms").mkdir(parents=True)
    replace(templates, histograms=made, luminosity={"": 10.0}).write(tmp_path / "a/histograms/histograms.h5")
    stage, last = fit_stage(analysis), limits_stage(analysis)
    assert last is not None
    assert [task.name for task in stage.tasks] == ["mass600", "mass1000", "mass2000"]
    for task in [*stage.tasks, *last.tasks]:
        json.dumps(task.settings)
        decode(json.loads(json.dumps(encode(task.work))))()
        assert all(path.is_file() for path in task.outputs)
    found = build(Limits, json.loads((tmp_path / "a/fit/results.json").read_text()))
    assert [(it.value, it.cross_section) for it in found.points] == [(600, 3), (1000, 0.5), (2000, 0.01)]
    first = Results.read(tmp_path / "a/fit/mass600/results.json")
    assert first.hypothesis == "mass = 600"
    assert {it.limit for it in found.points} == {first.limit}
    page = (tmp_path / "a/fit/mass1000/report.html").read_text()
    assert "<h1>Fit of the strength of signal at mass = 1000</h1>" in page
    assert '<a href="../report.html">' in page


def test_without_a_parameter_there_are_no_limits_to_collect(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ANALYSIS.replace(", parameter: mass}", "}"))
    analysis = Analysis(load(tmp_path / "a.yaml"))
    assert limits_stage(analysis) is None
    assert [task.name for task in fit_stage(analysis).tasks] == ["all"]
