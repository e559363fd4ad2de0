"""The files that an analysis does without because they cannot be read.

They are noted in the work directory, for later stages and for everybody who reads the results.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Union

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.plain import DAMAGE, content_of

_FILE = Path(".nanoml", "missing.json")
_VERSION = 1


@dataclass(frozen=True)
class Missing:
    """A file that an analysis does without."""

    file: str  # its path or URL
    reason: str  # why it cannot be read
    date: str  # when this was last found

    @classmethod
    def now(cls, file: str, reason: str) -> Missing:
        """A file that was found to be missing at this moment."""
        return cls(file, reason.removeprefix(f"{file}: "), time.strftime("%Y-%m-%dT%H:%M:%S%z"))


def read(workdir: Path) -> dict[str, list[Missing]]:
    """The files that are missing now, by dataset; only datasets that lack some.

    Raises NanoMLError if the record is damaged, or was written by a newer NanoML.
    """
    path = workdir / _FILE
    if not path.exists():
        return {}
    try:
        content = content_of(path)
        version = content.get("version")
        if version == _VERSION:
            content = content["datasets"]
        elif isinstance(version, int):
            raise ValueError(f"version {version}, this NanoML reads {_VERSION}")
        # a file without a version is older: it has the datasets alone
        return {name: [Missing(**each) for each in files] for name, files in content.items() if files}
    except DAMAGE as problem:
        raise NanoMLError(
            f"{path}: cannot be read ({problem}). Remove it: the next run finds again what is missing."
        ) from problem


def record(workdir: Path, found: Mapping[str, Mapping[str, str]]) -> None:
    """Note the files that datasets do without, in place of what was noted of these datasets before.

    Hold the lock of the work directory. `found` has for each dataset the missing files with the reasons; none if all could be read.
    """
    before = read(workdir)
    now = {**before, **{name: [Missing.now(*each) for each in files.items()] for name, files in found.items()}}
    if before or any(now.values()):
        datasets = {name: [asdict(each) for each in files] for name, files in now.items() if files}
        write_json(workdir / _FILE, {"version": _VERSION, "datasets": datasets})


def allowed(limit: Union[int, str], total: int) -> int:
    """How many of the `total` files of a dataset may be missing; never all of them.

    `limit` is a number or a percentage such as "1 %": `read.max_missing_files`.
    """
    text = str(limit).strip()
    most = math.floor(float(text[:-1]) * total / 100 + 1e-9) if text.endswith("%") else int(text)
    return max(min(most, total - 1), 0)


def lines(found: Mapping[str, list[Missing]]) -> list[str]:
    """The missing files, in words: a line for each dataset."""
    texts = []
    for name, files in found.items():
        others = f" and {len(files) - 1} more" if len(files) > 1 else ""
        verb = "are" if others else "is"
        texts.append(f"{name + ': ' if name else ''}{files[0].file}{others} {verb} left out: {files[0].reason}")
    return texts
