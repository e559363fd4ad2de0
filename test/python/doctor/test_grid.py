from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from MLTools.NanoML.doctor import grid
from services.xrootd import Cluster


def make_certificate(directory: Path, days: float) -> None:
    """usercert.pem and userkey.pem of a user, which are valid for some days more."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Jane Tester")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=days, minutes=5))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(exist_ok=True)
    (directory / "usercert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = directory / "userkey.pem"
    path.unlink(missing_ok=True)
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    path.chmod(0o400)


def test_the_certificate(nothing: Path) -> None:
    assert "usercert.pem and no" in grid.certificate().found
    directory = nothing / ".globus"
    make_certificate(directory, 300)
    assert grid.certificate().found == "/CN=Jane Tester: valid for 300 d"
    (directory / "userkey.pem").chmod(0o644)
    assert grid.certificate().mend == "chmod 400 ~/.globus/userkey.pem"
    make_certificate(directory, 3)
    assert grid.certificate().fine
    assert "expires in 3 d" in grid.certificate().found
    make_certificate(directory, -3)
    assert not grid.certificate().fine
    assert "expired 2 d 23 h ago" in grid.certificate().found
    (directory / "usercert.pem").write_text("nothing")
    assert not grid.certificate().fine


def test_no_proxy(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.path.exists(f"/tmp/x509up_u{os.getuid()}"):
        pytest.skip("there is a proxy of this user in /tmp")
    assert grid.proxy().mend == "nanoml proxy init"
    (nothing / "proxy").write_text("nothing")
    monkeypatch.setenv("X509_USER_PROXY", str(nothing / "proxy"))
    finding = grid.proxy()
    assert not finding.fine
    assert finding.mend == "nanoml proxy init"
    assert "no certificate in it" in finding.found


def make_proxy(path: Path, *options: str) -> Path:
    """A proxy of the certificate beside it."""
    if shutil.which("voms-proxy-fake") is None:
        pytest.skip("needs voms-proxy-fake")
    (path.parent / "certificates").mkdir(exist_ok=True)  # of authorities; there must be the directory
    pair = ("-cert", "usercert.pem", "-key", "userkey.pem", "-certdir", "certificates")
    line = ["voms-proxy-fake", *pair, "-rfc", "-quiet", "-hours", "5", *options, "-out", str(path)]
    subprocess.run(line, cwd=path.parent, check=True, capture_output=True)
    path.chmod(0o600)
    return path


def test_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_certificate(tmp_path, 300)
    voms = ("-hostcert", "usercert.pem", "-hostkey", "userkey.pem", "-voms", "cms", "-fqan", "/cms")
    path = make_proxy(tmp_path / "proxy", *voms, "-uri", "localhost:15002")
    monkeypatch.setenv("X509_USER_PROXY", str(path))
    finding = grid.proxy()
    assert finding.fine, finding
    assert finding.found.startswith(f"{path}: cms, valid for 4 h 5")
    assert finding.found.endswith("permissions 0600")
    path.chmod(0o644)
    assert grid.proxy().mend == f"chmod 600 {path}"
    monkeypatch.setenv("X509_USER_PROXY", str(make_proxy(tmp_path / "plain")))
    assert not grid.proxy().fine
    assert "of no VO" in grid.proxy().found


def test_programs_and_packages(nothing: Path) -> None:
    assert not grid.catalogue().fine
    assert "root:// files cannot be read" in grid.xrootd_client().found or grid.xrootd_client().fine


@pytest.mark.service
def test_a_redirector_that_answers(xrootd: Cluster) -> None:
    server = xrootd.url.removeprefix("root://").rstrip("/")
    assert grid.redirector(server).found == f"{server} answers"
    assert grid.redirector(xrootd.url).fine


@pytest.fixture
def other_server() -> Iterator[str]:
    """A server that speaks another protocol."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(20)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_a_server_of_another_kind(other_server: str) -> None:
    assert "not as XRootD does" in grid.redirector(other_server).found


def test_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "refused" in grid.redirector(f"127.0.0.1:{port}").found
    assert not grid.redirector("localhost:port").fine


def test_dasgoclient_is_found(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy("/bin/ls", nothing / "dasgoclient")
    monkeypatch.setenv("PATH", str(nothing))
    assert grid.catalogue().fine
