"""A Dask cluster by its address, with certificates, as facilities have it: a scheduler and workers of one thread."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from pathlib import Path

from services.daemons import Daemons, descendants, wait_for

OPENSSL = """\
openssl_conf = all
[all]
ssl_conf = tls
[tls]
system_default = every
[every]
Options = IgnoreUnexpectedEOF
"""


class DaskCluster:
    """A cluster on this machine. Its workers see nothing of the environment of the tests, and have a Python of their own."""

    def __init__(self) -> None:
        from distributed.security import Security

        self._daemons = Daemons("dask")
        self.directory = self._daemons.directory
        temporary = Security.temporary()
        names = {"ca": "ca", "cert": "client-cert", "key": "client-key"}
        self._paths = {name: self.directory / f"{name}.pem" for name in names}
        self._paths["ca"].write_text(str(temporary.tls_ca_file))
        self._paths["cert"].write_text(str(temporary.tls_client_cert))
        self._paths["key"].write_text(str(temporary.tls_client_key))
        # Python from 3.13 takes that a connection has ended for an error of another one (python/cpython#148594)
        self._openssl = self.directory / "openssl.cnf"
        self._openssl.write_text(OPENSSL)
        self._number = 0
        self.address = ""
        self._scheduler = 0
        self._workers: list[int] = []

    @property
    def environment(self) -> dict[str, str]:
        begin = "DASK_DISTRIBUTED__COMM__TLS"
        return {
            "DASK_SCHEDULER_ADDRESS": self.address,
            f"{begin}__CA_FILE": str(self._paths["ca"]),
            f"{begin}__CLIENT__CERT": str(self._paths["cert"]),
            f"{begin}__CLIENT__KEY": str(self._paths["key"]),
        }

    def start(self, workers: int = 2) -> None:
        keys = {"ca-file": "ca", "cert": "cert", "key": "key"}
        paths = (word for name, key in keys.items() for word in (f"--tls-{name}", self._paths[key]))
        tls = ["--protocol", "tls", *paths]
        self._number += 1
        log = self.directory / f"scheduler-{self._number}.log"
        local = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self._scheduler = self._start("scheduler", *local, *tls, log=log)
        found: list[str] = []
        told = re.compile(r"tls://127.0.0.1:\d+")
        wait_for(lambda: bool(found.extend(told.findall(log.read_text())) or found), "the scheduler", self.directory)
        self.address = found[0]
        for number in range(workers):
            name = f"{self._number}-{number}"
            place = self.directory / f"work-{name}"
            options = ("--nthreads", "1", "--no-dashboard", "--local-directory", place, *tls)
            log = self.directory / f"worker-{name}.log"
            self._workers.append(self._start("worker", self.address, *options, log=log))

    def _start(self, what: str, *words: object, log: Path) -> int:
        # without "-I", a directory named as a package in that of the tests would come first
        argv = [sys.executable, "-I", "-m", f"distributed.cli.dask_{what}", *map(str, words)]
        return self._daemons.start(argv, log, {"OPENSSL_CONF": str(self._openssl)})

    def kill_worker(self, number: int) -> None:
        """Kill a worker; its nanny, as Dask calls it, starts another."""
        for process in descendants(self._workers[number]):
            with contextlib.suppress(OSError):  # what jobs start may have ended
                if b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes():
                    self._daemons.signal(process, signal.SIGKILL)

    def kill_scheduler(self) -> None:
        """Kill the scheduler, and end its workers, which would wait for it."""
        self._daemons.signal(self._scheduler, signal.SIGKILL)
        for worker in self._workers:
            self._daemons.signal(worker, signal.SIGTERM)
        self._workers.clear()

    def stop(self) -> None:
        self._daemons.stop()
