"""Stages by their configuration: the parameters of datasets up to the shuffled file, and scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from data_processing.convert.validation import validate_file
from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.hdf5 import metadata_content
from MLTools.NanoML.nanoaod.accounting import Accounting, shift_changes
from MLTools.NanoML.stages import PARTS
from MLTools.NanoML.workflow.analysis import Stage
from MLTools.NanoML.workflow.pipeline import pipeline_stages
from services.rootfiles import record_of
from services.shifted import INFO, ShiftedSkims

CONFIG = """\
datasets:
  signal: {{files: {sample}/WprimeToWZToLNuLL_M600/*_0.root, class: signal, parameters: {{mass: 600, width: 0.1}}}}
  WZ:
    files: {sample}/WZTo3LNu_Pt100/*_0.root
    class: WZ
convert: {{features: MET_pt, shuffle: 1}}
"""


def stages(path: Path) -> dict[str, Stage]:
    return {stage.name: stage for stage in pipeline_stages(load(path), PARTS["data_processing"])}


def run(command: str, path: Path) -> str:
    done = CliRunner().invoke(nanoml, [command, str(path)])
    return "" if done.exit_code == 0 else str(done.exception)


@pytest.fixture
def config(tmp_path: Path, sample: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(CONFIG.format(sample=sample))
    return path


def test_every_file_has_the_parameters_of_all_datasets(config: Path) -> None:
    assert run("convert", config) == ""
    assert run("shuffle", config) == ""
    files = {name: config.parent / "a" / "hdf5" / f"{name}.h5" for name in ("signal", "WZ", "all")}
    for path in files.values():
        described = [(one["name"], one["dtype"], one["source"]) for one in metadata_content(path)["features"]]
        parameters = [(name, "float32", "parameter") for name in ("mass", "width")]
        assert described == [("MET_pt", "float32", "branch"), *parameters]
        assert not validate_file(path).faults
    columns = {}
    for name, path in files.items():
        with h5py.File(path) as file:
            columns[name] = file["events"][:]
    assert set(columns["signal"]["mass"].tolist()) == {600}
    assert set(columns["signal"]["width"].tolist()) == {np.float32(0.1)}
    assert np.isnan(columns["WZ"]["mass"]).all()
    assert np.array_equal(np.isnan(columns["all"]["mass"]), columns["all"]["label"] == 1)
    parameters = [one["parameters"] for one in metadata_content(files["all"])["datasets"]]
    assert parameters == [{}, {"mass": 600, "width": 0.1}]


def test_datasets_with_a_class_are_shuffled_if_that_is_asked_for(config: Path, sample: Path) -> None:
    text = config.read_text().replace(", shuffle: 1", "")
    text = text.replace("convert:", f"  none: {{files: {sample}/ZGToLLG/*_0.root}}\nconvert:")
    config.write_text(text)
    plain = stages(config)
    assert list(plain) == ["convert"]
    config.write_text(text.replace("features: MET_pt", "features: MET_pt, shuffle: 3"))
    convert, shuffle = stages(config).values()
    assert [task.settings for task in convert.tasks] == [task.settings for task in plain["convert"].tasks]
    (task,) = shuffle.tasks
    assert [Path(path).stem for path in task.inputs] == ["WZ", "signal"]
    assert task.work.args[0].seed == 3


def test_what_has_other_parameters_is_converted_again(config: Path) -> None:
    def settings() -> dict[str, object]:
        return {task.name: task.settings for task in stages(config)["convert"].tasks}

    before = settings()
    text = config.read_text()
    config.write_text(text.replace("mass: 600", "mass: 700"))
    value = settings()
    config.write_text(text.replace("mass: 600", "heavy: 600"))
    name = settings()
    assert (value["signal"] != before["signal"], value["WZ"] != before["WZ"]) == (True, False)
    assert (name["signal"] != before["signal"], name["WZ"] != before["WZ"]) == (True, True)


def test_a_parameter_that_is_a_branch_is_told_with_its_line(config: Path) -> None:
    config.write_text(config.read_text().replace("mass: 600", "MET_phi: 600"))
    message = run("convert", config)
    assert f"{config}:2: datasets.signal.parameters.MET_phi: " in message
    assert "has a column of this name" in message
    assert not list(config.parent.glob("a/hdf5/*.h5"))


SCORES = """\
datasets: {{WZ: {{files: {source}}}}}
score: {{model: {models}, parameter: {{mass: 650}}, copy: true}}
"""


def test_models_that_cannot_be_used_are_told_once(
    tmp_path: Path, sample: Path, linear_model: Callable[..., Path]
) -> None:
    path = tmp_path / "a.yaml"
    source, model = sample / "WZTo3LNu" / "WZTo3LNu_0.root", linear_model(["MET_phi"])
    path.write_text(SCORES.format(source=source, models=model))
    assert run("score", path) == f"{path}:2: score: parameter mass: none of the models has it (they have none)."
    path.write_text(SCORES.format(source=source, models=[str(model)] * 2))
    assert "is listed twice" in run("score", path)


def test_a_model_with_a_parameter_scores_at_the_values_of_datasets_or_at_those_that_are_given(config: Path) -> None:
    text = config.read_text() + "train: {parameter: mass}\n"
    for more, expected in (
        ("", [600.0]),
        ("score: {copy: true}\n", [600.0]),
        ("score: {parameter: {mass: 650}}\n", [650.0]),
        ("score: {parameter: {mass: [600, 650]}}\n", [600.0, 650.0]),
    ):
        config.write_text(text + more)
        found = stages(config)["score"].tasks[0].work.args[0]
        assert (found.parameters, found.copy) == ({"mass": expected}, "copy" in more)
    text = text.replace(", parameters: {mass: 600, width: 0.1}", "")
    config.write_text(text.replace("{parameter", "{files: x.h5, parameter"))
    assert run("score", config) == (
        f"{config}:1: has no section for normalise and score: the model's parameter mass needs a value. "
        "Add one, as in `score: {parameter: {mass: 600}}`."
    )


SHIFTED = """\
eras: {{2018: {{luminosity: 59.8, corrections: {corrections}}}}}
datasets:
  WZ: {{files: {directory}/*.root, era: 2018, class: WZ, cross_section: 0.0546}}
skim: {{selection: "{directory}/shifted.py:Shifted"}}
convert: {{features: [MET, nGoodJet], shuffle: 1}}
"""


def test_an_analysis_with_shifts(shifted_skims: ShiftedSkims, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(SHIFTED.format(directory=shifted_skims.directory, corrections=INFO.corrections_file))
    done = CliRunner().invoke(nanoml, ["run", str(path)])
    assert done.exit_code == 0, done.output
    accounting = Accounting()
    for skim in sorted((tmp_path / "a" / "skims" / "WZ").glob("*.root")):
        record = record_of(skim)
        accounting.files += record.accounting.files
    others, changes = accounting.written - accounting.selected, shift_changes(accounting)
    assert f"  {others} more events under shifts alone; selected under shifts: {changes}" in done.output
    assert others > 0
    for name in ("WZ", "all"):
        found = validate_file(tmp_path / "a" / "hdf5" / f"{name}.h5")
        assert (found.faults, found.events) == ({}, accounting.selected)
