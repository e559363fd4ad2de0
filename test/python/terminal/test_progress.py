from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from MLTools.NanoML.terminal.progress import progress, say

SHOW = """
from MLTools.NanoML.terminal.progress import progress
with progress("skim", 3, "files") as bar:
    for _ in range(3):
        bar.advance(1, note="half way")
"""


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("skim", 1000) as bar:
        bar.advance(400)
        bar.advance(600, note="fine")
    say("done")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[-1] == "done"
    assert shown.err.startswith("skim: 1,000 events (fine) in 0.")


def test_a_bar_on_a_terminal() -> None:
    script = pytest.importorskip("pty")
    import os

    master, slave = script.openpty()
    done = subprocess.run(
        [sys.executable, "-c", SHOW], stderr=slave, check=True, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    )
    os.close(slave)
    shown = os.read(master, 100_000).decode()
    os.close(master)
    assert done.returncode == 0
    assert "3/3" in shown
    assert "━" in shown
    assert "half way" in shown


def test_workers_are_silent() -> None:
    code = "from MLTools.NanoML.terminal.progress import silence; silence()" + SHOW
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stderr == b""


# an object that is collected drops the exception; the work must end nevertheless
LOST = """
import os, signal, sys
from MLTools.NanoML.terminal.progress import heed_interrupts, progress

class Dropping:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass

heed_interrupts()
thing = Dropping()
del thing
print("went on", flush=True)
with progress("work", 2) as bar:
    bar.advance()
print("never")
"""


@pytest.mark.parametrize(("before", "ends"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False)])
def test_an_interrupt_that_python_drops_still_ends_the_work(before: signal.Handlers, ends: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOST],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, before),
    )
    assert done.stdout.splitlines() == (["went on"] if ends else ["went on", "never"])
    assert done.stderr.strip().endswith("KeyboardInterrupt") is ends
    assert done.stderr.count("Traceback") == ends  # none of what Python drops
