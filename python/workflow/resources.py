"""What a job asks a batch system for."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from MLTools.NanoML.errors import ConfigError

__all__ = ["Resources", "duration", "in_words"]

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h|d)")


def duration(text: str) -> int:
    """Seconds in a text such as 90s, 30min, 8h or 2d.

    Raises
    ------
    ConfigError
        It is not a time.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f'"{text}" is not a time: write it as 30min, 8h or 2d.')
    return max(1, round(float(found[1]) * _SECONDS[found[2]]))


def in_words(seconds: float) -> str:
    """A time for people: "45 s", "12 min", "3.5 h", "2.1 d"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} d"


@dataclass(frozen=True)
class Resources:
    """What a job needs of a machine.

    Attributes
    ----------
    time
        Wall time [s].
    memory
        Memory [MB].
    cores
        CPU cores.
    gpus
        GPUs.
    disk
        Space in the job's own directory [MB].
    """

    time: int = 3600
    memory: int = 2000
    cores: int = 1
    gpus: int = 0
    disk: int = 2000

    def after(self, kind: str) -> Resources:
        """What to ask for after a failure of this kind (see `job.KINDS`): twice as much of what was lacking."""
        if kind not in ("memory", "time", "disk"):
            return self
        return replace(self, **{kind: 2 * int(getattr(self, kind))})

    def changes_since(self, other: Resources) -> str:
        """How this differs from another, in words; empty if it does not."""
        changes = []
        if self.memory != other.memory:
            changes.append(f"memory {other.memory} -> {self.memory} MB")
        if self.time != other.time:
            changes.append(f"time {in_words(other.time)} -> {in_words(self.time)}")
        if self.disk != other.disk:
            changes.append(f"disk {other.disk} -> {self.disk} MB")
        return ", ".join(changes)
