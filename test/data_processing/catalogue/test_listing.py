"""Directories of real XRootD servers; through a redirector, all servers' files must come together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_processing.catalogue.listing import is_listing, list_remote
from data_processing.datasets.datasets import describe_datasets, find_files
from data_processing.datasets.overview import overview
from MLTools.NanoML.config.analysis import load
from MLTools.NanoML.errors import NanoMLError
from services.xrootd import Cluster, Storage

pytestmark = pytest.mark.service

FILE = Path(__file__).resolve().parents[3] / "examples" / "data" / "ZGToLLG" / "ZGToLLG_0.root"


@pytest.fixture
def quickly(read_with: Callable[..., None]) -> None:
    """Give up soon."""
    pytest.importorskip("XRootD")
    read_with(tries=1, timeout=3)


def names(url: str) -> list[str]:
    return [file.name for file in list_remote(url)]


def test_a_redirector_gives_the_files_of_all_its_servers(
    xrootd_cluster: Callable[..., Cluster], quickly: None
) -> None:
    both = {f"/store/user/me/WZ/{number}.root": FILE for number in (1, 2)}
    own = {
        0: {
            "/store/user/me/WZ/0.root": FILE,
            "/store/user/me/WZ/notes.txt": FILE,
            "/store/user/me/ZZ/5.root": FILE,
        },
        1: {"/store/user/me/WZ/3.root": FILE, "/store/user/me/ZG/6.root": FILE},
    }
    cluster = xrootd_cluster(both, own)
    top = f"{cluster.url}/store/user/me"
    found = list_remote(f"{top}/WZ/")
    assert [file.name for file in found] == [f"{top}/WZ/{number}.root" for number in range(4)]
    assert {file.size for file in found} == {FILE.stat().st_size}
    assert names(f"{top}/WZ/[12]*") == [f"{top}/WZ/{number}.root" for number in (1, 2)]
    every = [f"{top}/WZ/{number}.root" for number in range(4)]
    assert names(f"{top}/*/*.root") == sorted([*every, f"{top}/ZZ/5.root", f"{top}/ZG/6.root"])
    assert names(f"{cluster.url}/store/*/me/Z[Z]/") == [f"{top}/ZZ/5.root"]
    with pytest.raises(NanoMLError, match=r"W\*/x\*.root: no such file"):
        list_remote(f"{top}/W*/x*.root")
    with pytest.raises(NanoMLError, match="nowhere"):
        list_remote(f"{top}/nowhere/")


def test_a_server_that_does_not_answer_leaves_no_gap(
    xrootd_cluster: Callable[..., Cluster], quickly: None
) -> None:
    cluster = xrootd_cluster({}, {number: {f"/store/user/me/{number}.root": FILE} for number in (0, 1)})
    url = f"{cluster.url}/store/user/me/"
    assert len(list_remote(url)) == 2
    cluster.servers[1].stop()  # it hangs: the redirector still counts on it
    with pytest.raises(NanoMLError, match="cannot be listed"):
        list_remote(url)
    cluster.servers[1].go_on()
    assert len(list_remote(url)) == 2


def test_a_server_alone(storage: Storage, quickly: None, tmp_path: Path) -> None:
    directory = storage.directory / "eos" / "user" / "me"
    (directory / "deep.root").mkdir(parents=True)
    for name in ("a.root", "b.root", "c d.root", "a.txt"):
        (directory / name).write_text(name)
    url = f"{storage.url}/eos/user/me"
    expected = [f"{url}/{name}" for name in ("a.root", "b.root", "c d.root")]
    assert find_files([f"{url}/"], tmp_path) == expected
    assert find_files([f"{url}/*.root"], tmp_path) == expected
    (tmp_path / "all.txt").write_text(f"{url}/a.root\n{url}/[bc]*.root\n")
    assert find_files(["all.txt"], tmp_path) == expected
    with pytest.raises(NanoMLError, match=r"a.root: is named twice"):
        find_files([f"{url}/a.root", f"{url}/*.root"], tmp_path)


def test_what_an_analysis_reads_stays(storage: Storage, quickly: None, tmp_path: Path) -> None:
    directory = storage.directory / "eos" / "user" / "pinned"
    directory.mkdir(parents=True)
    for name in ("a.root", "b.root"):
        (directory / name).write_text(name)
    url = f"{storage.url}/eos/user/pinned/"
    (tmp_path / "own.root").write_text("own")
    (tmp_path / "a.yaml").write_text(f"datasets: {{a: {{files: [own.root, '{url}']}}}}\n")
    config = load(tmp_path / "a.yaml")
    before = describe_datasets(config)["a"]
    assert [(file.name, file.size) for file in before] == [
        (str(tmp_path / "own.root"), 3),
        (f"{url}a.root", 6),
        (f"{url}b.root", 6),
    ]
    (directory / "c.root").write_text("c.root")
    assert describe_datasets(config)["a"] == before
    (dataset,) = overview(config)
    assert "now 1 file more; --refresh takes what there is now." in dataset["news"][0]
    (dataset,) = overview(config, refresh=True)
    assert dataset["read"] == {"files": 4, "events": None, "size": 21}
    assert len(describe_datasets(config)["a"]) == 4


def test_a_server_that_is_not_there(quickly: None) -> None:
    with pytest.raises(NanoMLError, match=r"root://127.0.0.1:1//store/x: cannot be listed"):
        list_remote("root://127.0.0.1:1//store/x/")


def test_what_is_a_listing() -> None:
    assert is_listing("root://host//store/x/")
    assert is_listing("root://host//store/x/*.root")
    assert is_listing("root://host//store/[xy]/z.root")
    assert not is_listing("root://host//store/x.root?svc=*")
