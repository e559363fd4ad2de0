"""Slurm: a controller and one node on this machine, with a munge of their own."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.daemons import PATH, BatchSystem, free_port, needs, run, wait_for

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={directory}/munge.socket
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
ProctrackType=proctrack/linuxproc
MailProg=/bin/true

JobCompType=jobcomp/filetxt
JobCompLoc={directory}/jobcomp

SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
MinJobAge=3600
KillWait=2
MaxArraySize=10001
MaxJobCount=20000
ReturnToService=2

SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=16000 State=UNKNOWN
PartitionName=short Nodes={host} Default=YES MaxTime=01:00:00 DefMemPerCPU=1000 State=UP
PartitionName=long Nodes={host} MaxTime=7-00:00:00 DefMemPerCPU=1000 State=UP
"""


class Slurm(BatchSystem):
    """A cluster with one node of 8 CPUs and the partitions short (an hour, the default) and long (a week).

    Clients need the variables `environment`; `directory` / jobcomp has a line for each job that ended.
    """

    def __init__(self) -> None:
        needs("slurmctld", "slurmd", "sbatch", package="slurm-wlm")
        needs("munged", package="munge")
        super().__init__("slurm")
        self._config = self.directory / "slurm.conf"
        self.environment = {"SLURM_CONF": str(self._config)}

    def start(self) -> None:
        """Start it; jobs may be submitted when this returns."""
        for name in ("state", "spool"):
            (self.directory / name).mkdir()
        version = run(["slurmd", "-V"], {}).stdout.split()[-1]
        # before 23.02 a plugin must be named, even if nothing uses it
        plugin = "disabled" if tuple(map(int, version.split(".")[:2])) >= (23, 2) else "cgroup/v1"
        (self.directory / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")
        about = {"host": socket.gethostname().partition(".")[0], "user": pwd.getpwuid(os.geteuid()).pw_name}
        about |= {"controller": free_port(), "node": free_port(), "directory": self.directory}
        self._config.write_text(CONFIGURATION.format(**about))
        self._start_munge()
        for daemon in ("slurmctld", "slurmd"):
            self._start([daemon, "-D", "-f", str(self._config)])
        wait_for(self._has_a_node, "node of the Slurm cluster", self.directory)

    def _start_munge(self) -> None:
        key, socket = self.directory / "munge.key", self.directory / "munge.socket"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
        files = {"socket": socket, "key-file": key}
        files |= {f"{name}-file": self.directory / f"munge.{name}" for name in ("pid", "seed")}
        self._start(["munged", "--foreground", *(f"--{name}={path}" for name, path in files.items())])
        wait_for(socket.exists, "socket of munge", self.directory)

    def _start(self, argv: Sequence[str]) -> None:
        self._daemons.start(argv, self.directory / f"{argv[0]}.log", {**self.environment, "PATH": PATH})

    def _has_a_node(self) -> bool:
        return self.run(["sinfo", "-h", "-p", "short", "-o", "%T"], check=False).stdout.strip() == "idle"

    def processes(self, job: str) -> list[int]:
        """The processes of a running job "12", or task "12_3" of an array; none if it does not run."""
        number, _, task = job.partition("_")
        if task:
            return with_variables({"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": task})
        return with_variables({"SLURM_JOB_ID": number})


def with_variables(variables: Mapping[str, str]) -> list[int]:
    """Processes of this user that have all these variables in their environment."""
    wanted = {f"{name}={value}".encode() for name, value in variables.items()}
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted <= set(environment.read_bytes().split(b"\0")):
                found.append(int(environment.parent.name))
    return found
