from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from MLTools.NanoML.batch.site import files_below, named, pack
from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import NanoMLError


def tree(directory: Path) -> Path:
    for name in ("a.py", "b.txt", "deep/er/c.py", "__pycache__/a.pyc", ".git/config", ".hidden", "é ñ/'x y'.py"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)
    return directory


def test_all_files_below_but_hidden_ones_and_what_python_makes(tmp_path: Path) -> None:
    tree(tmp_path)
    assert dict(files_below(tmp_path, "lib")) == {
        "lib/a.py": tmp_path / "a.py",
        "lib/b.txt": tmp_path / "b.txt",
        "lib/deep/er/c.py": tmp_path / "deep/er/c.py",
        "lib/é ñ/'x y'.py": tmp_path / "é ñ/'x y'.py",
    }
    assert sorted(dict(files_below(tmp_path, "lib", (".py",)))) == ["lib/a.py", "lib/deep/er/c.py", "lib/é ñ/'x y'.py"]
    assert files_below(tmp_path / "none", "lib") == []


def test_links_are_followed_on_request_and_never_in_circles(tmp_path: Path) -> None:
    one, other = tree(tmp_path / "one"), tmp_path / "other"
    other.mkdir()
    (other / "d.py").write_text("d")
    (one / "link").symlink_to(other)
    (other / "back").symlink_to(one)
    (one / "self").symlink_to(one)
    (one / "nowhere.py").symlink_to(tmp_path / "none")
    (one / "file.py").symlink_to(other / "d.py")
    assert "x/link/d.py" not in dict(files_below(one, "x"))
    assert "x/file.py" in dict(files_below(one, "x"))
    found = [name for name, _ in files_below(one, "x", follow=True)]
    assert "x/link/d.py" in found
    assert len(found) == len({os.path.realpath(path) for _, path in files_below(one, "x", follow=True)}) + 1


def test_the_same_content_has_the_same_name_and_is_packed_once(tmp_path: Path) -> None:
    one, other = tree(tmp_path / "one"), tree(tmp_path / "other")
    os.utime(other / "a.py", (1, 1))
    first = pack("code", files_below(one, "lib"), tmp_path / "jobs")
    content, inode = first.read_bytes(), first.stat().st_ino
    assert pack("code", reversed(files_below(other, "lib")), tmp_path / "jobs") == first
    assert first.stat().st_ino == inode
    first.unlink()
    assert pack("code", files_below(other, "lib"), tmp_path / "jobs").read_bytes() == content
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == [first.name]
    assert first.name.startswith("code-")


def test_any_other_content_has_another_name(tmp_path: Path) -> None:
    one = tree(tmp_path / "one")
    names = [pack("code", files_below(one, "lib"), tmp_path).name]
    names.append(pack("code", files_below(one, "base"), tmp_path).name)
    (one / "a.py").write_text("other")
    names.append(pack("code", files_below(one, "lib"), tmp_path).name)
    (one / "a.py").chmod(0o755)
    names.append(pack("code", files_below(one, "lib"), tmp_path).name)
    (one / "a.py").rename(one / "z.py")
    names.append(pack("code", files_below(one, "lib"), tmp_path).name)
    assert len(set(names)) == len(names)


def test_an_archive_has_the_files_as_they_are(tmp_path: Path) -> None:
    one = tree(tmp_path / "one")
    (one / "a.py").chmod(0o700)
    (one / "link.py").symlink_to(one / "b.txt")
    path = pack("code", files_below(one, "lib"), tmp_path)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xzf", path, "-C", tmp_path / "out"], check=True)
    for name, original in files_below(one, "lib"):
        found = tmp_path / "out" / name
        assert found.read_bytes() == original.read_bytes()
        assert not found.is_symlink()
        assert os.access(found, os.X_OK) == os.access(original, os.X_OK)
    with tarfile.open(path) as archive:
        assert {(it.uid, it.mtime, it.uname) for it in archive.getmembers()} == {(0, 0, "")}


def test_a_full_disk_is_one_message_and_leaves_nothing(tmp_path: Path, disk: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(1 << 20))
    with pytest.raises(NanoMLError, match="the disk is full"):
        pack("code", [("large", tmp_path / "large")], disk)
    assert list(disk.iterdir()) == []


def test_a_file_that_cannot_be_read_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match="none.py: cannot read"):
        pack("code", [("none.py", tmp_path / "none.py")], tmp_path)


@pytest.mark.parametrize("init", ["weights.pt", "{file: weights.pt, frozen: body}"])
def test_a_network_and_its_checkpoint_travel(init: str, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    (tmp_path / "a.yaml").write_text(f"train: {{files: a.h5, model: 'net.py:Net', init: {init}}}\n")
    assert [text for _, text in named(load(tmp_path / "a.yaml"))] == ["net.py", "weights.pt"]
