"""What all services need: a directory, daemons that end with the tests, an ordinary user, ports, and patience."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import pytest

# where Debian has daemons, which an ordinary user's PATH may lack
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
# seconds that only a failure takes: enough for a machine that is busy with many other tests
PATIENCE = 300.0
_given: set[int] = set()
KEEPER = Path(__file__).with_name("programs") / "keeper.py"


def needs(*programs: str, package: str) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip(f"{package} is started on Linux alone")
    for program in programs:
        if shutil.which(program, path=PATH) is None:
            pytest.skip(f"{program} is not installed (Debian package {package})")


def as_user(name: str, argv: Sequence[str], all_files: bool = False) -> list[str]:
    """A command that root runs as another user; anyone else runs it as themselves.

    With `all_files` it, and the processes that it starts, may use root's files: the interpreter and the directories of the
    tests may lie where only root may look.
    """
    if os.geteuid() != 0:
        return list(argv)
    user = pwd.getpwnam(name)
    capabilities = "-all,+dac_override,+fowner" if all_files else "-all"
    return [
        *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"),
        *(f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}"),
        # access(2), too, is to heed the capabilities
        *("--securebits=+no_setuid_fixup", "--"),
        *argv,
    ]


def free_port() -> int:
    """A port that nobody listens on, that the kernel gives to no client, and that no other worker of pytest takes."""
    own = set(range(10000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]), 32000, 16)) - _given
    for port in random.SystemRandom().sample(sorted(own), len(own)):
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("", port))
            _given.add(port)
            return port
    raise RuntimeError("there is no free port")


def listens(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def wait_for(
    ready: Callable[[], bool], what: str, logs: Optional[Path] = None, seconds: float = PATIENCE, every: float = 0.05
) -> None:
    """Return when something is ready, or give up: with `what` in words, and the ends of the logs below a directory.

    It looks again after `every` seconds: longer where looking takes the processor.
    """
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            paths = [path for path in (sorted(logs.rglob("*[Ll]og")) if logs else []) if path.is_file()]
            tails = [f"--- {path}\n" + path.read_text(errors="replace")[-1500:] for path in paths]
            raise RuntimeError("\n".join([f"{what}: not in {seconds:g} s", *tails]))
        time.sleep(every)


def alive(pid: int) -> bool:
    """Whether a process runs, or is stopped by a signal.

    A daemon that has ended may stay in the list of processes: Python runs no handler for a signal that comes while the
    keeper leaves that handler, and then its call to read blocks.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # the name, in brackets, may have spaces
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    found = list(children.get(pid, []))
    for child in found:
        found += children.get(child, [])
    return found


def run(
    argv: Sequence[object],
    environment: Mapping[str, str],
    check: bool = True,
    timeout: float = 300,
    cwd: Optional[Path] = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command as a client of a service, with variables beside those of the tests."""
    options: Any = {"env": {**os.environ, "PATH": PATH, **environment}, "timeout": timeout, "cwd": cwd}
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False, **options)
    if check and done.returncode:
        raise RuntimeError(f"{argv}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Daemons:
    """The daemons of one service and the directory that they share. Both are gone when the tests are.

    Everybody may look into the directory; its path is short, as sockets' paths must be.
    """

    def __init__(self, service: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"nanoml-{service}-"))
        self.directory.chmod(0o755)
        with open(self.directory / "keeper.log", "wb") as log:
            words = [sys.executable, "-I", "-S", str(KEEPER), str(self.directory)]
            ends: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
            # Ctrl-C is for the tests, which then stop it
            self._keeper = subprocess.Popen(words, **ends, text=True, start_new_session=True)

    def start(self, argv: Sequence[str], log: Path, environment: Optional[Mapping[str, str]] = None) -> int:
        """Start one, and return its process id. It sees nothing of the tests' environment but what is given here."""
        variables = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": str(self.directory), **(environment or {})}
        order = {"argv": list(argv), "environment": variables, "log": str(log)}
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.write(json.dumps(order) + "\n")
        self._keeper.stdin.flush()
        answer = json.loads(self._keeper.stdout.readline())
        if not isinstance(answer, int):
            raise RuntimeError(f"{argv[0]}: {answer}")
        return answer

    def is_stopped(self, pid: int) -> bool:
        """Whether all threads of a daemon have come to their stop, or it is gone."""
        try:
            states = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
        except OSError:  # a thread has ended meanwhile
            return not alive(pid)
        return all(state.rpartition(")")[2].split()[0] in "TZX" for state in states)

    def signal(self, pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def stop(self) -> None:
        """End all, whatever they do, and remove the directory."""
        if self._keeper.poll() is None:
            # a word, since another process may have inherited the pipe
            self._keeper.communicate("null\n", timeout=30)


class BatchSystem:
    """A batch system with files and logs in `directory`, for clients with the variables `environment`."""

    environment: Mapping[str, str]

    def __init__(self, name: str) -> None:
        self._daemons = Daemons(name)
        self.directory = self._daemons.directory

    def run(self, argv: Sequence[object], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as a client; the options are those of the function `run`."""
        return run(argv, self.environment, **options)

    def processes(self, job: str) -> list[int]:
        """The processes of a running job; none if it does not run."""
        raise NotImplementedError

    def kill(self, job: str) -> None:
        """Kill the processes of a job, which begin a moment after it is said to run, as Linux does when memory is short."""
        wait_for(lambda: bool(self.processes(job)), f"processes of {job}")
        for pid in self.processes(job):
            self._daemons.signal(pid, signal.SIGKILL)

    def stop(self) -> None:
        self._daemons.stop()
