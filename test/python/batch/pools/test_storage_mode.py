"""Workers that do not see the files of the submitting machine: everything travels, or is on a server of files.

Apptainer could not be installed where these tests were written: a script stands in for it. Nor was there a
/cvmfs/cms.cern.ch: the area of CMSSW is made by hand, and scripts stand in for cmsset_default.sh and scramv1.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

pytest.importorskip("data_processing.skim.skim")
pytest.importorskip("XRootD")

from MLTools.NanoML.batch.job import Job, JobResult
from MLTools.NanoML.batch.status import settle
from MLTools.NanoML.batch.submission import JobRequest
from MLTools.NanoML.batch.submit import find, submit
from MLTools.NanoML.batch.worker import Staging
from MLTools.NanoML.config.load import load
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.installation import nanoml_command
from MLTools.NanoML.workflow.pipeline import execute, pipeline_stages
from MLTools.NanoML.workflow.task import Stamp, Task
from services.condor import CondorPool
from services.daemons import wait_for
from services.slurm import Slurm
from services.storage_mode import SELECTION, Make, skim_on
from services.xrootd import Storage

pytestmark = pytest.mark.service

STAGES = ("skim", "convert")


def cmssw(directory: Path) -> tuple[Path, dict[str, str]]:
    """An area of CMSSW, and what stands in for the release: this environment."""
    area, release = directory / "CMSSW_13_3_3", directory / "release"
    (area / "src" / "User" / "Physics" / "python").mkdir(parents=True)
    (area / "src" / "User" / "Physics" / "python" / "own.py").write_text(SELECTION)
    (area / "python" / "User").mkdir(parents=True)
    (area / "python" / "User" / "Physics").symlink_to("../../src/User/Physics/python")
    (release / "bin").mkdir(parents=True)
    (release / "cmsset_default.sh").write_text(f'export PATH="{release}/bin:$PATH"\n')
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (release / "bin" / "scramv1").write_text(
        "#!/bin/sh\n"
        '[ "$SCRAM_ARCH" = el9_amd64_gcc12 ] || exit 1\n'
        '[ "$1" = project ] && exec mkdir -p "$3/src"\n'
        "[ \"$1 $2\" = 'runtime -sh' ] || exit 1\n"
        'cat << END\nexport CMSSW_BASE="$PWD"\n'
        f'export PATH="{Path(sys.executable).parent}:$PATH" PYTHONPATH="$PWD/python:{":".join(packages)}"\nEND\n'
    )
    (release / "bin" / "scramv1").chmod(0o755)
    environment = {"CMSSW_BASE": str(area), "PYTHONPATH": str(area / "python")}
    environment |= {"CMSSW_VERSION": "CMSSW_13_3_3", "SCRAM_ARCH": "el9_amd64_gcc12"}
    return release / "cmsset_default.sh", environment


@pytest.mark.exhaustive("jobs of each batch system without a shared file system")
def test_an_evicted_job_in_cmssw_goes_on(
    analysis: Make, place: Path, condor_pool: CondorPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, environment = cmssw(tmp_path)  # the selection is in this area
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    lines = [f'export CMSSW_SETUP="{setup}"']
    batch = {"environment": "cmssw", "setup": lines, "retries": 0, "files_per_job": 4}
    path = analysis(batch, selection="User.Physics.own:Mine", chunk=50)

    def evict() -> None:
        own = f'Iwd == "{find(path).directory}" && JobUniverse == 5'
        question = ["condor_q", "-allusers", "-af", "ClusterId", "-constraint", own]
        wait_for(lambda: bool(condor_pool.run(question).stdout.split()), "a job in the queue")
        (job,) = condor_pool.run(question).stdout.split()
        wait_for(lambda: any((place / "work" / "skims").rglob("*.root")), "a skim")
        condor_pool.run(["condor_vacate_job", f"{job}.0"])

    status = skim_on("condor", path, condor_pool.environment, evict)
    result = status.jobs["skim-0000"].result
    assert result is not None
    assert [each.kind for each in result.earlier] == ["stopped"]
    assert "is done already" in status.submission.log("skim-0000").read_text()
    assert len(list((place / "work" / "skims").rglob("*.root"))) == 4


class Scratch:
    """A directory of a job on a machine that has nothing but what travels."""

    def __init__(self, directory: Path, job: Job, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self.result = directory / "result.json"
        self.log = directory / "log"
        directory.mkdir()
        job.write(directory / "job.json")
        with open(self.log, "wb") as log:
            line = [*nanoml_command(), "work", "job.json", "--result", "result.json"]
            environ = {**os.environ, **environment}
            self.process = subprocess.Popen(line, cwd=directory, env=environ, stdout=log, stderr=log)

    def end(self, seconds: float = 300) -> int:
        """Its exit code."""
        try:
            return self.process.wait(seconds)
        finally:
            self.process.kill()
            self.process.wait()


def job_of(path: Path, stage: str, storage: Storage) -> Job:
    config = load(path)
    tasks = pipeline_stages(config, (stage,))[0].tasks
    reached = {f"{storage.directory}/": f"{storage.url}/"}
    workdir = str(config.path(config.workdir))
    return Job.of(f"{stage}-0000", tasks, workdir=workdir, base=str(config.base), storage=reached)


@pytest.mark.exhaustive("jobs of each batch system without a shared file system")
def test_a_training_goes_on_elsewhere(analysis: Make, place: Path, storage: Storage, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = analysis({}, {"epochs": 20, "patience": 20, "folds": 3})
    execute(load(path), STAGES, False, settle)
    job, environment = job_of(path, "train", storage), {**storage.environment, "NANOML_CORES": "1"}  # no workers
    first = Scratch(tmp_path / "first", job, environment)
    try:
        wait_for((first.directory / "work" / "training" / "network_0.pt").is_file, "a network")
        wait_for((first.directory / "work" / "training" / "checkpoint_1.pt").is_file, "a checkpoint")
        first.process.send_signal(signal.SIGTERM)
    finally:
        code = first.end()
    assert code == 128 + signal.SIGTERM, first.log.read_text()
    result = JobResult.read(first.result)
    assert result is not None
    assert (result.state, result.exit_code) == ("stopped", 1)
    delivered = {path.name for path in (place / "work" / "training").iterdir()}
    assert {"network_0.pt", "checkpoint_1.pt"} <= delivered
    assert not (first.directory / "work" / "training").exists()
    before = (place / "work" / "training" / "network_0.pt").stat().st_mtime_ns
    second = Scratch(tmp_path / "second", job, environment)
    assert second.end() == 0, second.log.read_text()
    assert "fold 1 of 3 is trained already" in second.log.read_text()
    training = place / "work" / "training"
    assert (training / "network_0.pt").stat().st_mtime_ns == before
    assert not list(training.glob("checkpoint_*"))
    epochs = json.loads((training / "history_1.json").read_text())
    assert len(epochs) == 20


def test_twins_of_a_job_make_one_whole_output(analysis: Make, place: Path, storage: Storage, tmp_path: Path) -> None:
    job = job_of(analysis({}), "skim", storage)
    shutil.copy(tmp_path / "my analysis" / "mine.py", tmp_path)
    twins = [Scratch(tmp_path / name, job, storage.environment) for name in ("one", "other")]
    for twin in twins:
        (twin.directory / "base").mkdir()
        shutil.copy(tmp_path / "mine.py", twin.directory / "base")
    codes = [twin.end() for twin in twins]
    assert codes == [0, 0], [twin.log.read_text() for twin in twins]
    skims = sorted((place / "work").rglob("*.*"))
    assert [path.suffix for path in skims] == [".root"] * 4
    execute(load(tmp_path / "my analysis" / "analysis.yaml"), STAGES, False, settle)  # reads all of them


def test_what_has_not_changed_is_not_delivered_again(place: Path, storage: Storage, tmp_path: Path) -> None:
    run = place / "work" / "training"
    run.mkdir(parents=True)
    for name in ("kept", "changed", "removed"):
        (run / name).write_text(name)
    scratch = tmp_path / "work" / "training"
    reached = {f"{storage.directory}/": f"{storage.url}/"}
    staging = Staging(str(place / "work"), str(tmp_path), reached, tmp_path)
    output = scratch / "output"
    task = Task("evaluate", "report", (), (output,), {}, "", functools.partial(code_of), folders=(scratch,))
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    run.chmod(0o777)
    time.sleep(0.01)
    staging.fetch(task, task)
    (scratch / "changed").write_text("changed again")
    (scratch / "removed").unlink()
    (scratch / "deeper").mkdir()
    for path in (scratch / "deeper" / "new", output, scratch / ".x.part-1-host"):
        path.write_text("new")
    staging.deliver_folders(task)
    after = {str(path.relative_to(run)): path for path in run.rglob("*") if path.is_file()}
    assert after.keys() == {"kept", "changed", "deeper/new", "output"}
    assert after["kept"].stat().st_mtime_ns == before["kept"]
    assert after["changed"].read_text() == "changed again"
    assert after["output"].stat().st_mtime_ns == max(path.stat().st_mtime_ns for path in after.values())
    there = [staging.has(Stamp(str(run / "output"), size, 0)) for size in (3, 4)]
    assert there == [True, False]


def test_condor_is_told_of_the_container(analysis: Make) -> None:
    image = "/cvmfs/unpacked.cern.ch/registry/nanoml:1"
    path = analysis({"environment": "container", "image": image, "python": "/opt/python/bin/python3"})
    submission = submit(load(path), JobRequest("skim", "condor", dry_run=True))
    assert submission is not None
    directory = submission.directory
    assert f'MY.SingularityImage = "{image}"\n' in (directory / "condor.sub").read_text()
    script = (directory / "job.sh").read_text()
    assert "exec /opt/python/bin/python3 -m MLTools.NanoML.cli work" in script
    assert "apptainer" not in script
    assert sorted(path.name.partition("-")[0] for path in directory.glob("*.tar.gz")) == ["code"]


@pytest.mark.exhaustive("jobs of each batch system without a shared file system")
def test_jobs_of_slurm_run_in_the_container(analysis: Make, place: Path, slurm: Slurm, tmp_path: Path) -> None:
    said, programs = tmp_path / "said", tmp_path / "programs"
    programs.mkdir()
    (programs / "apptainer").write_text(
        f'#!/bin/sh\necho "$@" >> {said}\n[ "$1 $2" = "exec image.sif" ] || exit 1\nshift 2\nexec "$@"\n'
    )
    (programs / "apptainer").chmod(0o755)
    path = analysis({"environment": "container", "image": "image.sif", "python": sys.executable, "site": "shared"})
    skim_on("slurm", path, {**slurm.environment, "PATH": f"{programs}:{os.environ['PATH']}"})
    assert sorted(said.read_text().splitlines()) == [f"exec image.sif bash job.sh skim-{n:04d} 1" for n in range(2)]
    assert len(list((place / "work" / "skims").rglob("*.root"))) == 4
