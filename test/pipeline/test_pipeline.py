"""The whole pipeline on the sample data, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from click.testing import CliRunner

import processes
from MLTools.NanoML.cli import nanoml as command_line

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.usefixtures("nothing_drawn")]
pytest.importorskip("torch")


COMMAND = [sys.executable, "-m", "MLTools.NanoML.cli"]


def nanoml(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = processes.nanoml(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done


def copy_example(directory: Path, changes: str = "") -> None:
    text = (ROOT / "examples" / "trilepton.yaml").read_text()
    (directory / "trilepton.yaml").write_text(text.replace("  model: mlp\n", f"  model: mlp\n{changes}"))
    (directory / "nano").symlink_to(ROOT / "examples" / "nano")


FOLDS = 3
SHORT = f"  epochs: 2\n  folds: {FOLDS}\n"
"""For what is not about how good the network is."""


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of examples/, as it is in the repository, after one run."""
    directory = tmp_path_factory.mktemp("checkout") / "examples"
    directory.mkdir()
    copy_example(directory)
    (directory / "corrections").symlink_to(ROOT / "examples" / "corrections")
    nanoml("run", "trilepton.yaml", cwd=directory)
    return directory


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example after a short training."""
    directory = tmp_path_factory.mktemp("short")
    copy_example(directory, SHORT)
    nanoml("run", "trilepton.yaml", "--to", "train", cwd=directory)
    return directory


def to_do(directory: Path, *options: str) -> dict[str, dict[str, str]]:
    line = ["run", str(directory / "trilepton.yaml"), "--dry-run", "--json", *options]
    plan = json.loads(CliRunner().invoke(command_line, line, catch_exceptions=False).stdout)
    return {stage["stage"]: stage["to_do"] for stage in plan}


def scored(directory: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Skim and scores of each file, as arrays."""
    for path in sorted(directory.glob("trilepton/skims/*/*.root")):
        beside = directory / "trilepton" / "scores" / path.parent.name / path.name
        with uproot.open(path) as skim, uproot.open(beside) as scores:
            yield skim["Events"].arrays(library="np"), scores["Events"].arrays(library="np")


def check_training(directory: Path, expected: Path) -> None:
    """The skims and the networks are the same, to the last bit."""
    import torch

    skims = [path.relative_to(expected) for path in expected.glob("trilepton/skims/*/*.root")]
    assert len(skims) == 9
    for path in skims:
        with uproot.open(directory / path) as skim, uproot.open(expected / path) as other:
            found, wanted = (file["Events"].arrays(library="np") for file in (skim, other))
        assert list(found) == list(wanted)
        for name in wanted:
            assert all(np.array_equal(a, b) for a, b in zip(found[name], wanted[name])), name
    for fold in range(FOLDS):
        path = Path("trilepton", "training", f"network_{fold}.pt")
        network, other = (torch.load(place / path, weights_only=True) for place in (directory, expected))
        assert network.keys() == other.keys()
        assert all(torch.equal(network[name], other[name]) for name in other)


def test_the_network_is_as_good_as_it_should_be(example: Path) -> None:
    metrics = json.loads((example / "trilepton/training/metrics.json").read_text())
    assert metrics["auc"]["network"] >= 0.92
    assert metrics["auc"]["network"] >= metrics["auc"]["baseline"] - 0.01


def test_the_auc_follows_from_the_scores_in_the_root_files(example: Path) -> None:
    from sklearn.metrics import roc_auc_score

    score, truth, weight = [], [], []
    for path in sorted(example.glob("trilepton/scores/*/*.root")):
        values = uproot.open(path)["Events/trilepton_discriminant"].array(library="np")
        is_signal = path.parent.name.startswith("Wprime")
        weights = {"WZTo3LNu_Pt100": 0.0546 / 4000, "ZGToLLG_PtG100": 0.0757 / 4250}
        score.append(values)
        truth.append(np.full(len(values), is_signal))
        weight.append(np.full(len(values), weights.get(path.parent.name, 1.0)))
    found = roc_auc_score(np.concatenate(truth), np.concatenate(score), sample_weight=np.concatenate(weight))
    metrics = json.loads((example / "trilepton/training/metrics.json").read_text())
    assert found == pytest.approx(metrics["auc"]["network"], abs=1e-4)


def test_scores_in_root_files_are_pytorchs_and_belong_to_the_right_events(example: Path) -> None:
    import torch

    from ML_processing.events.inputs import Inputs
    from ML_processing.training.directory import Training
    from MLTools.NanoML.nanoaod.folds import fold_of

    training = Training.load(example / "trilepton/training")
    columns = json.loads((example / "trilepton/model.json").read_text())["inputs"][0]["columns"]
    total = 0
    for skim, scores in scored(example):
        for name in ("run", "luminosityBlock", "event"):
            assert (skim[name] == scores[name]).all()
        fold = fold_of(skim["run"], skim["luminosityBlock"], skim["event"], 5)
        assert (scores["trilepton_fold"] == fold).all()
        features = torch.from_numpy(np.stack([skim[name].astype(np.float32) for name in columns], axis=1))
        found = np.stack([scores[f"trilepton_{name}"] for name in ("signal", "WZ", "ZG")], axis=1)
        for k, network in enumerate(training.networks):
            with torch.no_grad():
                expected = network.eval()(Inputs(features, {})).softmax(dim=1).numpy()
            assert np.abs(found - expected)[fold == k].max(initial=0) < 1e-6
            against = training.description.discriminant.values(expected)
            assert np.abs(scores["trilepton_discriminant"] - against)[fold == k].max(initial=0) < 1e-6
        total += len(fold)
    assert total == 799 + 596 + 94


