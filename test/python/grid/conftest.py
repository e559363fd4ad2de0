"""A certificate authority, and proxies of a user whom it knows, made by voms-proxy-fake."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

FQANS = ("/cms/Role=NULL/Capability=NULL", "/cms/dcms/Role=NULL/Capability=NULL")
EXTENSIONS = """basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature,keyEncipherment
subjectAltName=DNS:localhost,IP:127.0.0.1
extendedKeyUsage=serverAuth,clientAuth
"""


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem, user.pem, host.pem and voms.pem, their keys, and certificates/ and vomsdir/."""
    for program in ("openssl", "voms-proxy-fake"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    home = tmp_path_factory.mktemp("authority")

    def openssl(*words: str) -> str:
        done = subprocess.run(["openssl", *words], cwd=home, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    common = ("-newkey", "rsa:2048", "-nodes", "-subj")
    ca = "/DC=test/DC=lab/CN=Test CA"
    openssl("req", "-x509", *common, ca, "-days", "30", "-keyout", "ca.key", "-out", "ca.pem")
    (home / "extensions").write_text(EXTENSIONS)
    for name, person in (("user", "Jane Tester"), ("host", "localhost"), ("voms", "voms.localhost")):
        subject = f"/DC=test/DC=lab/CN={person}"
        openssl("req", *common, subject, "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = (
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "20",
            "-extfile",
            "extensions",
        )
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
        (home / f"{name}.key").chmod(0o600)
    (home / "certificates").mkdir()
    for kind in ("-hash", "-subject_hash_old"):
        name = openssl("x509", kind, "-noout", "-in", "ca.pem")
        shutil.copy(home / "ca.pem", home / "certificates" / f"{name}.0")
        (home / "certificates" / f"{name}.signing_policy").write_text(
            f'access_id_CA X509 "{ca}"\npos_rights globus CA:sign\ncond_subjects globus \'"/DC=test/DC=lab/*"\'\n'
        )
    for vo in ("cms", "atlas"):
        (home / "vomsdir" / vo).mkdir(parents=True)
        (home / "vomsdir" / vo / "voms.localhost.lsc").write_text(
            f"/DC=test/DC=lab/CN=voms.localhost\n{ca}\n"
        )
    return home


@pytest.fixture(scope="session")
def make_proxy(authority: Path) -> Callable[..., Path]:
    """Makes a proxy by voms-proxy-fake: make_proxy(path, "-hours", "5"); vo=None for one without VOMS."""

    def make(path: Path, *options: str, vo: str | None = "cms") -> Path:
        words = ["-cert", "user.pem", "-key", "user.key", "-certdir", "certificates", "-rfc", "-quiet"]
        if vo is not None:
            words += [
                "-hostcert",
                "voms.pem",
                "-hostkey",
                "voms.key",
                "-uri",
                "voms.localhost:15002",
                "-voms",
                vo,
            ]
            for fqan in FQANS:
                words += ["-fqan", fqan.replace("/cms", f"/{vo}", 1)]
        subprocess.run(
            ["voms-proxy-fake", *words, *options, "-out", str(path)],
            cwd=authority,
            check=True,
            capture_output=True,
        )
        return path

    return make
