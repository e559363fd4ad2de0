"""Templates of files that were filled: what is outside of the bins, hypotheses of the signal, datasets that vary others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

from data_processing.convert.expressions import Expression
from data_processing.histograms.fill import Axis, Plan, places_in
from data_processing.histograms.stage import fill_stage, histogram_stage
from data_processing.histograms.sums import Part
from data_processing.histograms.templates import ChosenBins, TemplateJob, make_templates, merged_bins
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.bins import FINE, fine_edges
from MLTools.NanoML.contracts.blinding import BlindBins
from MLTools.NanoML.contracts.templates import (
    FilledHistogram,
    HistogramChannel,
    Hypothesis,
    Template,
    TemplateAxis,
    Templates,
)
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.report.section import PRIVATE_WORK
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.pipeline import pipeline_stages
from services.configurations import run_stages
from services.rootfiles import branches_of
from services.shifted import ShiftedSkims

X, Y = (Axis(Expression(name, "a.yaml"), (0.0, 1.0, 2.0)) for name in "xy")


def fill(file: h5py.File, plan: str, process: str, endings: Sequence[str], sums: Any, squares: Any) -> h5py.Group:
    """What filling leaves of a process in a file: for each ending, the sums of weights and of their squares."""
    group = file.create_group(f"{plan}/all/{process}")
    group.attrs.update({"endings": json.dumps(endings), "of_scores": False, "without": "[]"})
    group["sums"], group["squares"] = sums, squares
    return group


def of_files(directory: Path, names: Iterable[object], plans: list[Plan], chosen: Any = None, **more: Any) -> Templates:
    parts, output = [Part(directory / f"{name}.h5", None) for name in names], directory / "x.h5"
    classes, root = ["signal", "WZ"], directory / "x.root"
    make_templates(TemplateJob(parts, [], plans, chosen or {}, classes, "signal", {"": None}, output, root, **more))
    return Templates.read(output)


def made(directory: Path, plan: Plan, filled: dict[str, Any], chosen: Any = None) -> HistogramChannel:
    """The channel of one file, filled with sums of weights, and twice these for a variation."""
    with h5py.File(directory / "filled.h5", "w") as file:
        for process, sums in filled.items():
            flat = np.ravel(np.array(sums, float))
            fill(file, plan.name, process, ["", "_jesUp"], [flat, 2 * flat], [3 * flat, 5 * flat])
    (channel,) = of_files(directory, ["filled"], [plan], chosen).histogram(plan.name).channels
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
    stage: Any = histogram_stage(Analysis(load(tmp_path / "a.yaml")))
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


HYPOTHESES = """\
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
    text = HYPOTHESES.replace("MODEL", str(model))
    for number in (0, 1, 3):
        text = text.replace(f"FILE{number}", str(shifted_skims.shifted[number]))
    (tmp_path / "a.yaml").write_text(text)
    run_stages(tmp_path / "a.yaml", "normalise", "score", "fill", "histogram")
    templates = Templates.read(tmp_path / "a/histograms/histograms.h5")
    names = [(it.name, it.hypothesis) for it in templates.histograms]
    assert names == [("score_mass1", "mass = 1"), ("score_mass2", "mass = 2"), ("MET", None)]
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
    total = sum(scores[name]["eventWeight"].astype(float).sum() for name in ("W1", "W2"))
    assert channel.processes["signal"].nominal.sum() == pytest.approx(total)


