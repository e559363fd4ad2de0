"""Every shipped configuration, and a new one without classes, from the sample data to scores in ROOT files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import uproot

from MLTools.NanoML.commands.start import create
from processes import nanoml

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.usefixtures("nothing_drawn")]
pytest.importorskip("torch")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples, with trainings that take no time."""
    directory = tmp_path_factory.mktemp("examples")
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        text = path.read_text()
        shutil.copy(path, directory)
        (directory / path.name).write_text(text.replace("\ntrain:\n", "\ntrain:\n  epochs: 1\n  folds: 3\n"))
    shutil.copy(ROOT / "examples" / "wz.py", directory)
    for name in ("nano", "corrections"):
        (directory / name).symlink_to(ROOT / "examples" / name)
    return directory


def run(directory: Path, *words: str) -> None:
    done = nanoml(*words, cwd=directory)
    assert done.returncode == 0, done.stderr


def check_scores(workdir: Path) -> None:
    """The scores in the ROOT files are those of the networks in PyTorch, event by event."""
    from ML_processing.training.data import read
    from ML_processing.training.directory import Training

    training = Training.load(workdir / "training")
    files = sorted((workdir / "hdf5").glob("*.h5"))
    table = read(files, training.description.config)
    rows, expected = training.out_of_fold(table)
    assert len(rows) == len(table) > 900
    branches = [f"{workdir.name}_{name}" for name in training.description.classes]
    labels = {dataset.name: dataset.label for dataset in training.description.datasets}
    found: dict[tuple[int, ...], list[np.ndarray]] = {}  # datasets of a class may have events of the same number
    for path in workdir.glob("scores/*/*.root"):
        arrays = uproot.open(path)["Events"].arrays(["run", "luminosityBlock", "event", *branches], library="np")
        keys = zip(arrays["run"], arrays["luminosityBlock"], arrays["event"], strict=True)
        values = np.stack([arrays[name] for name in branches], axis=1)
        for key, value in zip(keys, values, strict=True):
            found.setdefault((labels[path.parent.name], *key), []).append(value)
    # there are more if a network is trained in some regions, or events pass under shifts alone
    assert sum(map(len, found.values())) >= len(table)
    for key, score in zip(zip(table.labels, *table.identifiers, strict=True), expected, strict=True):
        assert min(abs(value - score).max() for value in found[key]) < 2e-6


def trained() -> list[str]:
    """The configurations that are for training; those of the demonstration and with data have tests of their own."""
    texts = {path.name: path.read_text() for path in sorted((ROOT / "examples").glob("*.yaml"))}
    own = [name for name, text in texts.items() if "\ntrain:" in text and "data: true" not in text]
    return [name for name in own if name != "trilepton.yaml"]


ALL = pytest.mark.exhaustive("every shipped configuration")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name == "wz.yaml" else ALL) for name in trained()])
def test_configuration(directory: Path, name: str) -> None:
    run(directory, "run", name)
    check_scores(directory / Path(name).stem)


@pytest.mark.exhaustive("an analysis without classes")
def test_a_regression_without_classes_is_of_all_simulation(tmp_path: Path) -> None:
    """A new analysis that estimates the mass of the leptons, which is from 100 to 600 GeV."""
    create(tmp_path / "leptons")
    analysis = tmp_path / "leptons" / "analysis.yaml"
    lines = [line for line in analysis.read_text().splitlines() if not line.strip().startswith("class:")]
    settings = "  model: mlp\n  targets: [ThreeLep_mass]\n  folds: 3\n  epochs: 20"
    analysis.write_text("\n".join(lines).replace("  model: mlp", settings))
    run(analysis.parent, "run", "analysis.yaml")
    results = analysis.parent / "results"
    described, metrics = (json.loads((results / f"training/{it}.json").read_text()) for it in ("training", "metrics"))
    assert [it["class"] for it in described["datasets"]] == [None, None, None]
    selected = sum(it["books"]["selected"] for it in described["datasets"])
    assert described["data"]["classes"]["all"]["events"] == selected > 900
    assert "ThreeLep_mass" not in [it["name"] for it in described["features"]]
    assert metrics["events"]["tested"] == metrics["events"]["classes"]["all"]["events"]
    assert 0 < metrics["targets"]["ThreeLep_mass"]["network"]["resolution"]["value"] < 80
    assert "Regression of ThreeLep_mass" in (results / "training/report.html").read_text()
    for name in ("signal", "WZ", "ZG"):
        (file,) = (results / "scores" / name).glob("*.root")
        estimates = uproot.open(file)["Events"]["leptons_ThreeLep_mass"].array(library="np")
        assert (np.abs(estimates) < 3000).all()
        assert estimates.std() > 30
