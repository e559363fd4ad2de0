"""A certification authority of the tests, with certificates and proxies of a user and a server."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from services.daemons import needs, run

DOMAIN = "/DC=test/DC=nanoml"
CA = f"{DOMAIN}/CN=CA"
VOMS_HOST = "voms.localhost"
OWNERS = {"user": f"{DOMAIN}/CN=user", "host": f"{DOMAIN}/CN=localhost", "voms": f"{DOMAIN}/CN={VOMS_HOST}"}
# IGTF's profiles
CA_USE = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
OWNER_USE = """
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature,keyEncipherment
extendedKeyUsage=serverAuth,clientAuth
subjectAltName=DNS:localhost,DNS:{name},IP:127.0.0.1
"""
SIGNING_POLICY = f"""
access_id_CA  X509    '{CA}'
pos_rights    globus  CA:sign
cond_subjects globus  '"{DOMAIN}/*"'
"""
REVOCATION = """
[ca]
default_ca=tests
[tests]
database={directory}/revoked.txt
default_md=sha256
default_crl_days=300
"""
HOUR = 3600


class Certificates:
    """Certificates and keys in a directory, and proxies as voms-proxy-init would make them.

    In `directory` are user.pem, user.key, host.pem, host.key, certificates/ as in /etc/grid-security with a list of revoked
    ones, and vomsdir/, which trusts a VOMS server of cms. Clients need `environment`, and a proxy as X509_USER_PROXY.
    """

    def __init__(self, directory: Path) -> None:
        needs("openssl", package="openssl")
        needs("voms-proxy-fake", package="voms-clients")
        self.directory = directory
        self.subject = OWNERS["user"]
        self.environment = {
            "X509_CERT_DIR": str(directory / "certificates"),
            "X509_VOMS_DIR": str(directory / "vomsdir"),
            # glibc before 2.37 does not find it for ::ffff:127.0.0.1, which XRootD looks up
            "XrdSecGSISRVNAMES": "localhost",
        }
        self._count = itertools.count()
        for name in ("certificates", "vomsdir/cms", "proxies"):
            (directory / name).mkdir(parents=True)
        self._make_authority()
        for name, subject in OWNERS.items():
            self._make_owner(name, subject)
        (directory / "vomsdir" / "cms" / f"{VOMS_HOST}.lsc").write_text(f"{OWNERS['voms']}\n{CA}\n")

    def _openssl(self, *arguments: object) -> str:
        return run(["openssl", *arguments], {}, cwd=self.directory).stdout.strip()

    def _make_authority(self) -> None:
        uses = [word for use in CA_USE for word in ("-addext", use)]
        new = ["-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key"]
        self._openssl("req", "-x509", *new, "-days", 365, "-out", "ca.pem", "-subj", CA, *uses)
        (self.directory / "revoked.txt").touch()
        (self.directory / "ca.cnf").write_text(REVOCATION.format(directory=self.directory))
        own = ["-config", "ca.cnf", "-keyfile", "ca.key", "-cert", "ca.pem"]
        self._openssl("ca", *own, "-gencrl", "-out", "ca.crl")
        for digest in ("-subject_hash", "-subject_hash_old"):
            name = self._openssl("x509", digest, "-noout", "-in", "ca.pem")
            for source, suffix in (("ca.pem", "0"), ("ca.crl", "r0")):
                trusted = self.directory / "certificates" / f"{name}.{suffix}"
                trusted.write_bytes((self.directory / source).read_bytes())
            (self.directory / "certificates" / f"{name}.signing_policy").write_text(SIGNING_POLICY)

    def _make_owner(self, name: str, subject: str) -> None:
        key, request, extensions = f"{name}.key", f"{name}.csr", self.directory / f"{name}.ext"
        extensions.write_text(OWNER_USE.format(name=subject.rpartition("=")[2]))
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", subject)
        signer = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", extensions]
        self._openssl("x509", "-req", "-in", request, *signer, "-days", 300, "-out", f"{name}.pem")
        (self.directory / key).chmod(0o600)

    def proxy(self, hours: float = 12, vo: Optional[str] = "cms", vo_hours: Optional[float] = None) -> Path:
        """Make a proxy of the user, in a new file that only its owner may read.

        It is valid for `hours`, or expired so long ago if they are negative. Servers know the `vo` cms alone; None makes a proxy
        without any. What it says of it is valid for `vo_hours`, by default as long as the proxy.
        """
        path = self.directory / "proxies" / f"{next(self._count)}.pem"
        user = ["-cert", "user.pem", "-key", "user.key", "-certdir", "certificates"]
        options: list[object] = ["-rfc", *user, "-out", path, *_valid(hours, "-hours", "-pastproxy")]
        if vo is not None:
            server = ["-hostcert", "voms.pem", "-hostkey", "voms.key", "-uri", f"{VOMS_HOST}:15000"]
            granted = ["-voms", vo, "-fqan", f"/{vo}/Role=NULL/Capability=NULL"]
            valid = _valid(hours if vo_hours is None else vo_hours, "-vomslife", "-pastac")
            options += [*server, *granted, *valid]
        run(["voms-proxy-fake", "-quiet", *options], {}, cwd=self.directory)
        return path


def _valid(hours: float, duration: str, past: str) -> Sequence[str]:
    """Options for a time of whole hours that ends in `hours`."""
    whole = max(math.ceil(hours), 1)
    begun = round((whole - hours) * HOUR)
    return [duration, str(whole), *([past, str(begun)] if begun else [])]