def test_scores_of_a_network_with_a_parameter_are_filled_at_each_value(tmp_path: Path) -> None:
    """Also if nothing is fitted; other histograms once."""
    datasets = HYPOTHESES[: HYPOTHESES.index("score:")]
    for number in (0, 1, 3):
        (tmp_path / f"FILE{number}").touch()
    (tmp_path / "a.yaml").write_text(
        f"{datasets}convert: {{features: MET_pt}}\ntrain: {{parameter: mass}}\n"
        "histogram: {signal: {}, twice: {of: 2 * a_WZ, bins: [4, 0, 2]}, MET_pt: {bins: [4, 0, 9]}}\n"
    )
    stage: Any = fill_stage(Analysis(load(tmp_path / "a.yaml")))
    filled = {task.name.split("/")[0]: [plan.name for plan in task.work.args[0].plans] for task in stage.tasks}
    assert filled == {
        "W1": ["signal_mass1", "twice_mass1", "MET_pt"],
        "W2": ["signal_mass2", "twice_mass2", "MET_pt"],
        "WZ": ["signal_mass1", "signal_mass2", "twice_mass1", "twice_mass2", "MET_pt"],
    }


def of_masses(directory: Path, filled: dict[int, dict[str, list[float]]], blind: BlindBins | None = None) -> Templates:
    """Templates of one file for each mass, with the sums of weights of each process in two bins, of scores."""
    plans = []
    for mass, processes in filled.items():
        plan = Plan(f"x_mass{mass}", (X,), ("all",), Hypothesis("mass", mass))
        with h5py.File(directory / f"{mass}.h5", "w") as file:
            for process, (every, *sums) in processes.items():
                file.attrs[process] = [every, sum(sums)]
                group = fill(file, plan.name, process, [""], *[[[0.0, *sums, 0.0]]] * 2)
                group.attrs["of_scores"] = True
        plans.append(plan)
    return of_files(directory, filled, plans, blind=blind)


def test_the_unseen_events_of_a_mass_stand_for_that_mass(tmp_path: Path) -> None:
    """Events that the network has not seen make up for all of the same mass, not of all masses together."""
    templates = of_masses(tmp_path, {1: {"signal": [10.0, 2.0, 0.0]}, 2: {"signal": [30.0, 4.0, 6.0]}})
    found = {it.name: it.channels[0].processes["signal"].nominal[1:-1].tolist() for it in templates.histograms}
    assert found == {"x_mass1": pytest.approx([10, 0]), "x_mass2": pytest.approx([12, 18])}


def test_data_that_are_blind_at_one_mass_are_blind_at_all(tmp_path: Path) -> None:
    others = {"WZ": [8.0, 4.0, 4.0], "data_obs": [8.0, 5.0, 3.0]}
    filled = {1: {"signal": [3.0, 3.0, 0.0], **others}, 2: {"signal": [0.1, 0.0, 0.1], **others}}
    for limit, blind in ((0.5, [True, False]), (0.01, [True, True])):
        for histogram in of_masses(tmp_path, filled, BlindBins("signal", limit)).histograms:
            found: Any = histogram.channels[0].blind
            assert found[1:-1].tolist() == blind


VARIED = """\
luminosity: 59.8
datasets:
  two:   {files: [two.root, more.root], class: tt, cross_section: 88}
  semi:  {files: semi.root, class: tt, cross_section: 366}
  WZ:    {files: WZ.root, class: WZ, cross_section: 5}
  up:    {files: up.root, cross_section: 88, varies: two, variation: hdamp_up}
  down:  {files: down.root, cross_section: 88, varies: two, variation: hdamp_down}
  other: {files: other.root, cross_section: 454, varies: [two, semi], variation: herwig}
convert: {features: [x]}
train: {model: mlp}
histogram: {x: {bins: [2, 0, 2]}}
"""
SUMS = {
    "two": [3.0, 4.0], "more": [1.0, 1.0], "semi": [10.0, 20.0], "WZ": [5.0, 5.0], "up": [5.0, 6.0], "down": [2.0, 4.0],
    "other": [12.0, 30.0], "upsemi": [11.0, 24.0],
}  # fmt: skip


