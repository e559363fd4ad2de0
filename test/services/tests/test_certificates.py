"""Proxies of the tests' own authority, and a server that looks at them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.certificates import Certificates
from services.daemons import PATIENCE, run, wait_for
from services.xrootd import VomsServer

pytestmark = [pytest.mark.exhaustive("the services that tests start"), pytest.mark.service]

NAME = "/store/WZTo3LNu/WZTo3LNu_0.root"
FILE = Path(__file__).resolve().parents[3] / "examples" / "nano" / "WZTo3LNu" / "WZTo3LNu_0.root"


def left(certificates: Certificates, proxy: Path, what: str) -> int:
    """Seconds that a proxy or, by "-actimeleft", its VOMS part is valid."""
    command = ["voms-proxy-info", "-file", proxy, what]
    return int(run(command, certificates.environment, check=False).stdout)


def test_proxies_are_valid_for_as_long_as_asked(certificates: Certificates) -> None:
    proxy = certificates.proxy()
    assert proxy.stat().st_mode & 0o777 == 0o600
    assert proxy.stat().st_uid == os.geteuid()
    assert 12 * 3600 - 30 < left(certificates, proxy, "-timeleft") <= 12 * 3600
    short = certificates.proxy(hours=30 / 3600)
    assert 0 < left(certificates, short, "-timeleft") <= 30
    assert 0 < left(certificates, short, "-actimeleft") <= 30
    other = certificates.proxy(hours=2, vo_hours=1.5)
    assert 5000 < left(certificates, other, "-actimeleft") <= 5400 < left(certificates, other, "-timeleft")
    assert left(certificates, certificates.proxy(hours=-1), "-timeleft") == 0


def test_proxies_tell_their_organisation_and_user(certificates: Certificates) -> None:
    def is_of(proxy: Path) -> bool:
        command = ["voms-proxy-info", "-file", proxy, "-acexists", "cms"]
        return run(command, certificates.environment, check=False).returncode == 0

    assert is_of(certificates.proxy())
    assert not is_of(certificates.proxy(vo=None))
    assert not is_of(certificates.proxy(vo="atlas"))
    identity = ["voms-proxy-info", "-file", certificates.proxy(), "-identity"]
    assert run(identity, certificates.environment).stdout.strip() == certificates.subject


def fetch(server: VomsServer, proxy: Path, target: Path) -> subprocess.CompletedProcess[str]:
    environment = {**server.environment, "X509_USER_PROXY": str(proxy)}
    return run(["xrdcp", "-f", server.url + NAME, target], environment, check=False)


@pytest.mark.parametrize(
    "proxy", [{"hours": -1}, {"vo": None}, {"vo": "atlas"}, {"vo_hours": -1}], ids=lambda proxy: str(proxy)
)
def test_a_proxy_that_is_not_valid_is_rejected(
    xrootd_voms: VomsServer, certificates: Certificates, tmp_path: Path, proxy: dict[str, Any]
) -> None:
    done = fetch(xrootd_voms, certificates.proxy(**proxy), tmp_path / "a.root")
    assert done.returncode != 0
    assert "Auth failed" in done.stderr


def test_nobody_gets_in_without_a_proxy(xrootd_voms: VomsServer, tmp_path: Path) -> None:
    assert "Auth failed" in fetch(xrootd_voms, tmp_path / "nowhere", tmp_path / "a.root").stderr


def test_a_valid_proxy_is_accepted(xrootd_voms: VomsServer, certificates: Certificates, tmp_path: Path) -> None:
    done = fetch(xrootd_voms, certificates.proxy(), tmp_path / "a.root")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.root").read_bytes() == FILE.read_bytes()


def test_uproot_shows_its_proxy(xrootd_voms: VomsServer, certificates: Certificates) -> None:
    pytest.importorskip("fsspec_xrootd")
    code = f"import uproot; print(uproot.open({xrootd_voms.url + NAME!r})['Events'].num_entries)"
    environment = {**xrootd_voms.environment, "X509_USER_PROXY": str(certificates.proxy())}
    assert int(run([sys.executable, "-c", code], environment).stdout) == 800


def test_a_proxy_expires_between_two_reads(xrootd_voms: VomsServer, certificates: Certificates, tmp_path: Path) -> None:
    seconds = 3
    while fetch(xrootd_voms, proxy := certificates.proxy(seconds / 3600), tmp_path / "a.root").returncode != 0:
        seconds *= 4  # a busy machine takes longer
    assert seconds < PATIENCE
    wait_for(lambda: left(certificates, proxy, "-timeleft") == 0, "end of the proxy")
    wait_for(lambda: "Auth failed" in fetch(xrootd_voms, proxy, tmp_path / "a.root").stderr, "rejected")
