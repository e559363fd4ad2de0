"""Reading goes on where servers fail, and gives what reading the local file gives."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import processes
from MLTools.NanoML.errors import NanoMLError, UnreadableError
from MLTools.NanoML.rootio.baskets import PlainBranch
from MLTools.NanoML.rootio.remote import requests
from MLTools.NanoML.rootio.remote.file import RemoteFile
from MLTools.NanoML.rootio.rootfile import RootFile
from services.arrays import same
from services.daemons import wait_for
from services.xrootd import Cluster, DataServer, Storage

pytestmark = pytest.mark.service

ReadWith = Callable[..., None]
Arrays = dict[str, ak.Array]
CLUSTERS, EVENTS = 20, 2000
NAMES = ["x0", "x7", "jet", "n"]
GOOD, ONE, CUT, BAD = "/store/mc/good.root", "/store/mc/one.root", "/store/mc/cut.root", "/store/mc/bad.root"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 20 baskets a branch, so large that its tail is a small part of it."""
    path = tmp_path_factory.mktemp("local") / "good.root"
    random = np.random.default_rng(1)
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        columns = {f"x{number}": "f4" for number in range(8)}
        tree = file.mktree("Events", {**columns, "n": "i4", "jet": "var * float32"})
        for cluster in range(CLUSTERS):
            counts = random.integers(0, 5, EVENTS)
            values: dict[str, Any] = {name: random.normal(size=EVENTS).astype("f4") for name in columns}
            values["n"] = np.arange(cluster * EVENTS, (cluster + 1) * EVENTS, dtype="i4")
            values["jet"] = ak.unflatten(random.normal(size=int(counts.sum())).astype("f4"), counts)
            tree.extend(values)
    assert path.stat().st_size > 1_500_000
    return path


