"""A regression without classes, as a user runs it: a new analysis whose YAML file names targets and no class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

pytest.importorskip("torch")
pytest.importorskip("data_processing.skim.skim")

from MLTools.NanoML.commands.start import create
from processes import nanoml

pytestmark = [pytest.mark.exhaustive("an analysis without classes"), pytest.mark.usefixtures("nothing_drawn")]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `nanoml run` makes of a new analysis that estimates the mass of the leptons."""
    directory = tmp_path_factory.mktemp("regression") / "leptons"
    create(directory)
    analysis = directory / "analysis.yaml"
    lines = [line for line in analysis.read_text().splitlines() if not line.strip().startswith("class:")]
    text = "\n".join(lines)
    analysis.write_text(
        text.replace("  model: mlp", "  model: mlp\n  targets: [ThreeLep_mass]\n  folds: 3\n  epochs: 20")
    )
    done = nanoml("run", "analysis.yaml", cwd=directory)
    assert done.returncode == 0, done.stderr
    return directory / "results"


def content(path: Path) -> Any:
    return json.loads(path.read_text())


def test_all_simulation_is_trained_on(results: Path) -> None:
    description = content(results / "training" / "training.json")
    assert [it["class"] for it in description["datasets"]] == [None, None, None]
    selected = sum(it["books"]["selected"] for it in description["datasets"])
    assert description["data"]["classes"]["all"]["events"] == selected > 900
    assert "ThreeLep_mass" not in [it["name"] for it in description["features"]]


def test_the_report_is_of_all_of_it(results: Path) -> None:
    metrics = content(results / "training" / "metrics.json")
    assert metrics["events"]["tested"] == metrics["events"]["classes"]["all"]["events"]
    found = metrics["targets"]["ThreeLep_mass"]["network"]
    assert 0 < found["resolution"]["value"] < 80  # GeV; the masses, from 100 to 600 GeV, spread by more
    assert "Regression of ThreeLep_mass" in (results / "training" / "report.html").read_text()


def test_every_dataset_gets_the_estimate(results: Path) -> None:
    for name in ("signal", "WZ", "ZG"):
        (file,) = (results / "scores" / name).glob("*.root")
        estimates = uproot.open(file)["Events"]["leptons_ThreeLep_mass"].array(library="np")
        assert (np.abs(estimates) < 3000).all()
        assert estimates.std() > 30
