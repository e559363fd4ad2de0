"""Processes that a test starts and stops by signals, or in a copy of the repository; and `nanoml` without a process."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Optional
from unittest.mock import patch

from MLTools.NanoML.cli import main

_KEPT_OUT = ("trilepton", "leptons", "wz", ".*", "build", "dist", "*.egg-info", "__pycache__")

# an editable installation would find what the copy does not have
_SITE = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
"""


@contextmanager
def running(argv: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that ends with the block at the latest, also when an assertion in the block fails.

    `with subprocess.Popen(...)`, whose options it takes, would wait for the process to end by itself, which may be never.
    """
    # a shell has commands in the background ignore Ctrl-C, these tests perhaps, and what they start
    with subprocess.Popen(argv, preexec_fn=_heed_interrupts, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def nanoml(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `nanoml` in this process, where everything is imported already; what it prints and how it ends is as always."""
    words, before = list(map(str, arguments)), os.getcwd()
    out, err, code = io.StringIO(), io.StringIO(), None
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    hook = sys.unraisablehook
    os.chdir(cwd)
    try:
        with (
            patch.object(sys, "argv", ["nanoml", *words]),
            patch.dict(os.environ, environment),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            main()
    except SystemExit as end:
        code = end.code
    finally:
        os.chdir(before)
        sys.unraisablehook = hook
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return subprocess.CompletedProcess(words, code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def on_terminal(argv: Sequence[object], columns: int = 80, cwd: Optional[Path] = None, **environment: str) -> str:
    """Run a program on a terminal of so many columns; return all that it sends there."""
    terminal, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    inherited = {name: it for name, it in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "LINES")}
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), other)
    with running(list(map(str, argv)), cwd=cwd, env={**inherited, "TERM": "xterm", **environment}, **streams):
        os.close(other)
        parts = []
        while True:
            try:
                parts.append(os.read(terminal, 1 << 16))
            except OSError:  # all programs on it have ended
                break
    os.close(terminal)
    return b"".join(parts).decode().replace("\r\n", "\n")


def on_screen(sent: str) -> str:
    """What is left on the screen of what was sent: a line that was written again in its last form, without colours."""
    lines = (line.split("\r")[-1] for line in re.sub(r"\x1b\[\?25[lh]", "", sent).split("\n"))
    return "\n".join(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line).rstrip() for line in lines)


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def copied(root: Path, directory: Path, only: Sequence[str] = ()) -> tuple[Path, dict[str, str]]:
    """A copy of the repository, or of some directories of it, and the environment in which Python finds the copy."""
    checkout, path = directory / "checkout", directory / "path"
    ignored = shutil.ignore_patterns(*_KEPT_OUT)
    for name in only or ("",):
        if (root / name).is_dir():
            shutil.copytree(root / name, checkout / name, symlinks=True, ignore=ignored)
    (path / "MLTools").mkdir(parents=True)
    (path / "MLTools" / "NanoML").symlink_to(checkout / "python")
    (path / "sitecustomize.py").write_text(_SITE)
    data = os.environ.get("NANOML_TEST_DATA") or str(root.parent / "shared" / "data")
    return checkout, {**os.environ, "PYTHONPATH": f"{path}:{checkout}", "NANOML_TEST_DATA": data}
