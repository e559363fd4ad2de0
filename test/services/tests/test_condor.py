"""HTCondor as the fixture starts it: jobs, DAGs, transfers by URL, and what may happen to a job."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.condor import CondorPool
from services.daemons import wait_for
from services.xrootd import Storage

pytestmark = [pytest.mark.exhaustive("the services that tests start"), pytest.mark.service]

COMMON = """
log = events.log
output = $(Cluster).$(Process).out
error = $(Cluster).$(Process).err
when_to_transfer_output = ON_EXIT
should_transfer_files = YES
"""
SCRIPT = """
import os, sys, uproot
from pathlib import Path
print(os.getcwd())
Path("result.txt").write_text(Path("data.txt").read_text() + " and back")
Path(sys.argv[1], "written_by_the_job").write_text("directly")
"""


@pytest.fixture
def pool(condor_pool: CondorPool) -> Iterator[CondorPool]:
    """The pool, from which what a test left is removed."""
    yield condor_pool
    condor_pool.run(["condor_rm", "-all"], check=False)


def submit(pool: CondorPool, directory: Path, description: str) -> str:
    """Submit jobs, and return their cluster."""
    (directory / "jobs.sub").write_text(COMMON + description)
    done = pool.run(["condor_submit", "-terse", "jobs.sub"], cwd=directory)
    return str(done.stdout.partition(".")[0])


def wait_for_event(directory: Path, job: str, number: str, times: int = 1) -> None:
    """Wait for an event of a job, by its number in the log."""
    cluster, proc = job.split(".")
    head = f"{number} ({int(cluster):03}.{int(proc):03}.000)"
    log = directory / "events.log"
    wait_for(lambda: log.read_text().count(head) >= times, f"event {number} of job {job}")


def test_a_job_runs_this_python_and_moves_files_by_url(pool: CondorPool, storage: Storage, tmp_path: Path) -> None:
    (storage.directory / "data.txt").write_text("there")
    (tmp_path / "job.py").write_text(SCRIPT)
    description = f"""
    executable = {sys.executable}
    transfer_executable = False
    arguments = job.py {tmp_path}
    transfer_input_files = job.py, {storage.url}/data.txt
    transfer_output_files = result.txt
    output_destination = {storage.url}/results
    MY.SendCredential = True
    queue
    """
    cluster = submit(pool, tmp_path, description)
    pool.run(["condor_wait", "-wait", "30", "events.log"], cwd=tmp_path)
    assert (tmp_path / f"{cluster}.0.err").read_text() == ""
    assert str(pool.directory) in (tmp_path / f"{cluster}.0.out").read_text()
    assert (storage.directory / "results" / "result.txt").read_text() == "there and back"
    assert (tmp_path / "written_by_the_job").read_text() == "directly"


def test_a_transfer_that_fails_holds_the_job(pool: CondorPool, storage: Storage, tmp_path: Path) -> None:
    cluster = submit(
        pool, tmp_path, f"executable = /bin/true\ntransfer_input_files = {storage.url}/nowhere.txt\nqueue\n"
    )
    wait_for_event(tmp_path, f"{cluster}.0", "012")
    assert "xrdcp: exit code 54" in (tmp_path / "events.log").read_text()


def test_a_dag_of_two_nodes(pool: CondorPool, tmp_path: Path) -> None:
    (tmp_path / "node.sub").write_text(
        COMMON
        + f"executable = /bin/sh\narguments = \"-c 'echo $(node) >>{tmp_path}/order'\"\n"
        + "transfer_executable = False\nqueue\n"
    )
    (tmp_path / "two.dag").write_text(
        'JOB A node.sub\nJOB B node.sub\nVARS A node="A"\nVARS B node="B"\nPARENT A CHILD B\n'
    )
    pool.run(["condor_submit_dag", "two.dag"], cwd=tmp_path)
    pool.run(["condor_wait", "-wait", "240", "two.dag.dagman.log"], cwd=tmp_path)
    assert (tmp_path / "order").read_text() == "A\nB\n"
    metrics = json.loads((tmp_path / "two.dag.metrics").read_text())
    assert (metrics["exitcode"], metrics["jobs_succeeded"]) == (0, 2)


def test_jobs_are_killed_vacated_held_and_removed(pool: CondorPool, tmp_path: Path) -> None:
    cluster = submit(pool, tmp_path, "executable = /bin/sleep\narguments = 1000\nqueue 8\n")
    killed, vacated, held, removed = (f"{cluster}.{number}" for number in range(4))
    for number in range(8):
        wait_for_event(tmp_path, f"{cluster}.{number}", "001")

    wait_for(lambda: len(pool.processes(killed)) == 1, "its process")
    pool.kill(killed)
    wait_for_event(tmp_path, killed, "005")
    assert "Abnormal termination (signal 9)" in (tmp_path / "events.log").read_text()
    assert pool.processes(killed) == []

    pool.run(["condor_vacate_job", "-fast", vacated])
    wait_for_event(tmp_path, vacated, "004")
    wait_for_event(tmp_path, vacated, "001", times=2)

    pool.run(["condor_hold", held])
    wait_for_event(tmp_path, held, "012")
    pool.run(["condor_release", held])
    wait_for_event(tmp_path, held, "001", times=2)

    pool.run(["condor_rm", removed])
    wait_for_event(tmp_path, removed, "009")