@pytest.fixture(scope="module")
def running(local: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    pytest.importorskip("XRootD")
    cut, bad = (tmp_path_factory.mktemp("damaged") / name for name in ("cut.root", "bad.root"))
    content = local.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    with RootFile(local) as file:
        plain = PlainBranch.of(file._objects["x7"])
    assert plain is not None
    bad.write_bytes(content)
    with open(bad, "r+b") as damaged:
        damaged.seek(int(plain.seek[10]))
        damaged.write(bytes(200))
    cluster = Cluster()
    try:
        cluster.seed({GOOD: local})
        cluster.seed({ONE: local, CUT: cut, BAD: bad}, (0,))
        cluster.seed({CUT: local, BAD: local}, (1,))
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def cluster(running: Cluster, read_with: ReadWith, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """All servers of the cluster are at work when a test begins; a range of the file is several small requests."""
    for name, value in {"_REQUEST": 1 << 14, "_WINDOW": 1 << 16, "_WAITING": 1 << 16}.items():
        monkeypatch.setattr(requests, name, value)
    read_with(redirectors=[running.url])
    yield running
    for server in running.servers:
        server.revive()
    wait_for(lambda: running.known() == len(running.servers), "all servers", running.directory)


def url(place: Cluster | DataServer, name: str) -> str:
    return f"{place.url}{name}"


def server_of(file: RootFile, cluster: Cluster) -> DataServer:
    assert file._access._remote is not None
    address = file._access._remote._server()
    return next(server for server in cluster.servers if server.url == f"root://{address}/")


def in_steps(file: RootFile, disturb: Sequence[Callable[[], object]] = ()) -> Arrays:
    """Read the file in four ranges, announced in advance; something happens after the first, and after the second."""
    parts = []
    for number, (start, stop) in enumerate(file.ranges(NAMES, CLUSTERS * EVENTS // 4)):
        parts.append(file.read(NAMES, start, stop))
        if number < len(disturb):
            disturb[number]()
    assert len(parts) == 4
    return {name: ak.concatenate([part[name] for part in parts]) for name in NAMES}


@pytest.fixture(scope="module")
def wanted(local: Path) -> Arrays:
    with RootFile(local) as file:
        return in_steps(file)


def test_remote_is_as_local(cluster: Cluster, local: Path, wanted: Arrays) -> None:
    with RootFile(local) as here, RootFile(url(cluster, GOOD)) as there:
        assert there.entries == here.entries
        assert there.size == here.size
        assert there.keys == here.keys
        assert dict(there.branches) == dict(here.branches)
        assert same(in_steps(there), wanted)
        assert same(there.read(list(there.branches)), here.read(list(here.branches)))


@pytest.mark.parametrize("name", ["made_v12_data", "made_v9_mc_rntuple"])
def test_trees_and_rntuples(name: str, storage: Storage, made_files: dict[str, Path], read_with: ReadWith) -> None:
    pytest.importorskip("XRootD")
    if name not in made_files:
        pytest.skip(f"uproot {uproot.__version__} writes no RNTuple")
    path = made_files[name]
    shutil.copyfile(path, storage.directory / path.name)
    with RootFile(path) as here, RootFile(f"{storage.url}/{path.name}") as there:
        names = [name for name in here.branches if here.branch(name).is_numeric][:: 20 if "rntuple" in name else 1]
        assert same(there.read(names), here.read(names))
        for tree in ("Runs", "LuminosityBlocks"):
            assert same(there.other_tree(tree) or {}, here.other_tree(tree) or {})


def test_baskets_move_once_by_many_requests(cluster: Cluster, wanted: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    under_way = [0]
    numbers = [name for name in NAMES if name != "jet"]  # an old uproot does not write where lists end

    def send(method: Callable[..., Any], *arguments: Any, timeout: int) -> Any:
        answer = send_one(method, *arguments, timeout=timeout)
        if not arguments:  # the file is closed
            return answer
        parts = arguments[0] if len(arguments) == 1 else [arguments]
        asked.extend(parts)
        under_way.append(under_way[-1] + 1)
        answer.add_done_callback(lambda _: under_way.append(under_way[-1] - 1))
        return answer

    with RootFile(url(cluster, GOOD)) as file:
        remote = file._access._remote
        assert remote is not None
        plain = [PlainBranch.of(file._objects[name]) for name in numbers]
        baskets = {piece for branch in plain if branch is not None for piece in branch.pieces(0, file.entries)}
        useful = sum(size for seek, size in baskets if remote._at_ends(seek, size) is None)
        send_one = requests.send
        monkeypatch.setattr(requests, "send", send)
        ranges = [(start, min(start + 3000, file.entries)) for start in range(0, file.entries, 3000)]
        file.announce(numbers, ranges)  # half of them end within baskets
        parts = [file.read(numbers, *each) for each in ranges]
        found = {name: ak.concatenate([part[name] for part in parts]) for name in numbers}
        assert same(found, {name: wanted[name] for name in numbers})
    assert 200_000 < useful <= sum(size for _, size in asked) < 1.02 * useful
    assert max(under_way) > 2
    assert under_way[-1] == 0


def test_what_is_announced_comes_though_nothing_is_taken(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "_WAITING", 1 << 30)
    with RootFile(url(cluster, GOOD)) as file:
        assert [*file._pieces(NAMES, [(0, file.entries)])]  # what it must read for that is here
        server = server_of(file, cluster)
        server.stop()  # nothing comes meanwhile, which would make room for the rest
        assert not file.announce(NAMES, [(0, file.entries)])  # more than may be on its way
        server.go_on()
        remote = file._access._remote
        assert remote is not None
        wait_for(lambda: all(request.has_come for request in remote._ahead), "all", cluster.directory)


@pytest.mark.parametrize(("how", "through"), [("kill", "server"), ("stop", "redirector")])
def test_a_server_fails(cluster: Cluster, wanted: Arrays, how: str, through: str, read_with: ReadWith) -> None:
    read_with(redirectors=[cluster.url], timeout=3 if how == "stop" else 20)
    address = url(cluster if through == "redirector" else cluster.servers[0], GOOD)
    with RootFile(address) as file:
        gone: list[DataServer] = []

        def disturb() -> None:
            gone.append(server_of(file, cluster))  # which need not be the one that it was opened at
            getattr(gone[0], how)()

        found = in_steps(file, [disturb])
        assert server_of(file, cluster) is not gone[0]
    assert same(found, wanted)


def test_a_server_that_goes_on_in_time_is_waited_for(cluster: Cluster, wanted: Arrays) -> None:
    later = threading.Timer(1, cluster.servers[0].go_on)

    def pause() -> None:
        cluster.servers[0].stop()
        later.start()

    with RootFile(url(cluster.servers[0], ONE)) as file:
        found = in_steps(file, [pause])
        later.join()
    assert same(found, wanted)


def test_both_fail_one_after_the_other(cluster: Cluster, wanted: Arrays, read_with: ReadWith) -> None:
    read_with(redirectors=[cluster.url], tries=10)  # until the redirector gives the one that is back
    one, other = cluster.servers
    with RootFile(url(cluster, GOOD)) as file:

        def swap() -> None:
            server_of(file, cluster).kill()

        def back() -> None:
            dead = next(each for each in (one, other) if each is not server_of(file, cluster))
            dead.start()
            wait_for(lambda: cluster.known() == 2, "the server", cluster.directory)
            server_of(file, cluster).kill()

        assert same(in_steps(file, [swap, back]), wanted)


def test_a_file_of_one_server_is_found_by_any_name(cluster: Cluster, wanted: Arrays) -> None:
    """The other server does not have it, and says so; the redirector knows who has."""
    with RootFile(url(cluster.servers[1], ONE)) as file:
        assert server_of(file, cluster) is cluster.servers[0]
        assert same(in_steps(file), wanted)


def test_several_urls(cluster: Cluster, wanted: Arrays, read_with: ReadWith) -> None:
    read_with()
    one, other = cluster.servers
    with RootFile(f"{url(other, ONE)}|{url(one, ONE)}") as file:
        assert same(in_steps(file), wanted)
    with pytest.raises(UnreadableError, match=r"one.root: no such file, asked for at 1 source \("):
        RootFile(url(other, ONE))


def test_a_redirector_leads_to_one_that_hangs(cluster: Cluster, wanted: Arrays, read_with: ReadWith) -> None:
    """First, whatever it is asked for; but it tells of others."""
    read_with(redirectors=[cluster.url], timeout=3)
    cluster.servers[0].stop()
    with RootFile(url(cluster, GOOD)) as file:
        assert server_of(file, cluster) is cluster.servers[1]
        assert same(in_steps(file), wanted)


@pytest.mark.parametrize(("name", "copy"), [(CUT, False), (BAD, False), (BAD, True)])
def test_one_replica_is_damaged(cluster: Cluster, wanted: Arrays, name: str, copy: bool, read_with: ReadWith) -> None:
    read_with(redirectors=[cluster.url], copy=copy)
    with RootFile(url(cluster.servers[0], name)) as file:
        assert same(in_steps(file), wanted)
        assert server_of(file, cluster) is cluster.servers[1]


@pytest.mark.parametrize(("copy", "number"), [(False, 5), (True, 1)])
def test_what_was_flipped_on_its_way_is_read_again(
    cluster: Cluster, wanted: Arrays, copy: bool, number: int, read_with: ReadWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_with(copy=copy)
    receive, received = requests.Request.receive, []

    def flipped(self: requests.Request, file: Any) -> None:
        receive(self, file)
        assert self.content is not None
        received.append(self)
        if len(received) == number:
            self.content[:] = [bytes(255 - byte for byte in part) for part in self.content]

    monkeypatch.setattr(requests.Request, "receive", flipped)
    with RootFile(url(cluster.servers[0], ONE)) as file:
        assert same(in_steps(file), wanted)
    assert len(received) > number


def test_a_truncated_replica_does_not_take_over(cluster: Cluster) -> None:
    with RootFile(url(cluster.servers[1], CUT)) as file:
        file.read(NAMES, 0, 10)
        cluster.servers[1].kill()
        with pytest.raises(UnreadableError, match=r"it has \d+ bytes here, and \d+ elsewhere"):
            file.read(NAMES)


@pytest.mark.parametrize(("name", "said"), [(CUT, r"it has [\d,]+ of [\d,]+ bytes"), (BAD, "damaged: .*TBasket")])
def test_nothing_but_damaged_replicas(cluster: Cluster, name: str, said: str, read_with: ReadWith) -> None:
    read_with()

    def read() -> None:
        with RootFile(url(cluster.servers[0], name)) as file:
            in_steps(file)

    with pytest.raises(UnreadableError, match=f"{name[1:]}: read error after 1 try at 1 source .*{said}"):
        read()


def test_a_copy_is_read_here_and_removed(
    cluster: Cluster, wanted: Arrays, read_with: ReadWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_with(redirectors=[cluster.url], copy=True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with RootFile(url(cluster, GOOD)) as file:
        copies = list(tmp_path.iterdir())
        assert len(copies) == 1
        assert copies[0].stat().st_size == file.size
        for server in cluster.servers:
            server.kill()
        assert same(in_steps(file), wanted)
    assert not list(tmp_path.iterdir())
    read_with(copy=True, tries=1, timeout=1)
    with pytest.raises(UnreadableError):
        RootFile(url(cluster, GOOD))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_nobody_is_left(cluster: Cluster, how: str, read_with: ReadWith) -> None:
    read_with(redirectors=[cluster.url], timeout=2, tries=2)
    with RootFile(url(cluster, GOOD)) as file:
        file.read(NAMES, 0, 10)
        for server in cluster.servers:
            getattr(server, how)()
        with pytest.raises(UnreadableError, match=r"good.root: read error after \d tries at \d sources? \(127.0.0.1:"):
            file.read(NAMES)


def test_ctrl_c_is_heeded_while_a_server_hangs(cluster: Cluster) -> None:
    code = f"""
import sys
from MLTools.NanoML.rootio.remote.client import Read, use_settings
from MLTools.NanoML.rootio.rootfile import RootFile
use_settings(Read(timeout=60, redirectors=[{cluster.url!r}]))
try:
    with RootFile({url(cluster.servers[0], ONE)!r}) as file:
        file.read(["x0"], 0, 10)
        print("read", flush=True)
        sys.stdin.readline()
        file.read(["x0"])
except KeyboardInterrupt:
    print("interrupted")
"""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    pipes.update(stderr=subprocess.STDOUT, text=True)
    with processes.running([sys.executable, "-c", code], **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "read\n"
        cluster.servers[0].stop()
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=50)[0] == "interrupted\n"
        assert process.returncode == 0


def test_what_is_no_root_file(storage: Storage, read_with: ReadWith) -> None:
    for name, content in {"empty": b"", "text": b"This is text.\n" * 100, "short": b"root"}.items():
        (storage.directory / f"{name}.root").write_bytes(content)
        with pytest.raises(UnreadableError, match=f"{name}.root: read error after 1 try at 1 source .*damaged"):
            RootFile(f"{storage.url}/{name}.root")


def test_a_missing_tree_is_no_damage(cluster: Cluster) -> None:
    with pytest.raises(NanoMLError, match="has no tree `Nothing`") as raised:
        RootFile(url(cluster, GOOD), "Nothing")
    assert not isinstance(raised.value, UnreadableError)


@pytest.fixture(scope="module")
def large(storage: Storage) -> tuple[str, bytes]:
    content = os.urandom(6_000_000)
    (storage.directory / "large").write_bytes(content)
    return f"{storage.url}/large", content


PIECES = st.tuples(st.integers(0, 5_999_999), st.sampled_from([0, 1, 100, 5000, 2_097_136, 5_000_000]))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, max_size=20))
def test_any_pieces(large: tuple[str, bytes], read_with: ReadWith, pieces: list[tuple[int, int]]) -> None:
    address, content = large
    pieces = [(start, min(length, len(content) - start)) for start, length in pieces]
    with RemoteFile(address) as file:
        assert file.read_all(pieces) == [content[start : start + length] for start, length in pieces]


def test_thousands_of_pieces(large: tuple[str, bytes], read_with: ReadWith) -> None:
    address, content = large
    pieces = [(start, 10) for start in range(0, len(content), 3000)]
    with RemoteFile(address) as file:
        assert file.read_all(pieces) == [content[start : start + 10] for start, _ in pieces]
        assert file.read(5, 7) == content[5:12]
        with pytest.raises(ValueError, match="the file ends at byte 6000000"):
            file.read(len(content) - 1, 2)
