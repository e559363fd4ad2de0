"""Clusters of Dask to which bad things happen, and workers that do not see the files of the submitting machine."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from MLTools.NanoML.batch.submit import find
from MLTools.NanoML.extensions.dask.test.service import DaskCluster
from services.analysis import DATASETS, Analysis, driver_of
from services.daemons import descendants, wait_for
from services.storage_mode import Make, skim_on

pytest.importorskip("data_processing.skim.skim")

EXHAUSTIVE = pytest.mark.exhaustive("each batch system with all that may happen to jobs")
IN_PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")


def jobs_in(analysis: Analysis) -> dict[int, str]:
    """The jobs of an analysis that are processes now, by their numbers."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            words = (path / "cmdline").read_bytes().decode().split("\0")
            if words[1:2] == ["job.sh"] and Path(os.readlink(path / "cwd")) == analysis.submissions()[-1]:
                found[int(path.name)] = words[2]
    return found


def told(analysis: Analysis, *words: str) -> str:
    """The answer of a command in a process of its own: Dask reads its variables when it is imported."""
    said, _ = analysis.begin(*words).communicate(timeout=300)
    return said


@pytest.mark.service
@EXHAUSTIVE
@IN_PROC
def test_a_worker_and_the_scheduler_are_killed(dask_cluster: DaskCluster, tmp_path: Path, reference: Analysis) -> None:
    closed = f"while [ -e {tmp_path}/closed-$1 ]; do sleep 0.1; done"
    analysis = Analysis(tmp_path, dask_cluster.environment, "dask", batch={"setup": [closed]})
    for number in range(3):
        (tmp_path / f"closed-skim-000{number}").touch()
    assert "skim: 6 tasks in 3 jobs" in told(analysis, "submit", "skim", "analysis.yaml", "--on", "dask")
    wait_for(lambda: len(jobs_in(analysis)) == 2, "two jobs")
    before = set(jobs_in(analysis))
    dask_cluster.kill_worker(0)
    # its job ends with it, and that or another begins
    wait_for(lambda: len(before & set(jobs_in(analysis))) == 1 and len(jobs_in(analysis)) == 2, "another job")
    first = next(iter(jobs_in(analysis).values()))
    (tmp_path / f"closed-{first}").unlink()
    analysis.wait_for(first, "done")

    dask_cluster.kill_scheduler()
    said = analysis.wait()
    assert "2 x lost: nanoml resubmit tries again\n      skim-000" in said
    assert f"the scheduler {dask_cluster.address} does not answer any more" in said
    wait_for(lambda: not jobs_in(analysis), "the end of jobs")
    dask_cluster.start()
    analysis.environment.update(dask_cluster.environment)
    for path in tmp_path.glob("closed-*"):
        path.unlink()
    assert "skim: 4 tasks in 2 jobs" in told(analysis, "resubmit", "analysis.yaml")
    assert "Everything is done." in analysis.wait()
    analysis.check(reference)


@pytest.mark.service
@EXHAUSTIVE
@IN_PROC
def test_jobs_are_ended_at_an_address(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    analysis = Analysis(tmp_path, dask_cluster.environment, "dask", names=DATASETS[:1])
    analysis.closed.touch()
    told(analysis, "submit", "skim", "analysis.yaml", "--on", "dask")
    analysis.wait_for("skim-0001", "running")
    analysis.nanoml("kill", "analysis.yaml")
    wait_for(lambda: not jobs_in(analysis), "the end of jobs")
    assert "No job is active." in analysis.wait()


@EXHAUSTIVE
@IN_PROC
def test_the_cluster_of_this_machine_is_killed(tmp_path: Path, reference: Analysis) -> None:
    """Its scheduler is in the process that is killed, and its workers end without it."""
    pytest.importorskip("distributed")
    analysis = Analysis(tmp_path, {}, "dask", names=DATASETS[:1], batch={"at_once": 2})
    analysis.closed.touch()
    analysis.submit()
    analysis.wait_for("skim-0001", "running")
    assert len(descendants(driver_of(analysis))) >= 2
    os.kill(driver_of(analysis), signal.SIGKILL)
    assert "2 x killed" in analysis.wait()
    assert jobs_in(analysis) == {}

    analysis.closed.unlink()
    assert "skim: 3 tasks in 2 jobs" in analysis.resubmit()
    assert "Everything is done." in analysis.wait()
    analysis.check(reference)


@pytest.mark.service
@pytest.mark.exhaustive("jobs of each batch system without a shared file system")
def test_jobs_of_dask_bring_their_files(analysis: Make, place: Path, dask_cluster: DaskCluster) -> None:
    pytest.importorskip("XRootD")
    path = analysis({"dask": {"cluster": dask_cluster.address}, "setup": ["pwd"]})
    skim_on("dask", path, dask_cluster.environment)
    assert len(list((place / "work" / "skims").rglob("*.root"))) == 4
    for number in range(2):
        said = find(path).log(f"skim-{number:04d}").read_text()
        assert said.startswith(f"{dask_cluster.directory}/work-")
        assert not Path(said.splitlines()[0]).exists()
