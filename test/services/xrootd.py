"""XRootD: a redirector with data servers, a server that stands in for a site's storage, and those that demand a proxy or a token."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import pytest

from services.certificates import Certificates
from services.daemons import Daemons, alive, as_user, free_port, listens, needs, run, wait_for
from services.tokens import AUDIENCE, ISSUER, Tokens

# xrootd refuses to run as root
USER = "nobody"
# clients that meet a server which does not answer give up after seconds, not after many minutes
_LIMITS = "CONNECTIONWINDOW=3 CONNECTIONRETRY=1 REQUESTTIMEOUT=5 STREAMTIMEOUT=5 TIMEOUTRESOLUTION=1"
IMPATIENT = dict(f"XRD_{each}".split("=") for each in _LIMITS.split())
COMMON = """
all.adminpath {directory}/adm
all.pidpath {directory}/adm
xrd.network nodnr norpipa
xrd.allow host *
"""
REDIRECTOR = """
all.role manager
all.manager 127.0.0.1:{manager}
all.export /store
xrd.port {port}
if exec cmsd
xrd.port {manager}
fi
cms.allow host *
cms.delay startup 1 servers 1 lookup 1 full 1 drop 2
"""
DATA = """
all.role server
all.manager 127.0.0.1:{manager}
all.export /store
oss.localroot {root}
xrd.port {port}
cms.space min 1m 2m
xrootd.chksum max 2 adler32
"""
STORAGE = """
all.export /
oss.localroot {root}
xrd.port {port}
"""
CHECKSUMS = "xrootd.chksum max 2 adler32\n"
GUARDED = """
all.export /store
oss.localroot {root}
xrd.port {port}
xrootd.chksum max 2 adler32
xrootd.seclib libXrdSec.so
sec.protocol gsi -certdir:{certificates}/certificates -cert:{certificates}/host.pem -key:{certificates}/host.key \\
    -crl:1 -gridmap:/dev/null -gmapopt:10 -vomsat:2 -vomsfun:default -vomsfunparms:vos=cms
sec.protbind * only gsi
"""
TOKENS = """
all.export /store
oss.localroot {root}
xrd.port {port}
xrd.tls {certificates}/host.pem {certificates}/host.key
xrd.tlsca certdir {certificates}/certificates
xrootd.tls capable all
xrootd.seclib libXrdSec.so
sec.protocol ztn
sec.protbind * only ztn
ofs.authorize
ofs.authlib libXrdAccSciTokens.so config={root}/scitokens.cfg
"""
TRUSTED = """
[Global]
audience = {audience}
[Issuer tests]
issuer = {issuer}
base_path = /store
"""


def start_daemon(
    daemons: Daemons, program: str, name: str, configuration: str, environment: Optional[Mapping[str, str]] = None
) -> int:
    """Start xrootd or cmsd in the foreground, with its log in the directory NAME."""
    (daemons.directory / "adm").mkdir(exist_ok=True)
    config = daemons.directory / f"{name}.cfg"
    config.write_text(COMMON.format(directory=daemons.directory) + configuration)
    log = daemons.directory / f"{name}-{program}.log"
    return daemons.start(as_user(USER, [program, "-n", name, "-c", str(config)], all_files=True), log, environment)


def place(files: Mapping[str, Path], root: Path) -> None:
    """Put copies of local files, by their names "/store/...", into the directory that is /store."""
    for name, path in files.items():
        copy = root / name.removeprefix("/store/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        os.utime(copy, ns=(path.stat().st_mtime_ns,) * 2)  # copies on two servers are of one time


class DataServer:
    """A server of a cluster, of this `url`: xrootd, and the cmsd that tells the redirector of it. /store/a.root is root / "a.root"."""

    def __init__(self, daemons: Daemons, number: int, manager: int) -> None:
        self._daemons = daemons
        self._name = f"data{number}"
        self._port = free_port()
        self.url = f"root://127.0.0.1:{self._port}/"
        top = daemons.directory / self._name
        self.root = top / "store"
        self.root.mkdir(parents=True)
        self._configuration = DATA.format(manager=manager, root=top, port=self._port)
        self._pids: list[int] = []

    def start(self) -> None:
        """Start it, at first or after `kill`."""
        socket = self._daemons.directory / "adm" / self._name / ".olb" / "olbd.admin"
        socket.unlink(missing_ok=True)
        # in this order: an xrootd that finds no cmsd tries again after 10 s only
        cmsd = start_daemon(self._daemons, "cmsd", self._name, self._configuration)
        wait_for(socket.exists, f"cmsd of {self._name}", self._daemons.directory)
        xrootd = start_daemon(self._daemons, "xrootd", self._name, self._configuration)
        self._pids = [xrootd, cmsd]
        wait_for(lambda: listens(self._port), f"xrootd of {self._name}", self._daemons.directory)

    def kill(self) -> None:
        """Kill it, as if the machine were switched off."""
        self._signal(signal.SIGKILL)
        wait_for(lambda: not any(map(alive, self._pids)), f"end of {self._name}")
        self._pids = []  # the kernel gives them to others

    def revive(self) -> None:
        """Let it be at work again, whatever was done to it."""
        self.go_on()
        if not self._pids:
            self.start()

    def stop(self) -> None:
        """Make it hang: connections stay open, and nobody answers."""
        self._signal(signal.SIGSTOP)
        # on a busy machine a thread may go on answering until the signal is heard
        stopped = self._daemons.is_stopped
        wait_for(lambda: all(map(stopped, self._pids)), f"stop of {self._name}")

    def go_on(self) -> None:
        """End what `stop` did."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids:
            self._daemons.signal(pid, number)


