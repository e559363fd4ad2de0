"""XRootD as the fixtures start it: a redirector, data servers that fail, and storage."""

from __future__ import annotations

import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from services.daemons import run
from services.xrootd import IMPATIENT, Cluster, Storage

pytestmark = [pytest.mark.exhaustive("the services that tests start"), pytest.mark.service]

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "nano"
FILE = EXAMPLES / "WZTo3LNu" / "WZTo3LNu_0.root"
NAME = "/store/mc/a.root"
EVENTS = """
import sys, uproot
with uproot.open(sys.argv[1]) as file:
    print(file["Events"]["MET_pt"].array(library="np").sum())
"""


def met(path: object) -> str:
    """The sum of MET_pt of all events, which uproot reads in a process of its own."""
    return run([sys.executable, "-c", EVENTS, path], IMPATIENT).stdout


def test_uproot_reads_through_the_redirector(xrootd: Cluster) -> None:
    pytest.importorskip("fsspec_xrootd")
    assert met(xrootd.url + "/store/WZTo3LNu/WZTo3LNu_0.root") == met(FILE)


def test_both_servers_have_the_file(xrootd: Cluster) -> None:
    found = run(["xrdfs", xrootd.url, "locate", "/store/WZTo3LNu/WZTo3LNu_0.root"], xrootd.environment).stdout
    assert sorted(line.split()[0].rpartition(":")[2] for line in found.splitlines()) == sorted(
        server.url.rstrip("/").rpartition(":")[2] for server in xrootd.servers
    )


def copy(url: str, target: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run(["xrdcp", "-f", url, target], IMPATIENT, check)


def test_a_server_that_is_killed_is_replaced_by_the_other(
    xrootd_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    only_there = "/store/mc/b.root"
    cluster = xrootd_cluster({NAME: FILE}, {0: {only_there: FILE}})
    killed, target = cluster.servers[0], tmp_path / "a.root"
    copy(cluster.url + only_there, target)
    killed.kill()
    copy(cluster.url + NAME, target)
    assert target.read_bytes() == FILE.read_bytes()
    assert copy(cluster.url + only_there, target, check=False).returncode != 0
    assert copy(killed.url + only_there, target, check=False).returncode != 0
    killed.start()
    copy(killed.url + only_there, target)


def test_a_server_that_hangs_is_given_up_and_goes_on(xrootd_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    cluster = xrootd_cluster({}, {0: {NAME: FILE}})
    server, target = cluster.servers[0], tmp_path / "a.root"
    server.stop()
    start = time.monotonic()
    failed = copy(server.url + NAME, target, check=False)
    assert "timeout" in failed.stderr
    assert time.monotonic() - start > 2
    server.go_on()
    copy(cluster.url + NAME, target)
    assert target.read_bytes() == FILE.read_bytes()


def test_storage_is_written_to_and_mounted(storage: Storage) -> None:
    run(["xrdcp", "--cksum", "adler32", FILE, f"{storage.url}/user/a.root.part"], storage.environment)
    on_storage = ["xrdfs", storage.url]
    run([*on_storage, "mkdir", "-p", "/user/results"], storage.environment)
    run([*on_storage, "mv", "/user/a.root.part", "/user/results/a.root"], storage.environment)
    answer = run([*on_storage, "query", "checksum", "/user/results/a.root"], storage.environment).stdout
    assert answer.split() == ["adler32", f"{zlib.adler32(FILE.read_bytes()):08x}"]
    assert (storage.directory / "user" / "results" / "a.root").read_bytes() == FILE.read_bytes()
    (storage.directory / "user" / "results" / "written_here").write_text("x")
    assert "written_here" in run([*on_storage, "ls", "/user/results"], storage.environment).stdout
    run([*on_storage, "rm", "/user/results/a.root"], storage.environment)
    assert not (storage.directory / "user" / "results" / "a.root").exists()
