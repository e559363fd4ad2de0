"""Histograms of a signal whose mass is a parameter: at each mass with its own scores and without the signals of others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_processing.convert.expressions import Expression
from data_processing.histograms.fill import Axis, Plan
from data_processing.histograms.stage import fill_stage
from data_processing.histograms.templates import Part, TemplateJob, make_templates
from MLTools.NanoML.batch.job import decode, encode
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.templates import BlindBins, Hypothesis, Templates
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.pipeline import pipeline_stages
from services.rootfiles import branches_of
from services.shifted import ShiftedSkims

ANALYSIS = """\
luminosity: 10
datasets:
  W1: {files: FILE0, class: signal, cross_section: 1, parameters: {mass: 1}}
  W2: {files: FILE1, class: signal, cross_section: 1, parameters: {mass: 2}}
  WZ: {files: FILE3, class: WZ, cross_section: 1}
score: {model: MODEL, parameter: {mass: [1, 2]}}
histogram:
  score: {of: linear_signal, bins: [4, 0, 1]}
  MET: {bins: [4, 60, 200]}
fit: {channels: {all: score}, parameter: mass}
"""


def test_a_histogram_for_each_mass(
    shifted_skims: ShiftedSkims, linear_model: Callable[..., Path], tmp_path: Path
) -> None:
    parameter = {"column": "mass", "values": [1.0, 2.0]}
    model = linear_model(["mass"], objects={"SelJet": (["eta"], 3, None)}, parameter=parameter)
    text = ANALYSIS.replace("MODEL", str(model))
    for number in (0, 1, 3):
        text = text.replace(f"FILE{number}", str(shifted_skims.shifted[number]))
    (tmp_path / "a.yaml").write_text(text)
    for stage in pipeline_stages(load(tmp_path / "a.yaml"), ("normalise", "score", "fill", "histogram")):
        for task in stage.tasks:
            decode(json.loads(json.dumps(encode(task.work))))()
    templates = Templates.read(tmp_path / "a/histograms/histograms.h5")
    assert [(it.name, it.hypothesis) for it in templates.histograms] == [
        ("score_mass1", "mass = 1"),
        ("score_mass2", "mass = 2"),
        ("MET", None),
    ]
    scores = {name: branches_of(next((tmp_path / "a/scores" / name).glob("*.root"))) for name in ("W1", "W2", "WZ")}
    found = {}
    for mass in (1, 2):
        histogram = templates.histogram(f"score_mass{mass}")
        (axis,) = histogram.axes
        assert (axis.quantity, axis.note) == ("linear_signal", f"mass = {mass}")
        (channel,) = histogram.channels
        for process, dataset in (("signal", f"W{mass}"), ("WZ", "WZ")):
            for ending in ("", "_jesUp"):
                of, column = scores[dataset], f"linear_signal_mass{mass}"
                values, weights = of.get(f"{column}{ending}", of[column]), of[f"eventWeight{ending}"].astype(float)
                expected = np.histogram(values, [-np.inf, *np.linspace(0, 1, 5), np.inf], weights=weights)[0]
                template = channel.processes[process]
                filled = template.up["jes"] if ending else template.nominal
                assert filled == pytest.approx(expected, rel=1e-9, abs=1e-12)
        found[mass] = channel.processes["WZ"].nominal
    assert found[1].tolist() != found[2].tolist()  # the same events with other scores
    assert found[1].sum() == pytest.approx(found[2].sum())
    (channel,) = templates.histogram("MET").channels
    assert channel.processes["signal"].nominal.sum() == pytest.approx(
        sum(scores[name]["eventWeight"].astype(float).sum() for name in ("W1", "W2"))
    )


def test_scores_of_a_network_with_a_parameter_are_filled_at_each_value(tmp_path: Path) -> None:
    """Also if nothing is fitted; other histograms once."""
    datasets = ANALYSIS[: ANALYSIS.index("score:")]
    for number in (0, 1, 3):
        (tmp_path / f"FILE{number}").touch()
    (tmp_path / "a.yaml").write_text(
        f"{datasets}convert: {{features: MET_pt}}\ntrain: {{parameter: mass}}\n"
        "histogram: {signal: {}, twice: {of: 2 * a_WZ, bins: [4, 0, 2]}, MET_pt: {bins: [4, 0, 9]}}\n"
    )
    stage = fill_stage(Analysis(load(tmp_path / "a.yaml")))
    assert stage is not None
    filled = {task.name.split("/")[0]: [plan.name for plan in task.work.args[0].plans] for task in stage.tasks}
    assert filled == {
        "W1": ["signal_mass1", "twice_mass1", "MET_pt"],
        "W2": ["signal_mass2", "twice_mass2", "MET_pt"],
        "WZ": ["signal_mass1", "signal_mass2", "twice_mass1", "twice_mass2", "MET_pt"],
    }


def made(directory: Path, filled: dict[int, dict[str, list[float]]], blind: BlindBins | None = None) -> Templates:
    """Templates of one file for each mass, with the sums of weights of each process in two bins, of scores."""
    plans, parts = [], []
    for mass, processes in filled.items():
        axis = Axis(Expression("x", "a.yaml"), (0.0, 0.5, 1.0))
        plan = Plan(f"x_mass{mass}", (axis,), ("all",), Hypothesis("mass", mass))
        with h5py.File(directory / f"{mass}.h5", "w") as file:
            for process, (every, *sums) in processes.items():
                file.attrs[process] = [every, sum(sums)]
                group = file.create_group(f"{plan.name}/all/{process}")
                group.attrs["endings"], group.attrs["of_scores"] = json.dumps([""]), True
                group.attrs["without"] = "[]"
                group["sums"], group["squares"] = [[0.0, *sums, 0.0]], [[0.0, *sums, 0.0]]
        plans.append(plan)
        parts.append(Part(directory / f"{mass}.h5", None))
    classes, output = ["signal", "WZ"], directory / "x.h5"
    make_templates(
        TemplateJob(parts, [], plans, {}, classes, "signal", {"": None}, output, directory / "x.root", blind)
    )
    return Templates.read(output)


def test_the_unseen_events_of_a_mass_stand_for_that_mass(tmp_path: Path) -> None:
    """Events that the network has not seen make up for all of the same mass, not of all masses together."""
    templates = made(tmp_path, {1: {"signal": [10.0, 2.0, 0.0]}, 2: {"signal": [30.0, 4.0, 6.0]}})
    found = {it.name: it.channels[0].processes["signal"].nominal[1:-1].tolist() for it in templates.histograms}
    assert found == {"x_mass1": pytest.approx([10, 0]), "x_mass2": pytest.approx([12, 18])}


def test_data_that_are_blind_at_one_mass_are_blind_at_all(tmp_path: Path) -> None:
    others = {"WZ": [8.0, 4.0, 4.0], "data_obs": [8.0, 5.0, 3.0]}
    filled = {1: {"signal": [3.0, 3.0, 0.0], **others}, 2: {"signal": [0.1, 0.0, 0.1], **others}}
    for limit, blind in ((0.5, [True, False]), (0.01, [True, True])):
        for histogram in made(tmp_path, filled, BlindBins("signal", limit)).histograms:
            found = histogram.channels[0].blind
            assert found is not None
            assert found[1:-1].tolist() == blind
