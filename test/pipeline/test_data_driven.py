"""A training with a class that is estimated from data, to its report."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import uproot
from click.testing import CliRunner

from MLTools.NanoML.cli import nanoml
from services.points import write

pytest.importorskip("data_processing.convert.stage")
pytest.importorskip("ML_processing.stages")

pytestmark = pytest.mark.exhaustive("each kind of analysis")

CONFIG = """\
luminosity: 10
datasets:
  signal: {files: signal.root, class: signal, cross_section: 0.02}
  WZ: {files: WZ.root, class: WZ, cross_section: 0.03}
  Muon: {files: Muon.root, data: true}
regions: {SR: isTight && nB == 0, CR: isTight && nB > 0, sideband: "!isTight"}
data_driven:
  fakes:
    {from: Muon, region: sideband, weight: 0.3, variations: {up: 0.4, down: 0.3 - 0.1 * nB}, subtract: WZ,
     into: {SR: nB == 0, CR: nB > 0}}
convert: {features: [x, y], shuffle: 1}
train: {model: mlp, regions: [SR], folds: 3, epochs: 5, options: {hidden: [8]}}
"""


@pytest.mark.usefixtures("white_figures")
def test_a_class_from_data_is_trained_on_and_reported(tmp_path: Path) -> None:
    write(tmp_path / "signal.root", 1, 800, 1.0)
    write(tmp_path / "WZ.root", 2, 800, -0.5)
    write(tmp_path / "Muon.root", 3, 1000, 0.0, run=320_000)
    (tmp_path / "a.yaml").write_text(CONFIG)
    done = CliRunner().invoke(nanoml, ["run", str(tmp_path / "a.yaml"), "--to", "evaluate"])
    assert done.exit_code == 0, done.exception
    with h5py.File(tmp_path / "a" / "hdf5" / "all.h5") as file:
        rows = file["events"][:]
    is_data = rows["run"] > 1
    with uproot.open(tmp_path / "Muon.root") as file:
        data = file["Events"].arrays(["event", "isTight"], library="np")
    assert set(rows["event"][is_data].tolist()) == set(data["event"][~data["isTight"]].tolist())
    metrics = json.loads((tmp_path / "a" / "training" / "metrics.json").read_text())
    assert metrics["classes"] == ["signal", "WZ", "fakes"]
    assert metrics["plots"]["significance"]["physical"]
    for name in ("SR", "CR"):
        inside = rows[f"in_{name}"] & (rows["label"] == 2)
        found = metrics["regions"][name]["yields"]["fakes"]
        assert found["events"] == inside.sum() > 200
        assert found["sum_of_weights"] == pytest.approx(rows["weight"][inside].sum(dtype=float), rel=1e-6)
        assert found["sum_of_weights_error"] == pytest.approx(
            np.sqrt((rows["weight"][inside].astype(float) ** 2).sum())
        )
        assert metrics["regions"][name]["auc_one_against_all"]["signal"]["value"] > 0.6
    assert metrics["events"]["classes"]["fakes"]["events"] == metrics["regions"]["SR"]["yields"]["fakes"]["events"]
    # of the sideband the simulation is left, not the estimate
    assert metrics["regions"]["sideband"]["yields"]["fakes"]["events"] == 0
    assert metrics["regions"]["sideband"]["yields"]["WZ"]["events"] > 300
    page = (tmp_path / "a" / "training" / "report.html").read_text()
    assert "fakes_less_WZ (fakes)" in page
    assert "subtracted in sideband, weighted by 0.3" in page
    sources = {source["name"]: source for source in metrics["variations"]["sources"]}
    assert list(sources) == ["fakes"]
    inside = rows[rows["in_SR"] & (rows["label"] == 2)]
    change = {
        end: inside[f"weight_fakes{end}"].sum(dtype=float) / inside["weight"].sum(dtype=float) - 1
        for end in ("Up", "Down")
    }
    assert change["Up"] == pytest.approx(1 / 3, rel=1e-5)
    assert change["Down"] == pytest.approx(0, abs=1e-6)
    assert sources["fakes"]["yields"]["fakes"]["up"] == pytest.approx(change["Up"], rel=1e-4)
    (varied,) = metrics["variations"]["regions"]["CR"]
    assert varied["yields"]["fakes"]["down"] == pytest.approx(-1 / 3, rel=1e-4)
    assert varied["yields"]["WZ"] == {"up": 0, "down": 0}
