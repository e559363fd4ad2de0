"""The parameters of datasets, from the configuration to the shuffled file."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from data_processing.stages import convert_stage
from data_processing.validate import validate_file
from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.config import load
from MLTools.NanoML.hdf5 import read_metadata

CONFIG = """\
datasets:
  signal: {{files: {sample}/WprimeToWZToLNuLL_M600/*_0.root, class: signal, parameters: {{mass: 600, width: 0.1}}}}
  WZ:
    files: {sample}/WZTo3LNu_Pt100/*_0.root
    class: WZ
convert: {{features: MET_pt, shuffle: 1}}
"""


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
        described = read_metadata(path)["features"]
        assert [(one["name"], one["dtype"], one["source"]) for one in described] == [
            ("MET_pt", "float32", "branch"),
            ("mass", "float32", "parameter"),
            ("width", "float32", "parameter"),
        ]
        assert not validate_file(path).faults
    columns = {}
    for name, path in files.items():
        with h5py.File(path) as file:
            columns[name] = file["events"][:]
    assert set(columns["signal"]["mass"].tolist()) == {600}
    assert set(columns["signal"]["width"].tolist()) == {np.float32(0.1)}
    assert np.isnan(columns["WZ"]["mass"]).all()
    assert np.array_equal(np.isnan(columns["all"]["mass"]), columns["all"]["label"] == 1)
    assert [one["parameters"] for one in read_metadata(files["all"])["datasets"]] == [
        {"mass": 600, "width": 0.1},
        {},
    ]


def test_a_parameter_that_is_infinite_is_a_fault(config: Path) -> None:
    assert run("convert", config) == ""
    path = config.parent / "a" / "hdf5" / "WZ.h5"
    with h5py.File(path, "r+") as file:
        events = file["events"][:]
        events["mass"][3] = np.inf
        file["events"][:] = events
    ((check, where, message),) = validate_file(path).faults
    assert (check, where) == ("finite", "events/mass")
    assert "is infinite" in message


def test_what_has_other_parameters_is_converted_again(config: Path) -> None:
    def settings() -> dict[str, object]:
        loaded = load(config)
        files = {name: list(dataset.files) for name, dataset in loaded.datasets.items()}
        return {task.name: task.settings for task in convert_stage(loaded, files).tasks}

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
