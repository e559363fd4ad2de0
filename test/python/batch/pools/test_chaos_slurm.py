"""Jobs on a real Slurm cluster to which bad things happen: nothing is lost, nothing is done twice, reasons are told."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.analysis import DATASETS, Analysis, clients
from services.certificates import Certificates
from services.daemons import PATH, wait_for
from services.fixtures import example_files
from services.slurm import Slurm
from services.xrootd import Cluster, VomsServer

pytestmark = [pytest.mark.service, pytest.mark.exhaustive("each batch system with all that may happen to jobs")]

Make = Callable[..., Analysis]


@pytest.fixture(scope="module")
def late(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """One whose jobs get a minute, and take longer: it goes on beside the other tests."""
    directory = tmp_path_factory.mktemp("late")
    analysis = Analysis(directory, slurm.environment, "slurm", names=DATASETS[1:], batch={"time": "1min"})
    analysis.closed.touch()
    analysis.submit()
    return analysis


@pytest.fixture
def make(slurm: Slurm, late: Analysis, tmp_path: Path) -> Iterator[Make]:
    """Makes an analysis; the jobs that a test leaves are cancelled."""

    def new(directory: Path = tmp_path / "analysis", **options: Any) -> Analysis:
        return Analysis(directory, slurm.environment, "slurm", **options)

    yield new
    for line in slurm.run(["squeue", "-h", "-o", "%F %Z"]).stdout.splitlines():
        number, _, place = line.partition(" ")
        if place.startswith(str(tmp_path)):
            slurm.run(["scancel", number], check=False)


def number_of(slurm: Slurm, analysis: Analysis, job: int) -> str:
    """The number of a job of the last submission."""
    lines = slurm.run(["squeue", "-h", "-r", "-o", "%F_%K %Z"]).stdout.splitlines()
    return next(line.split()[0] for line in lines if line.endswith(f"_{job} {analysis.submissions()[-1]}"))


def test_jobs_are_killed_requeued_and_held(slurm: Slurm, make: Make, reference: Analysis) -> None:
    analysis = make()
    analysis.closed.touch()
    analysis.submit()
    for job in range(3):
        analysis.wait_for(f"skim-000{job}", "running")
    killed, requeued, done_twice = (number_of(slurm, analysis, job) for job in range(3))
    wait_for(lambda: len(slurm.processes(done_twice)) > 2, "job.sh")

    with pytest.raises(AssertionError, match="are active here"):
        analysis.nanoml("run", "analysis.yaml")
    with pytest.raises(AssertionError, match="are active here"):
        analysis.submit()
    with pytest.raises(AssertionError, match="can be submitted again when they are done"):
        analysis.resubmit()
    page = analysis.page(PATH=clients(analysis.directory / "bin", squeue="echo no answer >&2; exit 1"))
    assert "Slurm does not answer (squeue: no answer.)" in page
    assert "failed" not in page

    slurm.kill(killed)
    analysis.wait_for("skim-0000", "failed")
    slurm.run(["scontrol", "requeue", requeued])
    analysis.wait_for("skim-0001", "waiting")
    slurm.run(["scontrol", "hold", requeued])
    analysis.wait_for("skim-0001", "held")
    # a job that a lost machine goes on with, beside the one that was begun for it
    last = analysis.submissions()[-1]
    analysis.closed.unlink()
    twin = subprocess.run(["bash", "job.sh", "skim-0002", "1"], cwd=last, capture_output=True, check=False)
    assert twin.returncode == 0
    page = analysis.wait()
    assert "1 x killed: nanoml resubmit tries again" in page
    assert "1 x held: nanoml resubmit releases it" in page
    assert analysis.done().total() == 2

    said = analysis.resubmit()
    assert "skim-0001: released" in said
    assert "1 job failed: nanoml resubmit continues when the others are done" in said
    slurm.run(["scontrol", "update", f"JobId={requeued}", "StartTime=now"])
    analysis.wait()
    assert "skim: 2 tasks in 1 job" in analysis.resubmit()
    assert "Everything is done." in analysis.wait()
    assert "Everything is done already." in analysis.resubmit()
    analysis.check(reference)


def test_jobs_are_ended_and_submitted_again(slurm: Slurm, make: Make, reference: Analysis) -> None:
    analysis = make(batch={"at_once": 2, "setup": ['[ $1 = skim-0000 ] || while [ -e "$0.wait" ]; do sleep 0.1; done']})
    analysis.closed.touch()
    seen = analysis.directory / "seen"
    sbatch = f'until [ -e {seen} ]; do sleep 0.1; done; exec {shutil.which("sbatch", path=PATH)} "$@"'
    path = clients(analysis.directory / "bin", sbatch=sbatch)
    begun = analysis.begin("submit", "skim", "analysis.yaml", "--on", "slurm", PATH=path)
    wait_for(lambda: len(list(analysis.directory.glob("jobs/[!.]*/job.sh"))) == 1, "a submission")
    assert "It is being submitted at this moment." in analysis.page()
    seen.touch()
    assert "Their progress" in begun.communicate(timeout=300)[0]
    last = analysis.submissions()[-1]
    (last / "job.sh.wait").touch()
    analysis.closed.unlink()
    analysis.wait_for("skim-0000", "done")
    analysis.wait_for("skim-0001", "running")
    assert "nanoml resubmit continues" in analysis.nanoml("kill", "analysis.yaml")
    page = analysis.wait()
    assert "2 x removed" in page or "1 x removed" in page
    assert analysis.done().total() == 2
    assert "no job is active" in analysis.nanoml("kill", "analysis.yaml")
    assert "skim: 4 tasks in 2 jobs" in analysis.resubmit()
    assert "Everything is done." in analysis.wait()
    analysis.check(reference)


def test_a_proxy_expires(make: Make, reference: Analysis, certificates: Certificates, xrootd_voms: VomsServer) -> None:
    pytest.importorskip("XRootD")
    # another name of this machine: for this one, no proxy would be asked for
    server = xrootd_voms.url.replace("127.0.0.1", "LOCALHOST")
    analysis = make(server=server, names=DATASETS[:1], read={"tries": 1, "timeout": 5, "redirectors": [server]})
    # the usual place of a proxy is a home directory, and workers do not see /tmp
    with tempfile.TemporaryDirectory(dir="/var/tmp") as home:
        proxy = Path(home, "proxy")
        analysis.environment.update(xrootd_voms.environment, X509_USER_PROXY=str(proxy))

        def renew(hours: float) -> None:
            shutil.copy(certificates.proxy(hours), proxy.with_suffix(".new"))
            proxy.with_suffix(".new").rename(proxy)

        def say(*words: str) -> str:
            return str(analysis.begin(*words).communicate(timeout=300)[0])

        submit = ["submit", "skim", "analysis.yaml", "--on", "slurm"]
        renew(2)
        said = say(*submit)
        assert "proxy" in said
        assert "nanoml proxy init" in said
        assert analysis.submissions() == []

        renew(24)
        analysis.closed.touch()
        assert "Their progress" in say(*submit)
        analysis.wait_for("skim-0001", "running")
        renew(-1)
        analysis.closed.unlink()
        page = analysis.wait()
        said = "2 x grid proxy or token cannot be used: nanoml proxy init, or a new token, then: nanoml resubmit"
        assert said in page
        assert "expired" in page

        renew(24)
        assert "skim: 3 tasks in 2 jobs" in say("resubmit", "analysis.yaml")
        assert "Everything is done." in analysis.wait()
        assert set(analysis.done().values()) == {1}


MOMENTS = [
    # before sbatch has done anything, which it does then
    'kill -9 $PPID; sleep 1; exec {sbatch} "$@"',
    # when all is submitted, and not noted
    '{sbatch} "$@"; if [ "$done" = 2 ]; then kill -9 $PPID; fi',
    # between two arrays
    'if [ "$done" = 2 ]; then kill -9 $PPID; exit; fi; exec {sbatch} "$@"',
]
COUNT = "done=$(($(cat count 2>/dev/null) + 1)); echo $done > count\n"


def test_submission_is_killed_at_any_moment(make: Make, reference: Analysis, tmp_path: Path) -> None:
    sbatch = shutil.which("sbatch", path=PATH)
    analyses = []
    for number, moment in enumerate(MOMENTS):
        analysis = make(tmp_path / str(number), names=DATASETS[:1], convert={"features": ["ZCand_mass"]})
        path = clients(analysis.directory / "bin", sbatch=COUNT + moment.format(sbatch=sbatch))
        process = analysis.begin("submit", "pipeline", "analysis.yaml", "--on", "slurm", PATH=path)
        assert process.communicate(timeout=300)[0] == ""
        analyses.append(analysis)
    for analysis in analyses:
        analysis.begin_again("pipeline", "slurm")
    for analysis in analyses:
        assert "Everything is done." in analysis.wait()
        analysis.check(reference)
        assert list(analysis.directory.glob("jobs/.*")) == []


def test_dead_servers_and_bad_files(make: Make, reference: Analysis, xrootd_cluster: Callable[..., Cluster]) -> None:
    pytest.importorskip("XRootD")
    cluster = xrootd_cluster(example_files())
    read = {"timeout": 5, "tries": 1, "redirectors": [cluster.url]}
    analysis = make(server=cluster.url, read=read)
    damaged = "ZGToLLG_PtG100/ZGToLLG_PtG100_1.root"
    whole = (cluster.servers[0].root / damaged).read_bytes()
    for server in cluster.servers:
        (server.root / damaged).write_bytes(whole[: len(whole) // 2])
    analysis.submit()
    # while jobs read, one server is switched off and the other hangs
    wait_for(lambda: analysis.done().total() > 0, "a task")
    cluster.servers[0].kill()
    cluster.servers[1].stop()
    page = analysis.wait()
    cluster.servers[1].go_on()
    assert " x file unreadable: nanoml resubmit tries again, or allows missing files: nanoml resubmit --max-m" in page
    assert 0 < analysis.done().total() < 6

    analysis.resubmit()
    page = analysis.wait()
    assert "1 x file unreadable" in page
    assert damaged in page
    assert analysis.done().total() == 5
    (cluster.servers[1].root / damaged).write_bytes(whole)
    assert "skim: 1 task in 1 job" in analysis.resubmit()
    assert "Everything is done." in analysis.wait()
    analysis.check(reference)


def test_the_wall_time_is_over(late: Analysis, reference: Analysis) -> None:
    page = late.wait()
    assert "2 x wall time exceeded: nanoml resubmit asks for more" in page
    late.closed.unlink()
    assert "time 60 s -> 2 min" in late.resubmit()
    assert "Everything is done." in late.wait()
    late.check(reference)
