"""Answers of the catalogue that are kept for a day, in the user's cache directory."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.atomic import cache_directory, write_text
from MLTools.NanoML.errors import NanoMLError

__all__ = ["Cache", "Kept", "now"]

DAY = timedelta(days=1)
_SCHEMA = 1


def now() -> datetime:
    """The time, to seconds."""
    return datetime.now(timezone.utc).replace(microsecond=0)


@dataclass(frozen=True)
class Kept:
    """An answer.

    Attributes
    ----------
    rows
        What it is, as JSON could hold it.
    date
        When it was given.
    source
        Who gave it.
    """

    rows: Any
    date: datetime
    source: str

    @property
    def is_fresh(self) -> bool:
        """Whether it is of today; one from the future, after a clock was set, is not."""
        return timedelta(0) <= now() - self.date < DAY


class Cache:
    """The directory of answers, one file for each question. What cannot be read there counts as not there."""

    def __init__(self, directory: Optional[Path] = None) -> None:
        self._directory = directory or cache_directory() / "das"

    def get(self, question: str) -> Optional[Kept]:
        """The answer to a question; None if there is none."""
        try:
            content = json.loads(self._path(question).read_text(encoding="utf-8"))
            if content["schema"] == _SCHEMA and content["question"] == question:
                return Kept(content["rows"], datetime.fromisoformat(content["date"]), content["source"])
        except (OSError, ValueError, LookupError, TypeError):
            pass
        return None

    def put(self, question: str, kept: Kept) -> None:
        """Keep an answer; where that cannot be done, it is asked for again next time."""
        content = {
            "schema": _SCHEMA,
            "question": question,
            "date": kept.date.isoformat(),
            "source": kept.source,
            "rows": kept.rows,
        }
        with contextlib.suppress(NanoMLError):
            write_text(self._path(question), json.dumps(content))

    def _path(self, question: str) -> Path:
        return self._directory / f"{hashlib.sha256(question.encode()).hexdigest()[:24]}.json"
