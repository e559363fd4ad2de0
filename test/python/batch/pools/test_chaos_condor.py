"""Jobs in a real HTCondor pool to which bad things happen: nothing is lost, nothing is done twice, reasons are told."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.analysis import DATASETS, Analysis, clients
from services.condor import CondorPool
from services.daemons import PATH, wait_for

pytestmark = [pytest.mark.service, pytest.mark.exhaustive("each batch system with all that may happen to jobs")]

Make = Callable[..., Analysis]


@pytest.fixture
def make(condor_pool: CondorPool, tmp_path: Path) -> Iterator[Make]:
    """Makes an analysis; the jobs that a test leaves are removed."""

    def new(directory: Path = tmp_path / "analysis", **options: Any) -> Analysis:
        return Analysis(directory, condor_pool.environment, "condor", **options)

    yield new
    condor_pool.run(["condor_rm", "-constraint", f'strcmp(Iwd, "{tmp_path}") > 0'], check=False)


def number_of(pool: CondorPool, job: str) -> str:
    """The number of a job of a DAG."""
    found = pool.run(["condor_q", "-constraint", f'DAGNodeName == "{job}"', "-af:j", "DAGNodeName"])
    return str(found.stdout.split()[-2])


def events(analysis: Analysis) -> set[str]:
    """The numbers of what happened to jobs of the last submission, as in HTCondor's log."""
    log = analysis.submissions()[-1] / "pipeline.dag.nodes.log"
    return set(re.findall(r"^(\d{3}) \(", log.read_text(), re.M))


def test_jobs_are_killed_evicted_and_held(condor_pool: CondorPool, make: Make, reference: Analysis) -> None:
    analysis = make(batch={"retries": 1})
    analysis.closed.touch()
    analysis.submit()
    for number in range(3):
        analysis.wait_for(f"skim-000{number}", "running")
    killed, evicted, held = (number_of(condor_pool, f"skim-000{number}") for number in range(3))
    with pytest.raises(AssertionError, match="are active here"):
        analysis.nanoml("run", "analysis.yaml")

    condor_pool.kill(killed)
    condor_pool.run(["condor_vacate_job", "-fast", evicted])
    condor_pool.run(["condor_hold", "-reason", "somebody wants it", held])
    analysis.wait_for("skim-0002", "held")
    wait_for(lambda: {"004", "005"} <= events(analysis), "ends of two jobs")
    analysis.closed.unlink()
    page = analysis.wait()
    assert "1 x held: nanoml resubmit releases it" in page
    assert "somebody wants it" in page
    assert "skim-0002: released" in analysis.resubmit()
    assert "Everything is done." in analysis.wait()
    assert "Everything is done already." in analysis.resubmit()
    analysis.check(reference)


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
    page = analysis.wait()
    assert analysis.done().total() == 2
    assert analysis.resubmit().count("memory 2000 -> 4000 MB") == 2
    assert "Everything is done." in analysis.wait()
    analysis.check(reference)


def test_jobs_that_cannot_begin_and_are_ended(make: Make, reference: Analysis) -> None:
    analysis = make()
    analysis.content["batch"]["setup"].append("export PYTHONHOME=/nowhere")
    analysis.write()
    analysis.submit()
    page = analysis.wait()
    assert "3 x package or program missing: add it to the environment of the jobs" in page
    assert "No module named 'encodings'" in page

    analysis.content["batch"]["setup"].pop()
    analysis.write()
    analysis.closed.touch()
    analysis.resubmit()
    analysis.wait_for("skim-0001", "running")
    assert "nanoml resubmit continues" in analysis.nanoml("kill", "analysis.yaml")
    page = analysis.wait()
    assert " x removed: nanoml resubmit tries again" in page
    analysis.closed.unlink()
    analysis.resubmit()
    assert "Everything is done." in analysis.wait()
    analysis.check(reference)


MOMENTS = [
    # before condor_submit_dag has done anything, which it does then
    'kill -9 $PPID; sleep 1; exec {command} "$@"',
    # when all is submitted, and not noted
    '{command} "$@"; kill -9 $PPID',
]


def test_submission_is_killed_at_any_moment(make: Make, reference: Analysis, tmp_path: Path) -> None:
    command = shutil.which("condor_submit_dag", path=PATH)
    analyses, killed = [], []
    for number in range(3):
        analysis = make(tmp_path / str(number), names=DATASETS[:1])
        moment = MOMENTS[number].format(command=command) if number < 2 else f'exec {command} "$@"'
        path = clients(analysis.directory / "bin", condor_submit_dag=moment)
        process = analysis.begin("submit", "skim", "analysis.yaml", "--on", "condor", PATH=path)
        if number >= 2:
            time.sleep(0.6)
            process.kill()
        killed.append(process.communicate(timeout=300)[0])
        analyses.append(analysis)
    assert not any("Their progress" in text for text in killed[:2])
    for analysis in analyses:
        analysis.begin_again("skim", "condor")
    for analysis in analyses:
        assert "Everything is done." in analysis.wait()
        analysis.check(reference)
        assert list(analysis.directory.glob("jobs/.*")) == []
