"""The grid proxy of this user: where it is, and whether it can be used."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Optional

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.grid.proxyfile import NOW, Problem, Proxy, init_command, read_proxy

__all__ = [
    "VARIABLE",
    "Proxy",
    "check_proxy",
    "find_proxy",
    "missing",
    "temporary_place",
    "use_proxy",
    "usual_place",
]

VARIABLE = "X509_USER_PROXY"
"""The environment variable that names the proxy, for all grid tools."""


def usual_place() -> Path:
    """Where `nanoml proxy init` writes: in the home directory, which the nodes of a batch system see, too."""
    return Path(os.environ.get(VARIABLE) or _at_home())


def _at_home() -> Path:
    return Path.home() / ".globus" / _name()


def _name() -> str:
    return f"x509up_u{os.getuid()}"


def temporary_place() -> Path:
    """Where grid tools look if X509_USER_PROXY names nothing: only this machine sees it."""
    return Path("/tmp") / _name()


def _places() -> list[Path]:
    return [_at_home(), temporary_place()]


def find_proxy() -> Optional[Path]:
    """The proxy's file: what X509_USER_PROXY names, or in ~/.globus or /tmp the one that is valid longest.

    Returns
    -------
    Its path, whatever is in it; None if there is none. What X509_USER_PROXY names need not be there.
    """
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    there = [path for path in _places() if path.exists()]
    return max(there, key=_usable_until) if there else None


def _usable_until(path: Path) -> datetime:
    try:
        return read_proxy(path).expires
    except NanoMLError:
        return datetime.min.replace(tzinfo=timezone.utc)


def missing(vo: str = "cms") -> Problem:
    """Nobody has made a proxy."""
    places = " or ".join(map(str, _places()))
    return Problem(
        f"there is no grid proxy: {VARIABLE} is not set, and there is no {places}", init_command(vo=vo)
    )


def check_proxy(needed: timedelta = NOW, vo: str = "cms") -> Proxy:
    """The proxy, if it can be used.

    Parameters
    ----------
    needed
        How long it must be valid from now on: as long as the jobs run.
    vo
        The VO that it must be of.

    Raises
    ------
    NanoMLError
        There is none, or it cannot be used, with all reasons and what to do.
    """
    path = find_proxy()
    if path is None:
        raise NanoMLError(f"{missing(vo)}")
    proxy = read_proxy(path)
    problems = proxy.problems(needed, vo)
    if problems:
        raise NanoMLError("\n".join(f"{path}: {problem}" for problem in problems))
    return proxy


def use_proxy() -> Optional[Path]:
    """Let libraries and programs that this process uses find the proxy where `find_proxy` does.

    Returns
    -------
    Its path; None if there is none.
    """
    path = find_proxy()
    if path is not None:
        os.environ[VARIABLE] = str(path)
    return path
