"""All checks of a way of working, at the same time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from MLTools.NanoML.doctor import grid
from MLTools.NanoML.doctor.finding import Finding, State
from MLTools.NanoML.doctor.ways import CHECKS, WAYS

__all__ = ["Examination", "examine"]


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes
    ----------
    way
        The way of working.
    findings
        What was found, by what was checked.
    """

    way: str
    findings: dict[str, Finding]

    def state(self, name: str) -> State:
        """How a thing is, for this way of working."""
        if self.findings[name].fine:
            return State.FINE
        return State.ABSENT if name in WAYS[self.way].wishes else State.MISSING

    @property
    def missing(self) -> list[str]:
        """What nothing goes without, and is not as it should be."""
        return [name for name in self.findings if self.state(name) is State.MISSING]

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON could hold it."""
        checks = [
            {"name": name, "state": self.state(name).value, "found": finding.found, "mend": finding.mend}
            for name, finding in self.findings.items()
        ]
        return {"for": self.way, "ready": not self.missing, "checks": checks}


def examine(way: str, redirector: str = "") -> Examination:
    """Check all that a way of working needs.

    Parameters
    ----------
    way
        One of WAYS.
    redirector
        The XRootD server, HOST or HOST:PORT, that is asked whether it answers; empty for that of the way, if it has
        one.
    """
    chosen = WAYS[way]
    wanted = {*chosen.needs, *chosen.wishes}
    checks = {name: check for name, check in CHECKS.items() if name in wanted}
    server = redirector or chosen.redirector
    if server:
        checks["redirector"] = partial(grid.redirector, server)
    with ThreadPoolExecutor(len(checks)) as pool:  # most of them wait for others
        found = list(pool.map(_find, checks.values()))
    return Examination(way, dict(zip(checks, found)))


def _find(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as problem:  # a check that breaks must not take the others with it
        return Finding(False, f"could not be checked: {type(problem).__name__}: {problem}")
