"""Reports of files that are read. CMS's own server is not asked: a small one stands in for it."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.rootio import access
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.terminal import progress
from services.xrootd import Storage

Told = tuple[str, list[Any]]
ReadWith = Callable[..., None]


@pytest.fixture
def traces() -> Iterator[Told]:
    """The address of a server, and what it was told."""
    told: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    access._report.cache_clear()
    progress._notes.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/traces/", told
        server.shutdown()


@pytest.fixture
def central(tmp_path: Path, sample: Path) -> Path:
    """A file with a logical name of CMS, as on a site's disk."""
    path = tmp_path / "store" / "mc" / "WZ" / "NANOAODSIM" / "a.root"
    path.parent.mkdir(parents=True)
    shutil.copy(next(sample.glob("*/*.root")), path)
    return path


def entries(path: object) -> int:
    with RootFile(str(path)) as file:
        return file.entries


def test_nothing_is_sent_unasked(central: Path, traces: Told, read_with: ReadWith) -> None:
    server, told = traces
    for settings in ({}, {"report_to": server}, {"report_sites": {str(central.parents[4]): "T2_DE_DESY"}}):
        read_with(**settings)
        access._report.cache_clear()
        assert entries(central)
    own = shutil.copy(central, central.parents[4] / "own.root")
    read_with(report_to=server, report_sites={str(central.parents[4]): "T2_DE_DESY"})
    assert entries(own)
    assert told == []


@pytest.mark.service
def test_each_file_is_reported_once(
    central: Path, traces: Told, storage: Storage, read_with: ReadWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("XRootD")
    server, told = traces
    monkeypatch.setenv("RUCIO_ACCOUNT", "jane")
    read_with(report_to=server, report_sites={storage.url: "T2_CH_CERN", str(central.parents[4]): "T2_DE_DESY"})
    shutil.copytree(central.parents[3], storage.directory / "reported" / "store")
    url = f"{storage.url}/reported/store/mc/WZ/NANOAODSIM/a.root"
    assert entries(url) == entries(url) == entries(central) == entries(central)
    common = {"eventType": "touch", "clientState": "DONE", "account": "jane", "scope": "cms"}
    assert told == [
        {**common, "filename": "/store/mc/WZ/NANOAODSIM/a.root", "localSite": site, "remoteSite": site}
        for site in ("T2_CH_CERN", "T2_DE_DESY")
    ]


def test_a_failure_is_told_and_the_server_is_not_asked_again(
    central: Path, traces: Told, read_with: ReadWith, capsys: pytest.CaptureFixture[str]
) -> None:
    server, told = traces
    sites = {str(central.parents[4]): "T2_DE_DESY"}
    for address in ("http://127.0.0.1:1/traces/", "http://[::/"):
        progress._notes.clear()
        access._report.cache_clear()
        read_with(report_to=address, report_sites=sites)
        assert entries(central)
        assert "read.report_to: files that are read could not be reported" in capsys.readouterr().err
    read_with(report_to=server, report_sites=sites)
    assert entries(shutil.copy(central, central.with_name("b.root")))
    assert told == []
    progress._notes.clear()


@pytest.mark.parametrize(
    ("text", "said"),
    [("report_to: rucio", "an address such as http"), ("report_sites: {/eos/: CERN}", "a site such as T2_CH_CERN")],
)
def test_mistakes_are_told(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"read: {{{text}}}\n")
    with pytest.raises(ConfigError, match=said):
        load(tmp_path / "a.yaml")
