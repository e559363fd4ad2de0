"""DBS over https, which asks for a proxy: a real one, of a certification authority of the tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_processing.datasets import catalogue
from data_processing.datasets.catalogue import Catalogue, UnavailableError
from data_processing.datasets.files import GLOBAL
from services.catalogue import WZ, CatalogueServer, contents
from services.certificates import Certificates

pytestmark = pytest.mark.service


@pytest.fixture
def secure(certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CatalogueServer]:
    """A server that wants to know who asks, and a valid proxy."""
    made = CatalogueServer(certificates.directory)
    made.datasets = contents()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NANOML_DBS", made.url)
    for name, value in certificates.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("X509_USER_PROXY", str(certificates.proxy()))
    monkeypatch.setattr(catalogue, "WAITS", ())
    yield made
    made.stop()


def refused(message: str) -> None:
    with pytest.raises(UnavailableError, match=message):
        Catalogue(refresh=True).files(WZ, GLOBAL)


def test_the_proxy_tells_who_asks(secure: CatalogueServer, certificates: Certificates) -> None:
    assert len(Catalogue().files(WZ, GLOBAL).files) == 11
    said = {each[0][1] for person in secure.people for each in person["subject"] if each[0][0] == "commonName"}
    assert "user" in said


def test_proxies_that_cannot_be_used(
    secure: CatalogueServer, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for proxy, message in (
        (certificates.proxy(hours=-1), "the proxy expired 1 h ago. Fix it: nanoml proxy init"),
        (certificates.proxy(vo=None), "the proxy is for no VO, but cms is needed"),
        (tmp_path / "nowhere", "the proxy cannot be read: no such file or directory"),
    ):
        monkeypatch.setenv("X509_USER_PROXY", str(proxy))
        refused(message)
    broken = tmp_path / "broken"
    good = certificates.proxy().read_text()
    broken.write_text(good.replace("-----BEGIN RSA PRIVATE KEY-----\n", "-----BEGIN RSA PRIVATE KEY-----\nAAAA"))
    broken.chmod(0o600)
    monkeypatch.setenv("X509_USER_PROXY", str(broken))
    refused("broken: the proxy cannot be used")
    assert secure.asked == []


def test_a_server_that_nobody_vouches_for(
    secure: CatalogueServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X509_CERT_DIR", str(tmp_path))
    refused(rf"localhost:\d+: cannot be trusted .*X509_CERT_DIR must name .*; now it is {tmp_path}")
    assert secure.asked == []


def test_without_a_network_what_is_known_is_taken(
    secure: CatalogueServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Catalogue().files(WZ, GLOBAL)
    for path in (tmp_path / "cache" / "nanoml" / "das").iterdir():
        path.write_text(path.read_text().replace(f'"date": "{found.date:%Y}', '"date": "2020'))
    monkeypatch.setenv("X509_USER_PROXY", str(tmp_path / "nowhere"))
    assert Catalogue().files(WZ, GLOBAL).files == found.files
    assert "taking what the catalogue said on 2020-" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "cache")
    refused("the proxy cannot be read")
