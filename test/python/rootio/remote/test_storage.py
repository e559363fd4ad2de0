from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.remote import storage as remote
from services.xrootd import Storage

pytestmark = [pytest.mark.exhaustive("servers, and what they ask for"), pytest.mark.service]


@pytest.fixture
def place(storage: Storage, read_with: Callable[..., None], request: pytest.FixtureRequest) -> tuple[str, Path]:
    """A directory of the storage for this test alone: its URL and where it is mounted."""
    pytest.importorskip("XRootD")
    name = request.node.name.replace("[", "-").rstrip("]")
    return f"{storage.url}/{name}", storage.directory / name


def local(directory: Path, size: int = 100_000) -> Path:
    path = directory / "local"
    path.write_bytes(os.urandom(size))
    return path


def leftovers(directory: Path) -> list[Path]:
    return [path for path in directory.rglob(".*") if path.is_file()]


@pytest.mark.parametrize(("size", "checksum"), [(0, True), (1, False), (20_000_000, True)])
def test_there_and_back(place: tuple[str, Path], tmp_path: Path, size: int, checksum: bool) -> None:
    url, directory = place
    path = local(tmp_path, size)
    assert remote.copy(path, f"{url}/a/b", checksum) == size
    assert (directory / "a" / "b").read_bytes() == path.read_bytes()
    assert not leftovers(directory)
    assert remote.copy(f"{url}/a/b", tmp_path / "new" / "back", checksum) == size
    assert (tmp_path / "new" / "back").read_bytes() == path.read_bytes()
    (directory / "c").write_bytes(b"what was there before")
    assert remote.copy(f"{url}/a/b", f"{url}/c", checksum) == size
    assert (directory / "c").read_bytes() == path.read_bytes()


def test_what_is_known_of_files(place: tuple[str, Path], tmp_path: Path) -> None:
    url, directory = place
    remote.copy(local(tmp_path, 10), f"{url}/a/b")
    assert remote.size(f"{url}/a/b") == 10
    assert remote.exists(f"{url}/a/b")
    assert remote.exists(f"{url}/a")
    assert not remote.exists(f"{url}/a/c")
    known = remote.stat(f"{url}/a/b")
    assert (known.name, known.size, known.is_directory) == ("b", 10, False)
    assert known.modified == int((directory / "a" / "b").stat().st_mtime)
    assert remote.stat(f"{url}/a").is_directory
    (directory / "a" / "z").mkdir()
    (directory / "a" / "c").write_text("xyz")
    found = remote.list_directory(f"{url}/a")
    assert [(each.name, each.is_directory) for each in found] == [("b", False), ("c", False), ("z", True)]
    assert [each.size for each in found[:2]] == [10, 3]


def test_removal(place: tuple[str, Path]) -> None:
    url, directory = place
    (directory / "a").mkdir(parents=True)
    (directory / "a" / "b").touch()
    with pytest.raises(NanoMLError, match=r"a: cannot be removed \(directory not empty\)"):
        remote.remove(f"{url}/a")
    for name in ("a/b", "a"):
        remote.remove(f"{url}/{name}")
    with pytest.raises(NanoMLError, match="a: cannot be looked up .no such file"):
        remote.remove(f"{url}/a")
    remote.remove(f"{url}/a", missing_ok=True)
    assert not list(directory.iterdir())


def test_a_whole_directory(place: tuple[str, Path], tmp_path: Path) -> None:
    url, directory = place
    for name in ("a", "b/c", "b/d/e"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)
    (directory / "b" / "empty").mkdir()
    found = remote.fetch_directory(url, tmp_path / "here")
    names = [str(path.relative_to(tmp_path / "here")) for path in found]
    assert names == ["a", "b/c", "b/d/e"]
    assert [path.read_text() for path in found] == names
    assert (tmp_path / "here" / "b" / "empty").is_dir()


def test_what_cannot_be_copied_leaves_nothing(place: tuple[str, Path], tmp_path: Path) -> None:
    url, directory = place
    directory.mkdir()
    with pytest.raises(NanoMLError, match=r"none: cannot be copied to .*here \(no such file or directory\)"):
        remote.copy(f"{url}/none", tmp_path / "here")
    with pytest.raises(NanoMLError, match="none: cannot read"):
        remote.copy(tmp_path / "none", f"{url}/a")
    (directory / "taken").write_text("a file")
    with pytest.raises(NanoMLError, match="cannot be copied"):
        remote.copy(local(tmp_path), f"{url}/taken/a")
    assert [path.name for path in directory.iterdir()] == ["taken"]
    assert [path.name for path in tmp_path.iterdir()] == ["local"]


def test_changed_bytes_are_noticed(place: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, _ = place
    path = local(tmp_path, 1000)
    remote.copy(path, f"{url}/a")
    asked = 0
    real = remote.answer

    def flipping(*arguments: Any, **more: Any) -> object:
        nonlocal asked
        found: object = real(*arguments, **more)
        if isinstance(found, bytes):
            asked += 1
            return bytes([found[0] ^ 1]) + found[1:] if asked == 1 else found
        return found

    monkeypatch.setattr(remote, "answer", flipping)
    remote.copy(f"{url}/a", tmp_path / "back")
    assert asked == 2
    assert (tmp_path / "back").read_bytes() == path.read_bytes()


def test_a_server_without_checksums_that_comes_back(tmp_path: Path, read_with: Callable[..., None]) -> None:
    pytest.importorskip("XRootD")
    read_with(tries=20, timeout=10)
    server = Storage(checksums=False)
    try:
        server.start()
        path = local(tmp_path)
        remote.copy(path, f"{server.url}/a")  # which is read back
        assert (server.directory / "a").read_bytes() == path.read_bytes()
        server.kill()
        back = threading.Timer(0.5, server.start)
        back.start()
        remote.copy(f"{server.url}/a", tmp_path / "back")
        back.join()
        assert (tmp_path / "back").read_bytes() == path.read_bytes()
    finally:
        server.close()


def test_nobody_answers(tmp_path: Path, read_with: Callable[..., None]) -> None:
    pytest.importorskip("XRootD")
    read_with(tries=2, timeout=1)
    url = "root://127.0.0.1:1//store/a"
    for action in (remote.exists, remote.size, remote.remove, remote.list_directory):
        with pytest.raises(NanoMLError, match=r"127.0.0.1:1//store/a: cannot be .* after 2 tries \("):
            action(url)
    with pytest.raises(NanoMLError, match=r"cannot be copied to root://.* after 2 tries \("):
        remote.copy(local(tmp_path), url)


def test_many_files_are_looked_up(place: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PATIENCE", 60)
    url, _ = place
    for number in range(3):
        remote.copy(local(tmp_path, number), f"{url}/store/{number}")
        remote.copy(local(tmp_path, number), f"{url}/store/mc/{number}")  # never changes
    names = [f"{url}/store/{number}" for number in range(4)]
    nowhere = f"root://127.0.0.1:1/{names[0].rpartition('//')[2]}"
    found = remote.stat_all([*names, *(f"{url}/store/mc/{n}" for n in range(3)), nowhere, "/a", "https://a/b"])
    assert {name: it.size for name, it in found.items()} == {name: size for size, name in enumerate(names[:3])}
    assert found[names[0]] == remote.stat(names[0])
