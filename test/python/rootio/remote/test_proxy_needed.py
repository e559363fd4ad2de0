"""A server that demands a proxy: what is said without one, and that one is found where `nanoml proxy init` writes it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from MLTools.NanoML.grid.proxy import usual_place
from services.certificates import Certificates
from services.daemons import run
from services.xrootd_voms import VomsServer

pytestmark = pytest.mark.service

CODE = """
import sys
from MLTools.NanoML.config.datasets import Read
from MLTools.NanoML.errors import UnreadableError
from MLTools.NanoML.rootio.remote import reading
from MLTools.NanoML.rootio.rootfile import RootFile
reading.use(Read(redirectors=[], timeout=3))
try:
    with RootFile(sys.argv[1] + "/store/WZTo3LNu/WZTo3LNu_0.root") as file:
        print(file.entries)
except UnreadableError as problem:
    print(problem)
"""


def told(server: VomsServer, **environment: str) -> str:
    pytest.importorskip("XRootD")
    argv = [sys.executable, "-c", CODE, server.url]
    return run(argv, {**server.environment, "X509_USER_PROXY": "", **environment}).stdout.strip()


def test_a_valid_proxy(xrootd_voms: VomsServer, certificates: Certificates) -> None:
    assert told(xrootd_voms, X509_USER_PROXY=str(certificates.proxy())) == "800"


def test_a_proxy_in_the_home_directory(
    xrootd_voms: VomsServer, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("X509_USER_PROXY", raising=False)
    usual_place().parent.mkdir()
    shutil.copy(certificates.proxy(), usual_place())
    usual_place().chmod(0o600)
    assert told(xrootd_voms) == "800"


@pytest.mark.parametrize(
    ("hours", "vo", "said"),
    [(-1, "cms", "expired"), (12, None, "is of no VO, and cms is needed"), (12, "atlas", "cms")],
)
def test_a_proxy_that_is_refused_is_named(
    xrootd_voms: VomsServer, certificates: Certificates, hours: float, vo: str | None, said: str
) -> None:
    proxy = certificates.proxy(hours, vo)
    message = told(xrootd_voms, X509_USER_PROXY=str(proxy))
    assert "read error after 1 try at 1 source (127.0.0.1:" in message
    assert "Auth failed" in message
    assert f"{proxy}: " in message
    assert said in message.partition(str(proxy))[2]
    assert "nanoml proxy init" in message


def test_no_proxy(xrootd_voms: VomsServer, tmp_path: Path) -> None:
    message = told(xrootd_voms, X509_USER_PROXY=str(tmp_path / "none"), HOME=str(tmp_path))
    assert "Auth failed" in message
    assert str(tmp_path / "none") in message
    assert "nanoml proxy init" in message
