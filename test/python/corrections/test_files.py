from __future__ import annotations

import os
from pathlib import Path

import pytest

from MLTools.NanoML.corrections.era import find_file, local_files
from MLTools.NanoML.errors import ConfigError


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that the environment names, by a path relative to the current directory."""
    (tmp_path / "own" / "POG").mkdir(parents=True)
    (tmp_path / "own" / "POG" / "b.json").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NANOML_CORRECTIONS", "own")
    return tmp_path / "own"


def test_files_that_are_only_here(tmp_path: Path, own: Path) -> None:
    (tmp_path / "era").mkdir()
    (tmp_path / "era" / "a.json").touch()
    names = ("a.json", "a.json", "POG/b.json", "https://cern.ch/c.json", "none.json", "/cvmfs/d.json")
    text = "\n".join(f"n{number}: {{file: {name}}}" for number, name in enumerate(names))
    (tmp_path / "era" / "era.yaml").write_text(f"{text}\nodd: 1\n")
    assert local_files(tmp_path / "era" / "era.yaml") == [tmp_path / "era" / "a.json", own / "POG" / "b.json"]


def test_the_environment_is_asked_after_the_directory(tmp_path: Path, own: Path) -> None:
    assert find_file("POG/b.json", tmp_path, "here") == own / "POG" / "b.json"
    (tmp_path / "POG").mkdir()
    (tmp_path / "POG" / "b.json").touch()
    assert find_file("POG/b.json", tmp_path, "here") == tmp_path / "POG" / "b.json"


@pytest.mark.skipif(os.path.exists("/cvmfs"), reason="is for machines without CVMFS")
def test_a_path_on_cvmfs_where_it_is_not_mounted(tmp_path: Path) -> None:
    name = "/cvmfs/cms-griddata.cern.ch/cat/metadata/JME/a.json"
    with pytest.raises(ConfigError, match=r"a.yaml:3: there is no file /cvmfs/.* write JME/a.json, and copy it"):
        find_file(name, tmp_path, "a.yaml:3")
