"""Dask clusters that cannot be used, and what classes of `dask_jobqueue` ask their batch system for."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed")

from MLTools.NanoML.batch.submission import JobOptions, Submission
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extending import Resources
from MLTools.NanoML.extensions.dask import system as dask
from MLTools.NanoML.extensions.dask.settings import DaskCluster
from MLTools.NanoML.schema.plain import plain

pytestmark = pytest.mark.exhaustive("each batch system")


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ("dask_jobqueue.SlurmCluster", "batch.dask: .* no attribute 'SlurmCluster': pip install .*, or name another"),
        ("os.path", "batch.dask: os.path is not a class: .*, or name another"),
        ("dask_queue.SLURMCluster", "batch.dask: No module named 'dask_queue': .*, or what has this class"),
        ("tcp://127.0.0.1:{port}", r"batch.dask: the scheduler tcp://127.0.0.1:{port} does not answer \(.*\)\.$"),
        ("tls://127.0.0.1:{port}", r"does not answer \(.*\)\. Dask's own configuration names the certificates for tls"),
        ("http://127.0.0.1:{port}", r"does not answer \(.*http"),
    ],
)
def test_no_cluster_is_told(
    cluster: str, message: str, submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask, "_PATIENCE", 0.2)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        submission.options.kept = {"cluster": cluster.format(port=port)}
        for _ in range(2):
            with pytest.raises(NanoMLError, match=message.format(port=port)):
                dask.Dask("dask").submit(submission)
            nobody.listen()  # but says nothing
    assert not list(submission.directory.glob("driver*"))


def test_a_connection_that_the_scheduler_closes_is_made_again() -> None:
    from distributed import LocalCluster, SchedulerPlugin

    class Hasty(SchedulerPlugin):
        def add_client(self, scheduler: Any, client: str) -> None:
            scheduler.remove_plugin("hasty")
            for comm in list(scheduler._comms):
                comm.abort()

    nothing = {"n_workers": 0, "processes": False, "dashboard_address": None}
    with LocalCluster(**nothing, protocol="tcp") as cluster:
        cluster.scheduler.add_plugin(Hasty(), name="hasty")
        with dask._client(cluster.scheduler_address) as client:
            assert client.status == "running"
            assert not cluster.scheduler.plugins.get("hasty")


def test_a_cluster_that_does_not_start_is_one_message(submission: Submission) -> None:
    submission.options.kept = {"cluster": "distributed.LocalCluster", "options": {"n_workers": "two"}}
    (entries, *_) = submission.stages.values()
    message = "batch.dask: LocalCluster does not start .* Check cluster and options"
    with pytest.raises(NanoMLError, match=message), dask.Dask("dask").starter(submission, entries):
        pass


def test_nobody_else_can_give_tasks_to_the_cluster_of_this_machine() -> None:
    from distributed import LocalCluster

    with LocalCluster(**dask._arguments(LocalCluster, JobOptions(), "skim", Resources(), 2)) as cluster:
        assert cluster.scheduler_address.startswith("inproc://")
        with cluster.get_client() as client, pytest.raises(FileNotFoundError):  # as on a full disk
            client.submit(dask._do, "a", ["true"], ".", {"proxy": b"secret", "no/such/place": b""}, {}).result()
        places = [Path(it.local_directory) for it in cluster.workers.values()]
        assert not [path for place in places for path in place.rglob("proxy")]
        servers = [cluster.scheduler.http_server, *(it.http_server for it in cluster.workers.values())]
        found = {socket.getsockname()[0] for server in servers for socket in server._sockets.values()}
    assert found == {"127.0.0.1"}
    processes = JobOptions(kept={"cluster": "distributed.LocalCluster", "options": {"processes": True}})
    assert dask._arguments(LocalCluster, processes, "skim", Resources(), 2)["security"] is True


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("SLURMCluster", ["-p gpu", "-A top", "--cpus-per-task=4", "--mem=8G", "-t 121"]),
        ("HTCondorCluster", [f"MY.DaskWorker{it}" for it in ("Cores = 4", "Memory = 8500000000", "Disk = 3000000000")]),
    ],
)
def test_what_workers_ask_for(name: str, lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind: Any = getattr(pytest.importorskip("dask_jobqueue"), name)
    monkeypatch.chdir(tmp_path)
    wanted = DaskCluster(f"dask_jobqueue.{name}", {"interface": "lo", "python": "/opt/python"})
    options = JobOptions(account="top", partitions={"train": "gpu"}, kept=plain(wanted))
    needs = Resources(time=7200, memory=8000, cores=4, disk=3000)
    with kind(**dask._arguments(kind, options, "train", needs, 3)) as cluster:
        script = cluster.job_script()
    assert [line for line in lines if line not in script] == []
    assert "/opt/python -m distributed.cli.dask_worker tls://" in script
    assert script.index("--nthreads 4 ") < script.index("--nthreads 1 ")  # the last of them holds
