"""What is below and above the edges of a histogram: said, or counted in the first and last bin."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import uproot

from data_processing.convert.expressions import Expression
from data_processing.histograms.fill import Axis, Plan
from data_processing.histograms.stage import histogram_stage
from data_processing.histograms.templates import ChosenBins, Part, TemplateJob, make_templates
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.bins import FINE, fine_edges
from MLTools.NanoML.contracts.templates import FilledHistogram, HistogramChannel, Template, TemplateAxis, Templates
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.report.section import PRIVATE_WORK
from MLTools.NanoML.workflow.analysis import Analysis

X, Y = (Axis(Expression(name, "a.yaml"), (0.0, 1.0, 2.0)) for name in "xy")


def made(directory: Path, plan: Plan, filled: dict[str, Any], chosen: Any = None) -> HistogramChannel:
    """The channel of one file, filled with sums of weights, and twice these for a variation."""
    with h5py.File(directory / "filled.h5", "w") as file:
        for process, sums in filled.items():
            flat = np.ravel(np.array(sums, float))
            group = file.create_group(f"{plan.name}/all/{process}")
            group.attrs["endings"], group.attrs["of_scores"] = json.dumps(["", "_jesUp"]), False
            group.attrs["without"] = "[]"
            group["sums"], group["squares"] = [flat, 2 * flat], [3 * flat, 5 * flat]
    output = directory / "x.h5"
    make_templates(
        TemplateJob(
            [Part(directory / "filled.h5", None)], [], [plan], chosen or {}, ["signal", "WZ"], "signal", {"": None}, output,
            directory / "x.root",
        )
    )  # fmt: skip
    (channel,) = Templates.read(output).histogram(plan.name).channels
    return channel


def test_it_is_added_to_the_outer_bins_of_all_templates(tmp_path: Path) -> None:
    filled = {"WZ": [1, 10, 20, 5], "data_obs": [2, 3, 4, 7]}
    plan = Plan("x", (X,), ("all",))
    apart = made(tmp_path, plan, filled).processes
    assert apart["WZ"].nominal.tolist() == [1, 10, 20, 5]
    assert apart["WZ"].outside == "2.8 % below and 13.9 % above the bins"
    found = made(tmp_path, replace(plan, is_folded=True), filled).processes
    assert found["WZ"].nominal.tolist() == [0, 11, 25, 0]
    assert found["WZ"].up["jes"].tolist() == [0, 22, 50, 0]
    assert found["WZ"].variances.tolist() == [0, 33, 75, 0]
    assert found["WZ"].up_variances["jes"].tolist() == [0, 55, 125, 0]
    assert found["WZ"].down_variances["jes"].tolist() == [0, 33, 75, 0]  # mirrored, so with those of the nominal one
    assert found["data_obs"].nominal.tolist() == [0, 5, 11, 0]
    assert found["WZ"].outside == ""
    with uproot.open(tmp_path / "x.root") as file:
        assert file["x/all/WZ_jesUp"].values(flow=True).tolist() == [0, 22, 50, 0]
        assert json.loads(str(file["nanoml"]))["histograms"][0]["axes"][0]["note"] == "with under- and overflow"


def test_it_is_added_along_each_axis(tmp_path: Path) -> None:
    filled = {"WZ": [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]}
    plan = Plan("plane", (X, Y), ("all",))
    apart = made(tmp_path, plan, filled).processes["WZ"]
    assert apart.outside == f"{37 / 1.36:.1f} % below and {65 / 1.36:.1f} % above the bins"
    found = made(tmp_path, replace(plan, is_folded=True), filled).processes["WZ"]
    inner = [[1 + 2 + 5 + 6, 3 + 4 + 7 + 8], [9 + 10 + 13 + 14, 11 + 12 + 15 + 16]]
    assert found.nominal.tolist() == [[0] * 4, [0, *inner[0], 0], [0, *inner[1], 0], [0] * 4]


def test_bins_are_chosen_with_it(tmp_path: Path) -> None:
    score = Plan("s", (Axis(Expression("s", "a.yaml"), tuple(fine_edges())),), ("all",))
    fine = np.zeros(FINE + 2)
    fine[1:-1] = 1.0
    fine[[0, -1]] = 30, 50
    chosen = {"s": ChosenBins("signal", 10, 2, score.regions)}
    filled = {"WZ": fine, "signal": fine}
    with pytest.raises(NanoMLError, match="160 expected events are not between 0 and 1"):
        made(tmp_path, score, filled, chosen)
    found = made(tmp_path, replace(score, is_folded=True), filled, chosen).processes["WZ"].nominal
    assert found.sum() == 1080
    assert found[[0, -1]].tolist() == [0, 0]


def test_the_setting(tmp_path: Path) -> None:
    (tmp_path / "a.root").touch()
    (tmp_path / "a.yaml").write_text(
        "datasets: {a: {files: a.root, class: a}}\nscore: {model: []}\n"
        "histogram: {x: {bins: [2, 0, 1], overflow: add}, y: {bins: [2, 0, 1]}}\n"
    )
    stage = histogram_stage(Analysis(load(tmp_path / "a.yaml")))
    assert stage is not None
    assert [plan["is_folded"] for plan in stage.tasks[0].settings["plans"]] == [True, False]


def test_captions_say_what_figures_do_not_show() -> None:
    pytest.importorskip("mplhep")
    from data_processing.histograms.draw import _captions

    def said(*bins: float) -> list[str]:
        processes = {"WZ": Template(np.array(bins), np.array(bins)), "signal": Template(np.ones(5), np.ones(5))}
        axis = TemplateAxis("x", (0.0, 0.5, 0.8, 1.0), note="with under- and overflow")
        histogram = FilledHistogram("x", (axis,), (HistogramChannel("SR_log", "2018", processes, note="10 %"),))
        found = dict(_captions(histogram, "signal", PRIVATE_WORK))
        assert [*found] == ["x_SR_log", "x_SR_log_log", "x_SR_log_uncertainties"]
        assert found["x_SR_log_log"].title == "x in SR_log, logarithmic axis"
        return found["x_SR_log"].reading.removeprefix("10 %. With under- and overflow. ").split(". ")

    signal, edges = "Signal: 20.0 % below and 20.0 % above the bins", "The edges of the bins are 0, 0.5, 0.8, 1."
    assert said(0.0, 100, 50, 50, 1) == [signal, edges]
    assert said(0.0, 100, 50, 50, 50) == ["Background: 0.0 % below and 20.0 % above the bins", signal, edges]
