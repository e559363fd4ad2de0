"""A catalogue to ask: CMS's own can be asked by its members only, so a server of the tests stands in for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_processing.datasets import catalogue
from services.catalogue import CatalogueServer, contents, install_dasgoclient


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CatalogueServer]:
    """The server, which nobody asks yet; an empty cache, no proxy, and no waiting between tries."""
    made = CatalogueServer()
    made.datasets = contents()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("X509_USER_PROXY", "NANOML_DBS", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(catalogue, "WAITS", (0.0, 0.0))
    yield made
    made.stop()


def ask_by(kind: str, server: CatalogueServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be asked directly, by what stands in for dasgoclient, or by that itself."""
    if kind == "dbs":
        monkeypatch.setenv("NANOML_DBS", server.url)
        return
    real = shutil.which("dasgoclient")
    if kind == "dasgoclient" and real is None:
        pytest.skip("dasgoclient is not installed")
    install_dasgoclient(tmp_path / "bin", server.url, real if kind == "dasgoclient" else None)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("X509_USER_PROXY", str(tmp_path / "whatever"))


@pytest.fixture
def dbs(server: CatalogueServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CatalogueServer:
    """The server, asked directly."""
    ask_by("dbs", server, tmp_path, monkeypatch)
    return server


@pytest.fixture
def das(server: CatalogueServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CatalogueServer:
    """The server, asked by what stands in for dasgoclient."""
    ask_by("stand-in", server, tmp_path, monkeypatch)
    return server


@pytest.fixture(params=["dbs", "stand-in", "dasgoclient"])
def asked(
    request: pytest.FixtureRequest, server: CatalogueServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> CatalogueServer:
    """The server, asked in each way."""
    ask_by(request.param, server, tmp_path, monkeypatch)
    return server
