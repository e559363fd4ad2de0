"""Programs of others that are not installed here, which answer as theirs do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a shell script of this name and content into the PATH."""
    directory = tmp_path / "programs"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")

    def make(name: str, content: str) -> Path:
        (directory / name).write_text(f"#!/bin/sh\n{content}\n")
        (directory / name).chmod(0o755)
        return directory / name

    return make


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory, and a PATH with `ls` alone."""
    home, path = tmp_path / "home", tmp_path / "path"
    home.mkdir()
    path.mkdir()
    (path / "ls").symlink_to("/bin/ls")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", str(path))
    for name in ("CMSSW_BASE", "CMSSW_VERSION", "SCRAM_ARCH", "X509_USER_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return home
