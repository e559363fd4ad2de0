"""XRootD with a guard: a server that demands a VOMS proxy of cms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from services.certificates import Certificates
from services.daemons import Daemons, free_port, listens, needs, wait_for
from services.xrootd import IMPATIENT, place, start_daemon

__all__ = ["VomsServer"]

CONFIGURATION = """
all.export /store
oss.localroot {root}
xrd.port {port}
xrootd.chksum max 2 adler32
xrootd.seclib libXrdSec.so
sec.protocol gsi -certdir:{certificates}/certificates -cert:{certificates}/host.pem -key:{certificates}/host.key \\
    -crl:1 -gridmap:/dev/null -gmapopt:10 -vomsat:2 -vomsfun:default -vomsfunparms:vos=cms
sec.protbind * only gsi
"""


class VomsServer:
    """A server that serves whoever has a valid VOMS proxy of cms, and nobody else.

    Attributes
    ----------
    url
        "root://127.0.0.1:PORT/".
    root
        The local directory of its /store.
    environment
        What a client needs but for its proxy, which X509_USER_PROXY names.
    """

    def __init__(self, certificates: Certificates) -> None:
        needs("xrootd", package="xrootd-server")
        if not any(found for where in ("lib64", "lib/*") for found in Path("/usr").glob(f"{where}/libXrdVoms*.so")):
            pytest.skip("libXrdVoms is not installed (Debian package xrootd-voms-plugins)")
        self._daemons = Daemons("voms")
        self._port = free_port()
        self._certificates = certificates
        self.url = f"root://127.0.0.1:{self._port}/"
        self.root = self._daemons.directory / "files" / "store"
        self.root.mkdir(parents=True)
        self.environment: Mapping[str, str] = {**IMPATIENT, **certificates.environment}

    def seed(self, files: Mapping[str, Path]) -> None:
        """Put copies of local files, by their names "/store/...", onto the server."""
        place(files, self.root)

    def start(self) -> None:
        """Start it; it is ready when this returns."""
        configuration = CONFIGURATION.format(
            root=self.root.parent, port=self._port, certificates=self._certificates.directory
        )
        start_daemon(self._daemons, "xrootd", "voms", configuration, self._certificates.environment)
        wait_for(lambda: listens(self._port), "xrootd that demands a proxy", 10, self._daemons.directory)

    def close(self) -> None:
        """End it, and remove the files."""
        self._daemons.stop()
