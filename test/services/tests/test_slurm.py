"""Slurm as the fixture starts it: arrays, stages that wait for others, and what may happen to a job."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.daemons import wait_for
from services.slurm import Slurm

pytestmark = [pytest.mark.exhaustive("the services that tests start"), pytest.mark.service]


@pytest.fixture
def cluster(slurm: Slurm) -> Iterator[Slurm]:
    """The cluster, from which what a test left is removed."""
    yield slurm
    for job in slurm.run(["squeue", "-h", "-o", "%A"]).stdout.split():
        slurm.run(["scancel", job], check=False)


def submit(cluster: Slurm, directory: Path, command: str, *options: str) -> str:
    """Submit a command, and return its job."""
    logs = f"--output={directory}/%A_%a.out"
    done = cluster.run(["sbatch", "--parsable", logs, *options, f"--wrap={command}"], cwd=directory)
    return done.stdout.strip()


def states(cluster: Slurm, job: str) -> list[str]:
    """The state of a job, or of all tasks of an array."""
    return cluster.run(["squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%T"]).stdout.split()


def wait_until(cluster: Slurm, job: str, state: str) -> None:
    wait_for(lambda: set(states(cluster, job)) == {state}, f"job {job} {state}")


def test_an_array_and_a_stage_after_it(cluster: Slurm, tmp_path: Path) -> None:
    python = f"{sys.executable} -c 'import uproot'"
    array = submit(cluster, tmp_path, f"{python} && touch task$SLURM_ARRAY_TASK_ID", "--array=0-4")
    after = [f"--dependency=afterok:{array}", "--kill-on-invalid-dep=yes"]
    merged = submit(cluster, tmp_path, "ls task* >merged", *after, "--partition=long")
    wait_until(cluster, merged, "COMPLETED")
    assert states(cluster, array) == ["COMPLETED"] * 5
    assert (tmp_path / "merged").read_text().split() == [f"task{number}" for number in range(5)]
    completed = (cluster.directory / "jobcomp").read_text()
    assert completed.count("JobState=COMPLETED") >= 6


def test_a_stage_after_one_that_failed_is_cancelled(cluster: Slurm, tmp_path: Path) -> None:
    array = submit(cluster, tmp_path, "test $SLURM_ARRAY_TASK_ID != 1", "--array=0-2")
    after = [f"--dependency=afterok:{array}", "--kill-on-invalid-dep=yes"]
    merged = submit(cluster, tmp_path, "touch merged", *after)
    wait_until(cluster, merged, "CANCELLED")
    assert sorted(states(cluster, array)) == ["COMPLETED", "COMPLETED", "FAILED"]
    assert not (tmp_path / "merged").exists()


def test_jobs_are_killed_requeued_and_cancelled(cluster: Slurm, tmp_path: Path) -> None:
    array = submit(cluster, tmp_path, "exec sleep 1000", "--array=0-2", "--requeue")
    wait_until(cluster, array, "RUNNING")
    tasks = [f"{array}_{task}" for task in range(3)]
    wait_for(lambda: all(map(cluster.processes, tasks)), "processes of all tasks")

    cluster.kill(f"{array}_0")
    wait_until(cluster, f"{array}_0", "FAILED")
    assert cluster.processes(f"{array}_0") == []

    before = cluster.processes(f"{array}_1")
    cluster.run(["scontrol", "requeue", f"{array}_1"])
    wait_until(cluster, f"{array}_1", "PENDING")  # COMPLETING for a while: its processes end first
    assert not set(before) & set(cluster.processes(f"{array}_1"))

    cluster.run(["scancel", f"{array}_2"])
    wait_until(cluster, f"{array}_2", "CANCELLED")


def test_a_partition_refuses_what_is_too_long_for_it(cluster: Slurm, tmp_path: Path) -> None:
    job = submit(cluster, tmp_path, "true", "--time=02:00:00")
    wait_for(lambda: reason(cluster, job) == "PartitionTimeLimit", "the limit as the reason")
    job = submit(cluster, tmp_path, "true", "--time=02:00:00", "--partition=long")
    wait_until(cluster, job, "COMPLETED")


def reason(cluster: Slurm, job: str) -> str:
    return cluster.run(["squeue", "-h", "-j", job, "-o", "%r"]).stdout.strip()