def test_weights_are_accounted_for_from_files_to_training(example: Path) -> None:
    import h5py

    expected = {"WZTo3LNu_Pt100": (0.0546, 4000, 596), "ZGToLLG_PtG100": (0.0757, 4250, 94)}
    expected["WprimeToWZToLNuLL_M600"] = (0.00184, 3000, 799)
    for name, (cross_section, total, selected) in expected.items():
        with h5py.File(example / "trilepton/hdf5" / f"{name}.h5") as file:
            weights = file["events"]["weight"]
            accounting = json.loads(file["metadata"].asstr()[()])["datasets"][0]["books"]
        assert (accounting["entries"], accounting["sum_of_weights"], accounting["selected"]) == (total, total, selected)
        assert weights.sum(dtype=float) == pytest.approx(cross_section * 59_800 * selected / total, rel=1e-6)
    training = json.loads((example / "trilepton/training/training.json").read_text())
    assert [dataset["books"]["entries"] for dataset in training["datasets"]] == [4000, 3000, 4250]


def test_one_page_leads_to_all_others(example: Path) -> None:
    workdir = example / "trilepton"
    page = (workdir / "index.html").read_text()
    links = set(re.findall(r'(?:href|src)="([^"#]+)', page))
    assert {"training/report.html", "training/roc.png"} <= links
    assert all((workdir / link).exists() for link in links)
    for anchor in re.findall(r'href="training/report.html#(\w+)"', page):
        assert f'<section id="{anchor}"' in (workdir / "training/report.html").read_text()
    assert '<a href="../index.html">Analysis</a>' in (workdir / "training/report.html").read_text()
    for process, events in {"signal": "3,000", "WZ": "4,000", "ZG": "4,250"}.items():
        assert f"<td>{process}</td><td></td><td>3</td><td>none</td><td>{events}</td>" in page


def test_a_second_run_does_nothing_and_says_so(example: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in example.rglob("trilepton/**/*") if path.is_file()}
    done = nanoml("run", "trilepton.yaml", cwd=example)
    assert done.stderr.splitlines()[-1] == "Everything is up to date."
    after = {path: path.stat().st_mtime_ns for path in example.rglob("trilepton/**/*") if path.is_file()}
    changed = [path for path in after if after[path] != before.get(path)]
    assert [path.name for path in changed] in ([], ["lock"])


def test_what_was_lost_is_made_again(example: Path) -> None:
    (example / "trilepton/scores/ZGToLLG_PtG100/ZGToLLG_PtG100_1.root").unlink()
    lost = {stage: list(tasks) for stage, tasks in to_do(example).items() if tasks}
    assert lost == {"score": ["ZGToLLG_PtG100/ZGToLLG_PtG100_1"]}
    assert list(to_do(example, "--from", "train", "--to", "export")) == ["train", "evaluate", "report", "export"]
    done = nanoml("score", "trilepton.yaml", cwd=example)
    assert "score: 1 of 9 to do" in done.stderr


@pytest.mark.exhaustive("pages of the manual")
def test_the_readme_after_the_demo(example: Path, follow: Callable[..., None]) -> None:
    follow("../README.md", example.parent, inside=".")
    assert (example.parent / "myanalysis" / "analysis.yaml").is_file()


def test_a_run_that_is_stopped_again_and_again_ends_with_the_same_results(tmp_path: Path, short: Path) -> None:
    copy_example(tmp_path, SHORT)
    line = [*COMMAND, "run", "trilepton.yaml", "--to", "train"]
    workers = {**os.environ, "NANOML_CORES": "2"}  # which end with the run
    # SIGTERM comes from batch systems, and is tested with these
    for begun, number in ((".nanoml/skim/*/*.json", signal.SIGKILL), ("training/*", signal.SIGINT)):
        with processes.running(line, cwd=tmp_path, env=workers, stderr=subprocess.PIPE, text=True) as run:
            while run.poll() is None and not any((tmp_path / "trilepton").glob(begun)):
                time.sleep(0.02)
            run.send_signal(number)
            _, said = run.communicate()
            # Python ends by the signal itself if it came while a module was made by `exec`; a shell says 130
            assert run.returncode in ((130, -number) if number == signal.SIGINT else (-number,)), said
            if number == signal.SIGINT:
                assert "run the same command again to continue" in said
                assert "Traceback" not in said
    nanoml(*line[3:], cwd=tmp_path)
    assert not any(to_do(tmp_path, "--to", "train").values())
    check_training(tmp_path, short)


@pytest.mark.exhaustive("all that may end a run")
def test_a_full_disk_is_one_message_and_the_run_goes_on_once_mended(disk: Path, short: Path) -> None:
    copy_example(disk, SHORT)
    for kilobytes, stage in ((100, "skim"), (2000, "evaluate")):
        subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(disk)], check=True)
        # in a process of its own, since Python may find out much later what could not be written
        line = [*COMMAND, "run", "trilepton.yaml"]
        done = subprocess.run(line, cwd=disk, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        told = "cannot write: the disk is full: free some space, then run the same command again"
        failed = [line for line in done.stderr.splitlines() if told in line]
        assert failed
        assert all(line.startswith(f"{stage} ") for line in failed), failed
        assert "Traceback" not in done.stderr, done.stderr
        assert list(disk.rglob("*.part-*")) == []
    subprocess.run(["mount", "-o", "remount,size=30000k", str(disk)], check=True)
    nanoml("run", "trilepton.yaml", "--to", "evaluate", cwd=disk)
    check_training(disk, short)
