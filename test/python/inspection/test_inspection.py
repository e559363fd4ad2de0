from __future__ import annotations

import os
from pathlib import Path

import h5py
import pytest
from printing import printed

from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.inspection import inspect_file, kind_of


def test_every_file_is_understood(nano_file: Path) -> None:
    found = inspect_file(nano_file)
    content = found.to_json()
    assert content["kind"] == "root"
    assert content["size"] == nano_file.stat().st_size
    assert content["is_data"] == ("_data" in nano_file.stem)
    assert content["format"] == ("RNTuple" if "rntuple" in nano_file.stem else "TTree")
    assert content["warnings"] == content["errors"] == []
    is_scouting = "scouting" in nano_file.stem  # which has no trigger decisions
    assert is_scouting or len(content["event_level"]["HLT"]) > 10
    assert ("ScoutingMuon" if is_scouting else "Muon") in content["collections"]
    for width in (80, 120):
        text = printed(found, width=width)
        assert len(text.splitlines()) < 100  # not a wall of text
        assert is_scouting or "HLT_" in text


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "a.root", r"a.root: is empty \(0 bytes\): fetch or make it again"),
        (b"plain text \xc3\xa9\n", "a.txt", "is a text file, not a ROOT, HDF5 or ONNX file"),
        (b"x" * 255 + b"\xc3\xa9", "a", "is a text file"),
        (b"root file of mine", "a.root", "is a text file, .* Its name says a ROOT file: fetch or make it again"),
        (b"<html>Sign in</html>", "a.h5", "is an HTML or XML file.* Its name says an HDF5 file"),
        (b'{"schema": 1}', "model.json", "is a JSON file.* name the .onnx file beside it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a.root", "is a Git LFS pointer.*Run `git lfs pull`"),
        (bytes(range(100, 256)) * 20, "a.onnx", "is a binary file of another kind.* Its name says an ONNX file"),
        (b"root\x00\x00\xfa\x00", "a.dat", "cannot be read"),
        (b"\x89HDF\r\n\x1a\n", "a.dat", "cannot be read"),
        (b"\x08\x08\x12\x07py", "a.dat", "truncated or damaged ONNX file"),
    ],
)
def test_other_files_are_explained(tmp_path: Path, content: bytes, name: str, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(NanoMLError, match=message):
        inspect_file(path)


def test_what_is_no_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match="no such file"):
        inspect_file(tmp_path / "a.root")
    with pytest.raises(NanoMLError, match=r"is a directory\. Name a ROOT, HDF5 or ONNX file"):
        inspect_file(tmp_path)
    with pytest.raises(NanoMLError, match="is not a regular file"):
        inspect_file(os.devnull)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a.root").touch(mode=0)
    with pytest.raises(NanoMLError, match="cannot read: permission denied"):
        inspect_file(tmp_path / "a.root")


def test_the_content_decides_not_the_name(tmp_path: Path, sample: Path) -> None:
    os.symlink(next((sample / "WZTo3LNu").glob("*.root")), tmp_path / "a.h5")
    assert kind_of(tmp_path / "a.h5") == "root"
    for block in (0, 512, 2048):
        with h5py.File(tmp_path / "a.root", "w", userblock_size=block) as file:
            file["x"] = 1
        assert kind_of(tmp_path / "a.root") == "hdf5"


def test_a_url_is_a_root_file(sample: Path) -> None:
    assert kind_of("root://nowhere//store/a.h5") == "root"
    found = inspect_file(next((sample / "WZTo3LNu").glob("*.root")).as_uri())
    content = found.to_json()
    assert content["size"] is None
    assert content["events"] == 800
    assert "size" not in printed(found)


def test_only_root_files_have_branches(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ConfigError, match="it has no branches to be listed"):
        inspect_file(tmp_path / "a.h5").show("Muon_*")
