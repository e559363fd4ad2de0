"""A process that starts the daemons of a service, and ends with all of them when the tests are gone, however they end.

It is run as `python keeper.py DIRECTORY`. Each line on its standard input is an order, as JSON: {"argv", "environment",
"log"}; it answers with the process id, or with what went wrong. At the order null, or at the end of the input, everything
that descends from it is killed, daemons that went into the background and their jobs included, and the directory is
removed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Whoever loses their parent below this process become its children."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def bury(*_: Any) -> None:
    """Take note of all children that have ended: the test asks for a daemon by its process id."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def start(order: dict[str, Any], directory: str) -> int:
    with open(order["log"], "ab") as log:
        ends = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        where = {"env": order["environment"], "cwd": directory}
        return subprocess.Popen(order["argv"], **where, **ends, start_new_session=True).pid


def children() -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # the name, in brackets, may have spaces
            if int(status.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(status.parent.name))
    return found


def end_all() -> None:
    """Kill the children; theirs become ours, until there are none."""
    end = time.monotonic() + 15
    while (left := children()) and time.monotonic() < end:
        for child in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        bury()
        time.sleep(0.01)


def main(directory: str) -> None:
    adopt_orphans()
    signal.signal(signal.SIGCHLD, bury)
    for line in sys.stdin:
        order = json.loads(line)
        if order is None:
            break
        try:
            answer: Any = start(order, directory)
        except OSError as error:
            answer = str(error)
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(answer), flush=True)  # noqa: T201
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    end_all()
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