class Cluster:
    """A redirector, of this `url`, and its data servers; with `environment`, read once for a process, clients give up after seconds."""

    environment: Mapping[str, str] = IMPATIENT

    def __init__(self, size: int = 2) -> None:
        needs("xrootd", "cmsd", package="xrootd-server")
        needs("xrdfs", package="xrootd-client")
        self._daemons = Daemons("xrootd")
        self.directory = self._daemons.directory
        self._port, self._manager = free_port(), free_port()
        self.url = f"root://127.0.0.1:{self._port}/"
        self.servers = [DataServer(self._daemons, number, self._manager) for number in range(size)]

    def seed(self, files: Mapping[str, Path], servers: tuple[int, ...] = (0, 1)) -> None:
        """Put copies of local files, by their names "/store/...", onto servers.

        Do it before `start`: for a minute, a redirector remembers that a file was nowhere.
        """
        for number in servers:
            place(files, self.servers[number].root)

    def start(self) -> None:
        """Start all; they are ready when it returns."""
        configuration = REDIRECTOR.format(port=self._port, manager=self._manager)
        start_daemon(self._daemons, "cmsd", "redirector", configuration)
        wait_for(lambda: listens(self._manager), "cmsd of the redirector", self.directory)
        start_daemon(self._daemons, "xrootd", "redirector", configuration)
        for server in self.servers:
            server.start()
        wait_for(lambda: self.known() == len(self.servers), "servers at the redirector", self.directory)

    def known(self) -> int:
        """How many data servers the redirector knows of now."""
        found = run(["xrdfs", self.url, "locate", "*"], self.environment, check=False)
        return len(found.stdout.split("\n")) - 1 if found.returncode == 0 else 0

    def close(self) -> None:
        self._daemons.stop()


class Storage:
    """A server that may be written to: the file url + "/a/b" is directory / "a/b", as a site's storage is mounted.

    With `environment`, which XRootD reads once for a process, clients give up after seconds. With `checksums` it tells those
    of its files.
    """

    environment: Mapping[str, str] = IMPATIENT

    def __init__(self, checksums: bool = True) -> None:
        needs("xrootd", package="xrootd-server")
        self._checksums = checksums
        self._daemons = Daemons("storage")
        self._port = free_port()
        self.url = f"root://127.0.0.1:{self._port}/"
        self.directory = self._daemons.directory / "files"
        self.directory.mkdir()
        self._pid = 0

    def start(self) -> None:
        """Start it, at first or after `kill`; it is ready when this returns."""
        configuration = STORAGE.format(root=self.directory, port=self._port)
        configuration += CHECKSUMS * self._checksums
        self._pid = start_daemon(self._daemons, "xrootd", "storage", configuration)
        wait_for(lambda: listens(self._port), "xrootd of the storage", self._daemons.directory)

    def kill(self) -> None:
        """Kill it, as if the machine were switched off."""
        self._daemons.signal(self._pid, signal.SIGKILL)
        wait_for(lambda: not alive(self._pid), "end of the storage")

    def close(self) -> None:
        self._daemons.stop()


class GuardedServer:
    """A server that asks who its clients are; its /store is `root`. They need `environment`, and X509_USER_PROXY or BEARER_TOKEN_FILE."""

    def __init__(self, name: str, configuration: str, plugin: str, package: str, certificates: Certificates) -> None:
        needs("xrootd", package="xrootd-server")
        if not any(found for where in ("lib64", "lib/*") for found in Path("/usr").glob(f"{where}/{plugin}*.so")):
            pytest.skip(f"{plugin} is not installed (Debian package {package})")
        self._name, self._configuration = name, configuration
        self._daemons = Daemons(name)
        self._port = free_port()
        self._certificates = certificates
        self._server: dict[str, str] = dict(certificates.environment)
        self.url = f"root://127.0.0.1:{self._port}/"
        self.root = self._daemons.directory / "files" / "store"
        self.root.mkdir(parents=True)
        self.environment: Mapping[str, str] = {**IMPATIENT, **certificates.environment}

    def seed(self, files: Mapping[str, Path]) -> None:
        place(files, self.root)

    def start(self) -> None:
        """Start it; it is ready when this returns."""
        certificates = self._certificates.directory
        configuration = self._configuration.format(root=self.root.parent, port=self._port, certificates=certificates)
        start_daemon(self._daemons, "xrootd", self._name, configuration, self._server)
        wait_for(lambda: listens(self._port), f"xrootd of {self._name}", self._daemons.directory)

    def close(self) -> None:
        self._daemons.stop()


class VomsServer(GuardedServer):
    """A server that serves whoever has a valid VOMS proxy of cms, and nobody else."""

    def __init__(self, certificates: Certificates) -> None:
        super().__init__("voms", GUARDED, "libXrdVoms", "xrootd-voms-plugins", certificates)


class TokenServer(GuardedServer):
    """A server that serves whoever has a token of the tests' issuer for what they ask for, over TLS, and nobody else."""

    def __init__(self, certificates: Certificates, tokens: Tokens) -> None:
        super().__init__("tokens", TOKENS, "libXrdAccSciTokens", "xrootd-scitokens-plugins", certificates)
        cache = self._daemons.directory / "keys"
        cache.mkdir()
        tokens.trusted(cache)
        self._server["XDG_CACHE_HOME"] = str(cache)
        (self.root.parent / "scitokens.cfg").write_text(TRUSTED.format(issuer=ISSUER, audience=AUDIENCE))
