"""The whole pipeline here and on HTCondor, from the same files on a server: the same results, bit for bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.analysis import EXAMPLE, Analysis, branches_of, equal, without_places
from services.condor import CondorPool
from services.slurm import Slurm
from services.xrootd import Cluster

pytestmark = [pytest.mark.service, pytest.mark.exhaustive("all stages in jobs, bit for bit")]
pytest.importorskip("torch")
pytest.importorskip("XRootD")

Runs = dict[str, Analysis]
TASKS = {"skim": 6, "convert": 2, "train": 1, "evaluate": 1, "report": 1, "export": 1, "normalise": 2, "score": 6}
# what these files say of when, where and by which command they were made
PLACES = ("digest", "created", "git", "command", "onnx_sha256", "environment", "arguments")


@pytest.fixture(scope="module")
def runs(condor_pool: CondorPool, xrootd: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Both at the same time."""
    content = yaml.safe_load((EXAMPLE / "trilepton.yaml").read_text())
    train = {**content["train"], "epochs": 2, "folds": 3}
    batch = {"stages": {name: {"time": "30min"} for name in ("train", "tune")}}
    sections = {"convert": content["convert"], "train": train, "export": content["export"], "batch": batch}
    made = {}
    for system, service in {"local": {}, "condor": condor_pool.environment}.items():
        environment = {**xrootd.environment, **service}
        made[system] = Analysis(tmp_path_factory.mktemp(system), environment, system, xrootd.url, **sections)
    said, _ = made["condor"].begin("submit", "pipeline", "analysis.yaml", "--on", "condor").communicate(timeout=300)
    assert "13 jobs on condor" in said
    local, _ = made["local"].begin("run", "analysis.yaml").communicate(timeout=300)
    assert "score: analysis/scores" in local
    try:
        assert "Everything is done." in made["condor"].wait()
        yield made
    finally:
        made["condor"].nanoml("kill", "analysis.yaml")


def test_files_and_accounting_are_the_same(runs: Runs) -> None:
    here, there = runs["local"].workdir, runs["condor"].workdir
    assert files_of(here) == files_of(there)
    different = [name for name in files_of(here) if (here / name).read_bytes() != (there / name).read_bytes()]
    named = {"model.onnx", "model.json", "index.html", "training/report.html", "training/evaluation.json"}
    named |= {f"training/{name}.json" for name in ("environment", "metrics", "training")}
    # all else, HDF5 files, weights, histories and figures, has the same bytes; ROOT files have times and identifiers
    assert {name for name in different if not name.endswith(".root")} <= named
    assert "training/network_0.pt" in files_of(here)

    for name in files_of(here):
        if name.endswith(".root"):
            assert equal(branches_of(here / name), branches_of(there / name)), name
    for name in ("model.json", "training/metrics.json", "training/training.json"):
        assert content_of(here, name) == content_of(there, name)


def test_records_are_the_same(runs: Runs) -> None:
    here, there = runs["local"].workdir / ".nanoml", runs["condor"].workdir / ".nanoml"
    for stage, number in TASKS.items():
        paths = sorted(path.relative_to(here) for path in (here / stage).rglob("*.json"))
        assert len(paths) == number
        for path in paths:
            one, other = json.loads((here / path).read_text()), json.loads((there / path).read_text())
            assert other["job"].startswith(f"analysis-1/{stage}-")
            if stage in ("skim", "convert", "score"):
                assert without_places(one) == without_places(other)
    done = runs["condor"].done()
    assert (set(done.values()), done.total()) == ({1}, sum(TASKS.values()))
    plan = json.loads(runs["condor"].nanoml("run", "analysis.yaml", "--dry-run", "--json"))
    assert [stage["to_do"] for stage in plan] == [{}] * len(TASKS)


def test_the_models_are_the_same(runs: Runs) -> None:
    onnx = pytest.importorskip("onnx")
    here, there = (onnx.load(it.workdir / "model.onnx") for it in runs.values())
    assert here.graph.SerializeToString() == there.graph.SerializeToString()
    assert here.opset_import == there.opset_import


def test_workers_of_a_search_and_its_conclusion(runs: Runs, slurm: Slurm, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    before = runs["local"]
    analysis = Analysis(tmp_path, {**before.environment, **slurm.environment}, "slurm")
    analysis.content = {**before.content, "tune": {"trials": 1}}
    analysis.write()
    shutil.copytree(before.workdir, analysis.workdir, symlinks=True)
    command = ["submit", "tune", "analysis.yaml", "--on", "slurm", "--workers", "2", "--trials", "2"]
    assert "3 jobs on slurm" in analysis.nanoml(*command)
    assert "Everything is done." in analysis.wait()
    best = yaml.safe_load((analysis.workdir / "tuning" / "best.yaml").read_text())
    assert "train" in best


def files_of(workdir: Path) -> list[str]:
    found = [path.relative_to(workdir) for path in workdir.rglob("*") if path.is_file()]
    return sorted(str(path) for path in found if path.parts[0] != ".nanoml")


def content_of(workdir: Path, name: str) -> Any:
    return without(json.loads((workdir / name).read_text().replace(f"{workdir}/", "")))


def without(content: Any) -> Any:
    """Content without what says when, where and how it was made."""
    if isinstance(content, dict):
        return {key: without(value) for key, value in content.items() if key not in PLACES}
    return [without(item) for item in content] if isinstance(content, list) else content