def of_datasets(directory: Path, text: str = VARIED, endings: tuple[str, ...] = ("",)) -> dict[str, Template]:
    """The templates of an analysis, whose files are filled with the numbers above."""
    (directory / "a.yaml").write_text(text)
    for name in SUMS:
        (directory / f"{name}.root").touch()
    filling, histogram = pipeline_stages(load(directory / "a.yaml"), ("fill", "histogram"))
    for task in filling.tasks:
        job, sums = task.work.args[0], SUMS[Path(task.name).name]
        job.output.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(job.output, "w") as file:
            (process,) = job.processes
            file.attrs[process.name] = [sum(sums), sum(sums)]
            fill(file, "x", process.name, endings, *[[[0.0, *sums, 0.0]] * len(endings)] * 2)
    (task,) = histogram.tasks
    job = task.work.args[0]
    job.normalisations.clear()
    task.work()
    (channel,) = Templates.read(job.output).histogram("x").channels
    return dict(channel.processes)


def test_a_dataset_stands_in_for_others_under_its_variation(tmp_path: Path) -> None:
    found = of_datasets(tmp_path)
    assert list(found) == ["tt", "WZ"]
    assert found["tt"].nominal.tolist() == [0, 14, 25, 0]
    assert found["tt"].up["hdamp"].tolist() == [0, 15, 26, 0]
    assert found["tt"].down["hdamp"].tolist() == [0, 12, 24, 0]
    assert found["tt"].up["herwig"].tolist() == [0, 12, 30, 0]
    assert found["tt"].down["herwig"].tolist() == [0, 16, 20, 0]
    # these files have the same sums of weights and of squares; what is mirrored has no weights of its own
    assert found["tt"].up_variances["hdamp"].tolist() == [0, 15, 26, 0]
    assert found["tt"].down_variances["hdamp"].tolist() == [0, 12, 24, 0]
    assert found["tt"].down_variances["herwig"].tolist() == found["tt"].variances.tolist()
    assert not found["WZ"].up


def test_datasets_with_one_variation_vary_together(tmp_path: Path) -> None:
    more = "  upsemi: {files: upsemi.root, cross_section: 366, varies: semi, variation: hdamp_up}\n"
    found = of_datasets(tmp_path, VARIED.replace("  other:", f"{more}  other:"))
    assert found["tt"].up["hdamp"].tolist() == [0, 15 + 1, 26 + 4, 0]


def test_a_variation_of_a_weight_has_another_name(tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match="dataset up: hdamp_up is a variation of a weight, too"):
        of_datasets(tmp_path, endings=("", "_hdampUp"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "varies: two, variation: hdamp_up",
            "varies: tow, variation: hdamp_up",
            'varies\\[0\\]: "tow" is not one of `datasets`',
        ),
        (", variation: hdamp_up", "", 'datasets.up: needs both "varies"'),
        ("up.root, cross", "up.root, class: tt, cross", "datasets.up.varies: is for simulation without a class"),
        ("[two, semi]", "[two, WZ]", "datasets.other.varies: takes datasets of one class"),
    ],
)
def test_a_contradiction_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert VARIED.count(old) == 1
    with pytest.raises(ConfigError, match=message):
        of_datasets(tmp_path, VARIED.replace(old, new))


@pytest.mark.parametrize("shape", [(8,), (3, 8)])
def test_merged(shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype=float).reshape(shape)
    found = merged_bins(values, [0, 2, 6])
    assert found.shape == (*shape[:-1], 4)
    assert found[..., 0].tolist() == values[..., 0].tolist()
    assert found[..., 1].tolist() == values[..., 1:3].sum(axis=-1).tolist()
    assert found[..., 2].tolist() == values[..., 3:7].sum(axis=-1).tolist()
    assert found[..., 3].tolist() == values[..., 7].tolist()


@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=50), st.integers(1, 60))
def test_places_are_those_that_a_search_finds(values: list[float], count: int) -> None:
    edges = np.linspace(-1, 2, count + 1)
    many = np.array([*values, *edges, np.inf, -np.inf, *np.nextafter(edges, 9), *np.nextafter(edges, -9)])
    assert places_in(edges, many).tolist() == np.searchsorted(edges, many, "right").tolist()
    assert places_in(np.array(fine_edges()), many).tolist() == np.searchsorted(fine_edges(), many, "right").tolist()
