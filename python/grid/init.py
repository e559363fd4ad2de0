"""Making a proxy: voms-proxy-init does it, and talks with the user itself."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Optional

from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.grid.proxy import VARIABLE, temporary_place, usual_place
from MLTools.NanoML.grid.proxyfile import Proxy, duration, read_proxy

__all__ = ["init_proxy"]

_PROGRAM = "voms-proxy-init"
_PRIVATE = 0o077
_SLACK = timedelta(minutes=10)  # between what was asked for and what is there when it is looked at


def init_proxy(vo: str, hours: timedelta, output: Optional[Path] = None) -> list[str]:
    """Make a proxy.

    The terminal is voms-proxy-init's meanwhile: it asks for the password. A proxy that was there before is replaced
    when the new one is complete.

    Parameters
    ----------
    vo
        The virtual organisation.
    hours
        How long it is to be valid.
    output
        Where it goes; None for the usual place.

    Returns
    -------
    What to tell: where it is, how long it is valid, and the line that lets grid tools find it, if they need it.

    Raises
    ------
    NanoMLError
        voms-proxy-init is not there, or made no proxy.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        raise NanoMLError(
            f"{_PROGRAM}: is not installed here (on Debian and Ubuntu: package voms-clients). Make the proxy on a machine "
            f"that has it, and copy the file here, readable for you alone."
        )
    path = Path(os.path.abspath(os.path.expanduser(output or usual_place())))
    _make_private(path.parent)
    with replacing(path) as aside:
        asked = ["--rfc", "--voms", vo, "--valid", f"{hours // timedelta(hours=1)}:00", "--out", str(aside)]
        code = subprocess.run([program, *asked], check=False, umask=_PRIVATE).returncode
        if code:
            raise NanoMLError(f"{_PROGRAM} made no proxy (exit code {code}): see what it says above.")
        if not aside.is_file():
            raise NanoMLError(f"{_PROGRAM} made no proxy, though it says that it did (exit code 0).")
        aside.chmod(0o600)
    return [*_told(read_proxy(path), hours, vo), *_export(path)]


def _make_private(directory: Path) -> None:
    """Create ~/.globus as it should be; one that is there stays as it is."""
    if directory.name == ".globus" and directory.parent.is_dir():
        directory.mkdir(mode=0o700, exist_ok=True)


def _told(proxy: Proxy, hours: timedelta, vo: str) -> Iterator[str]:
    yield f"{proxy.path}: {proxy.subject}, VO {proxy.vo or 'none'}, valid for {duration(proxy.left())}"
    if proxy.left() < hours - _SLACK:
        yield f"That is less than the {duration(hours)} that were asked for: your certificate or the VO gives no more."
    for problem in proxy.problems(vo=vo):
        yield f"But {problem.what}."


def _export(path: Path) -> list[str]:
    """The line for the shell, unless grid tools find the proxy anyway."""
    named = os.environ.get(VARIABLE)
    found = Path(os.path.abspath(named)) if named else temporary_place()
    if found == path:
        return []
    return [
        "For other grid tools, also in ~/.bashrc:",
        f"    export {VARIABLE}={shlex.quote(str(path))}",
    ]
