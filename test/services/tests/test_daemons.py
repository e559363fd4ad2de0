"""No daemon outlives the tests, however these end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from processes import running
from services.daemons import Daemons, alive, free_port, listens, wait_for

pytestmark = [pytest.mark.exhaustive("the services that tests start"), pytest.mark.service]

TESTS = """
import sys, time
sys.path.insert(0, sys.argv[1])
from processes import running
from services.daemons import Daemons
daemons = Daemons("test")
# one that goes into the background, and one that does not heed signals
pid = daemons.start(["sh", "-c", "(trap '' TERM INT HUP; sleep 1000 & echo $!; wait) & echo $!; wait"],
                    daemons.directory / "log")
while len((daemons.directory / "log").read_text().split()) < 2:
    time.sleep(0.01)
print(daemons.directory, pid, *(daemons.directory / "log").read_text().split(), flush=True)
while True:
    time.sleep(0.1)  # a signal just before it would be heeded when it ends
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_daemons_end_with_the_tests(number: signal.Signals) -> None:
    words, ends = [sys.executable, "-c", TESTS, str(Path(__file__).resolve().parents[2])], subprocess.PIPE
    with running(words, stdout=ends, stderr=subprocess.DEVNULL, text=True) as tests:
        assert tests.stdout is not None
        directory, *pids = tests.stdout.readline().split()
        assert len(pids) == 3
        assert all(Path("/proc", pid).exists() for pid in pids)
        tests.send_signal(number)
        tests.wait(60)
    wait_for(lambda: not Path(directory).exists(), "end of the directory")
    assert not any(Path("/proc", pid).exists() for pid in pids)


def test_a_daemon_that_cannot_be_started_is_an_error() -> None:
    daemons = Daemons("test")
    try:
        with pytest.raises(RuntimeError, match="No such file"):
            daemons.start(["no_such_program"], daemons.directory / "log")
        pid = daemons.start(["true"], daemons.directory / "log")
        wait_for(lambda: not alive(pid), "end of true")
        (daemons.directory / "it.log").write_text("why it is not")
        with pytest.raises(RuntimeError, match="never: not in 0.1 s(?s:.*)why it is not"):
            wait_for(lambda: False, "never", daemons.directory, 0.1)
    finally:
        daemons.stop()
    assert not daemons.directory.exists()


def test_nobody_listens_at_a_free_port() -> None:
    assert not listens(free_port())
