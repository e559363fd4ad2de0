"""Processes that a test starts and stops by signals."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["running"]


@contextmanager
def running(argv: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that ends with the block at the latest, also when an assertion in the block fails.

    `with subprocess.Popen(...)` alone would wait for the process to end by itself, which may be never.

    Parameters
    ----------
    argv
        The command.
    **options
        Of `subprocess.Popen`.
    """
    # a shell has commands in the background ignore Ctrl-C, these tests perhaps, and what they start
    with subprocess.Popen(argv, preexec_fn=_heed_interrupts, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
