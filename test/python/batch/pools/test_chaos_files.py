"""Jobs whose files cannot be read or written: nothing is lost, nothing is done twice, reasons are told."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.analysis import DATASETS, Analysis
from services.daemons import wait_for
from services.fixtures import example_files
from services.xrootd import Cluster

pytestmark = [pytest.mark.service, pytest.mark.exhaustive("each batch system with all that may happen to files")]

Make = Callable[..., Analysis]


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes an analysis for a batch system; the jobs that a test leaves are ended."""
    service = request.getfixturevalue({"condor": "condor_pool", "slurm": "slurm"}[request.param])
    made = []

    def new(**options: Any) -> Analysis:
        made.append(Analysis(tmp_path / "analysis", service.environment, request.param, **options))
        return made[-1]

    yield new
    for analysis in made:
        analysis.nanoml("kill", "analysis.yaml", check=False)


@pytest.mark.parametrize("make", ["slurm"], indirect=True)
def test_servers_that_die_and_files_that_are_damaged(
    make: Make, reference: Analysis, xrootd_cluster: Callable[..., Cluster]
) -> None:
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
    assert (
        " x file unreadable: nanoml resubmit tries again, or allows missing files: nanoml resubmit --max-missing-files"
        in page
    )
    done = analysis.done().total()
    assert 0 < done < 6

    analysis.resubmit()
    page = analysis.wait()
    assert "1 x file unreadable" in page
    assert damaged in page
    assert analysis.done().total() == 5
    (cluster.servers[1].root / damaged).write_bytes(whole)
    assert "skim: 1 task in 1 job" in analysis.resubmit()
    assert "Everything is done." in analysis.wait()
    analysis.check(reference)


@pytest.mark.parametrize("make", ["condor"], indirect=True)
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
