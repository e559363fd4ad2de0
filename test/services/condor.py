"""HTCondor: a pool of its own on this machine."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import sys
from pathlib import Path

from services.daemons import BatchSystem, as_user, descendants, needs, wait_for

# whose jobs they are when root runs the tests, since root can own none
USER = "nobody"
CONFIGURATION = """
LOCAL_DIR = {directory}
RELEASE_DIR = /usr
LIBEXEC = /usr/libexec/condor
LIB = /usr/lib/condor

NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
ENABLE_IPV6 = False
NO_DNS = True
DEFAULT_DOMAIN_NAME = local
UID_DOMAIN = local
FILESYSTEM_DOMAIN = local
TRUST_UID_DOMAIN = True
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:0
SHARED_PORT_PORT = 0
DAEMON_LIST = MASTER SHARED_PORT COLLECTOR NEGOTIATOR SCHEDD STARTD

use SECURITY : HOST_BASED
# root's tools are to look into root's directories
CONDOR_IDS = 0.0
SEC_DEFAULT_AUTHENTICATION = OPTIONAL
SEC_DEFAULT_AUTHENTICATION_METHODS = CLAIMTOBE
SEC_CLAIMTOBE_USER = {user}
ALLOW_WRITE = *
ALLOW_ADMINISTRATOR = *
ALLOW_NEGOTIATOR = *
ALLOW_DAEMON = *
ALLOW_OWNER = *

NUM_CPUS = 8
MEMORY = 16000
use FEATURE : PartitionableSlot
RunBenchmarks = False
MachineMaxVacateTime = 2

NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
SCHEDD_INTERVAL = 2
SCHEDD_MIN_INTERVAL = 1
UPDATE_INTERVAL = 5
JOB_START_COUNT = 10
JOB_STOP_COUNT = 10
PERIODIC_EXPR_INTERVAL = 2
DAGMAN_USE_STRICT = 0
DAGMAN_USER_LOG_SCAN_INTERVAL = 1

FILETRANSFER_PLUGINS = {plugin}
# without a directory of credentials, a job that wants them begins again for ever
JOB_TRANSFORM_NAMES = NoCredentials
JOB_TRANSFORM_NoCredentials @=end
  DELETE SendCredential
@end
"""


class CondorPool(BatchSystem):
    """A pool with one machine of 8 CPUs."""

    def __init__(self) -> None:
        needs("condor_master", "condor_submit", package="condor")
        super().__init__("condor")
        self._config = self.directory / "condor_config"
        self.environment = {"CONDOR_CONFIG": str(self._config)}

    def start(self) -> None:
        """Start it; jobs may be submitted when this returns."""
        for name in ("log", "spool", "execute"):
            (self.directory / name).mkdir()
            if os.geteuid() == 0:
                os.chown(self.directory / name, pwd.getpwnam(USER).pw_uid, -1)
        plugin = self.directory / "xrdcp_plugin"
        script = Path(__file__).with_name("programs") / "xrdcp_plugin.py"
        plugin.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{script}" "$@"\n')
        plugin.chmod(0o755)
        user = USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self._config.write_text(CONFIGURATION.format(directory=self.directory, user=user, plugin=plugin))
        log = self.directory / "log" / "master.log"
        self._daemons.start(as_user(USER, ["condor_master", "-f"], all_files=True), log, self.environment)
        wait_for(self._has_a_machine, "machine of the HTCondor pool", self.directory / "log")

    def _has_a_machine(self) -> bool:
        address = self.directory / "log" / ".collector_address"
        if not address.exists():
            return False
        slots = self.run(["condor_status", "-af", "Name"], check=False)
        queue = self.run(["condor_q", "-totals"], check=False)
        return bool(slots.stdout.strip()) and slots.returncode == queue.returncode == 0

    def processes(self, job: str) -> list[int]:
        """The processes of a running job "CLUSTER.PROC"; none if it does not run."""
        cluster, proc = job.split(".")
        found = []
        for ad in (self.directory / "execute").glob("dir_*/.job.ad"):
            with contextlib.suppress(FileNotFoundError):
                ids = dict(re.findall(r"^(ClusterId|ProcId) = (\d+)$", ad.read_text(), re.M))
                if ids == {"ClusterId": cluster, "ProcId": proc}:
                    # the directory is called after the process that starts the job
                    found += descendants(int(ad.parent.name.removeprefix("dir_")))
        return found
