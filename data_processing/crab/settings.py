"""What a CRAB job does: the file job.json, which travels with it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.errors import ConfigError

__all__ = ["JOB", "OUTPUT", "Settings"]

JOB = "job.json"
"""Name of the file."""

OUTPUT = "nano.root"
"""Name of a job's output, as in crab/PSet.py."""


@dataclass(frozen=True)
class Settings:
    """What a job does with each of its files; names of files are relative to the job's directory.

    Attributes
    ----------
    selection, modules, cut, certified, branches, keep, compression
        As in `SkimJob`. The models are among the modules.
    """

    selection: str = ""
    modules: tuple[str, ...] = ()
    cut: str = ""
    certified: str = ""
    branches: str = ""
    keep: tuple[str, ...] = ()
    compression: str = "ZLIB:5"

    def write(self, directory: Path) -> None:
        """Write it into the directory of a task."""
        write_json(directory / JOB, {"schema": 1, **asdict(self)})

    @classmethod
    def read(cls, directory: Path) -> Settings:
        """Read it in the directory of a job.

        Raises
        ------
        ConfigError
            There is none, or it is not as `write` writes it.
        """
        path = directory / JOB
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("schema") != 1 or set(content) != {each.name for each in fields(cls)}:
                raise ValueError("it is of another version")
            return cls(**{**content, **{name: tuple(content[name]) for name in ("modules", "keep")}})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise ConfigError(
                f"{path}: is not what `nanoml submit` writes ({problem}): write the task again."
            ) from None

    @property
    def identity(self) -> str:
        """32 hexadecimal digits that tell this from any other."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:32]
