"""Jobs in a pool of HTCondor and on this machine to which bad things happen; most of it is tried in test_chaos_slurm.py."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.analysis import DATASETS, Analysis, clients, driver_of
from services.condor import CondorPool
from services.daemons import PATH, descendants, wait_for

EXHAUSTIVE = pytest.mark.exhaustive("each batch system with all that may happen to jobs")
IN_PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")

Make = Callable[..., Analysis]


@pytest.fixture
def make(condor_pool: CondorPool, tmp_path: Path) -> Iterator[Make]:
    """Makes an analysis; the jobs that a test leaves are removed."""

    def new(**options: Any) -> Analysis:
        return Analysis(tmp_path / "analysis", condor_pool.environment, "condor", **options)

    yield new
    condor_pool.run(["condor_rm", "-constraint", f'strcmp(Iwd, "{tmp_path}") > 0'], check=False)


def number_of(pool: CondorPool, job: str) -> str:
    found = pool.run(["condor_q", "-constraint", f'DAGNodeName == "{job}"', "-af:j", "DAGNodeName"])
    return str(found.stdout.split()[-2])


@pytest.mark.service
@EXHAUSTIVE
def test_a_killed_job_is_tried_again_until_all_end(condor_pool: CondorPool, make: Make, reference: Analysis) -> None:
    analysis = make(names=DATASETS[:1], batch={"retries": 1})
    analysis.closed.touch()
    analysis.submit()
    analysis.wait_for("skim-0000", "running")
    condor_pool.kill(number_of(condor_pool, "skim-0000"))
    log = analysis.submissions()[-1] / "pipeline.dag.nodes.log"
    wait_for(lambda: bool(re.search(r"^005 \(", log.read_text(), re.M)), "the end of a job")
    analysis.wait_for("skim-0000", "running")
    assert "nanoml resubmit continues" in analysis.nanoml("kill", "analysis.yaml")
    assert " x removed: nanoml resubmit tries again" in analysis.wait()
    analysis.closed.unlink()
    analysis.resubmit()
    assert "Everything is done." in analysis.wait()
    analysis.check(reference)


@pytest.mark.service
@EXHAUSTIVE
def test_jobs_take_too_much_memory(condor_pool: CondorPool, make: Make, reference: Analysis) -> None:
    much = "JobStatus == 2 && RequestMemory < 4000 && substr(Args, 0, 9)"
    lines = [f'periodic_hold = {much} == "skim-0000"', f'periodic_remove = {much} == "skim-0001"']
    analysis = make(batch={"lines": lines})
    analysis.closed.touch()
    analysis.submit()
    analysis.wait_for("skim-0002", "running")
    condor_pool.kill(number_of(condor_pool, "skim-0002"))
    analysis.wait_for("skim-0002", "failed")
    analysis.wait_for("skim-0001", "failed")
    analysis.wait_for("skim-0000", "held")
    page = analysis.page()
    assert page.count("1 x out of memory: nanoml resubmit asks for more") == 2
    assert "1 x killed: nanoml resubmit tries again; if it happens again, it may be for lack of memory" in page
    assert "signal 9" in page
    analysis.closed.unlink()
    said = analysis.resubmit()
    assert "skim-0000: released with memory 2000 -> 4000 MB" in said
    assert "2 jobs failed: nanoml resubmit continues when the others are done." in said
    analysis.wait()
    assert analysis.done().total() == 2
    assert analysis.resubmit().count("memory 2000 -> 4000 MB") == 2
    assert "Everything is done." in analysis.wait()
    analysis.check(reference)


@pytest.mark.service
@EXHAUSTIVE
@pytest.mark.parametrize(
    "moment",
    ['kill -9 $PPID; sleep 1; exec {command} "$@"', '{command} "$@"; kill -9 $PPID'],
    ids=["before condor_submit_dag has done anything, which it then does", "when all is submitted, and not noted"],
)
def test_submission_is_killed(make: Make, reference: Analysis, moment: str) -> None:
    analysis = make(names=DATASETS[:1])
    script = moment.format(command=shutil.which("condor_submit_dag", path=PATH))
    path = clients(analysis.directory / "bin", condor_submit_dag=script)
    process = analysis.begin("submit", "skim", "analysis.yaml", "--on", "condor", PATH=path)
    assert "Their progress" not in process.communicate(timeout=300)[0]
    analysis.begin_again("skim", "condor")
    assert "Everything is done." in analysis.wait()
    analysis.check(reference)
    assert list(analysis.directory.glob("jobs/.*")) == []


@pytest.mark.service
@EXHAUSTIVE
def test_a_full_disk_and_a_missing_package(make: Make, reference: Analysis, disk: Path) -> None:
    analysis = make(workdir=str(disk / "results"), names=DATASETS[:1])
    analysis.submit()
    page = analysis.wait()
    assert " x disk full: free some space; nanoml resubmit asks for more" in page
    assert "cannot write: the disk is full" in page
    subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)

    broken = analysis.directory / "broken"
    broken.mkdir()
    (broken / "uproot.py").write_text("raise ModuleNotFoundError(\"No module named 'uproot'\", name='uproot')\n")
    analysis.content["batch"]["setup"].append(f"export PYTHONPATH={broken}:$PYTHONPATH")
    analysis.content["batch"]["retries"] = 2
    analysis.write()
    assert "disk 100 -> 200 MB" in analysis.resubmit()
    page = analysis.wait()
    assert " x package or program missing: add it to the environment of the jobs" in page
    assert "The Python package uproot is missing" in page
    analysis.content["batch"]["setup"].pop()
    analysis.write()
    analysis.resubmit()
    assert "Everything is done." in analysis.wait()
    analysis.check(reference)


@EXHAUSTIVE
@IN_PROC
def test_the_driver_is_killed_and_its_jobs_go_on(tmp_path: Path, reference: Analysis) -> None:
    analysis = Analysis(tmp_path / "analysis", {}, "local", names=DATASETS[:1], batch={"at_once": 1})
    analysis.closed.touch()
    analysis.submit()
    analysis.wait_for("skim-0000", "running")
    os.kill(driver_of(analysis), signal.SIGKILL)
    time.sleep(0.1)
    assert analysis.states() == {"skim-0000": "running", "skim-0001": "waiting"}
    with pytest.raises(AssertionError, match="are active here"):
        analysis.submit()

    analysis.closed.unlink()
    analysis.wait()
    assert sum(analysis.done().values()) == 2
    assert "skim: 1 task in 1 job" in analysis.resubmit()
    assert "Everything is done." in analysis.wait()
    analysis.check(reference)


@IN_PROC
def test_a_job_is_killed_and_tried_again_by_itself(tmp_path: Path) -> None:
    analysis = Analysis(tmp_path, {}, "local", names=DATASETS[:1], batch={"retries": 1, "at_once": 1})
    analysis.closed.touch()
    analysis.submit()
    analysis.wait_for("skim-0000", "running")
    wait_for(lambda: bool(descendants(driver_of(analysis))), "a job")
    for process in descendants(driver_of(analysis)):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(process, signal.SIGKILL)
    analysis.closed.unlink()
    assert "Everything is done." in analysis.wait()
    assert set(analysis.done().values()) == {1}


@IN_PROC
def test_code_that_is_not_what_was_submitted_is_refused(tmp_path: Path) -> None:
    analysis = Analysis(tmp_path, {}, "local", names=DATASETS[:1], skim={"selection": "mine.py:Mine"})
    code = "from MLTools.NanoML.trilepton import Trilepton\n\n\nclass Mine(Trilepton):\n    size = %d\n"
    (tmp_path / "mine.py").write_text(code % 1)
    analysis.closed.touch()
    analysis.submit()
    (tmp_path / "mine.py").write_text(code % 2)
    analysis.closed.unlink()
    assert f'"mine.py:Mine": {tmp_path}/mine.py, or what it names, was changed after this' in analysis.wait()
    analysis.resubmit()
    assert "Everything is done." in analysis.wait()
