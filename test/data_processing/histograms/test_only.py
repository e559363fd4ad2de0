"""What is in histograms, and what is not: samples without a class or for the training alone; and events that no network has seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from data_processing.histograms.stage import fill_stage
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.templates import Origin, Templates
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.terminal import progress
from MLTools.NanoML.workflow.analysis import Analysis
from services.configurations import run_stages
from services.points import write

ANALYSIS = """\
luminosity: 10
datasets:
  signal: {files: signal.root, class: signal, cross_section: 1}
  LO:     {files: LO.root, class: WZ, cross_section: 2, only: training}
  NLO:    {files: NLO.root, class: WZ, cross_section: 3, only: fit}
  both:   {files: both.root, class: WZ, cross_section: 4}
  tune:   {files: tune.root, cross_section: 7, varies: both, variation: tune}
  other:  {files: other.root}
  Muon:   {files: Muon.root, data: true}
regions: {SR: isTight, side: "!isTight"}
data_driven:
  fakes: {from: Muon, region: side, weight: 0.2, subtract: [NLO, LO], into: {SR: nB == 0}}
  flips: {from: Muon, region: side, weight: 0.1, into: {SR: 1}, only: fit}
convert: {features: [x]}
train: {model: mlp, folds: 1, regions: [SR]}
export: {name: linear}
score: {model: MODEL}
histogram: {y: {bins: [4, -2, 2]}, score: {of: linear_WZ, bins: [4, 0, 1]}}
"""


@pytest.fixture(scope="module")
def config_file(linear_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("only")
    for seed, name in enumerate(("signal", "LO", "NLO", "both", "tune", "other", "Muon")):
        write(directory / f"{name}.root", seed, 400, 0.1 * seed, run=320_000 if name == "Muon" else 1)
    (directory / "a.yaml").write_text(ANALYSIS.replace("MODEL", str(linear_model(["x"]))))
    return directory / "a.yaml"


def test_what_is_not_filled_is_said(
    config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_notes", {})
    stage = fill_stage(Analysis(load(config_file)))
    assert stage is not None
    filled = {task.name.split("/")[0]: task.work.args[0].processes for task in stage.tasks}
    assert {name: [(it.name, it.is_seen) for it in processes] for name, processes in filled.items()} == {
        "signal": [("signal", True)],
        "NLO": [("WZ", False), ("fakes", False)],
        "both": [("WZ", True)],
        "tune": [("WZ", False)],
        "Muon": [("data_obs", False), ("fakes", True), ("flips", False)],
    }
    assert "in no histogram: LO (only: training), other (it has no class)" in capsys.readouterr().err


def expected(directory: Path, name: str, prefix: str, is_seen: bool) -> Any:
    """The events of a dataset in SR, by plain numpy: all, and those that no network has seen, which stand for all."""
    (path,) = (directory / "a/scores" / name).glob("*.root")
    with uproot.open(path) as file:
        events = file["Events"].arrays(library="np")
    weights, inside = events[f"{prefix}eventWeight"].astype(float), events[f"{prefix}in_SR"]
    fold = fold_of(events["run"], events["luminosityBlock"], events["event"], 5)
    unseen = fold == 0 if is_seen else np.ones(len(fold), bool)
    factor = weights.sum() / weights[unseen].sum()
    return np.array([weights[inside].sum(), factor * weights[inside & unseen].sum()])


def test_events_of_samples_for_the_fit_count_all_and_nothing_twice(config_file: Path) -> None:
    run_stages(config_file, "normalise", "score", "fill", "histogram")
    directory = config_file.parent
    templates = Templates.read(directory / "a/histograms/histograms.h5")
    assert templates.classes == ("signal", "WZ", "fakes", "flips")
    assert templates.histogram("score").origins == {
        "signal": Origin(("signal",)),
        "WZ": Origin(("NLO", "both")),
        "fakes": Origin(("Muon", "less NLO"), True),
        "flips": Origin(("Muon",), True),
    }
    sums = {
        "WZ": expected(directory, "NLO", "", False) + expected(directory, "both", "", True),
        "fakes": expected(directory, "Muon", "fakes_", True) + expected(directory, "NLO", "fakes_", False),
        "flips": expected(directory, "Muon", "flips_", False),
    }
    assert abs(sums["WZ"][1] / sums["WZ"][0] - 1) > 0.01
    for number, name in enumerate(("y", "score")):
        processes = next(it for it in templates.histogram(name).channels if it.region == "SR").processes
        assert {it: processes[it].nominal.sum() for it in sums} == {
            it: pytest.approx(each[number], rel=1e-6) for it, each in sums.items()
        }
