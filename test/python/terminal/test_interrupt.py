from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# an object that is collected drops the exception; the work must end nevertheless
LOST = """
import os, signal, sys
from MLTools.NanoML.terminal import interrupt
from MLTools.NanoML.terminal.progress import progress

class Dropping:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass

interrupt.heed()
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
