"""The settings for reading over the network, for this process and those that it starts."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import asdict

from MLTools.NanoML.config.datasets import Read
from MLTools.NanoML.errors import NanoMLError

__all__ = ["VARIABLE", "adopt", "current", "use"]

VARIABLE = "NANOML_READING"
"""The environment variable that has the settings, as JSON: workers and jobs inherit it."""


def use(settings: Read) -> None:
    """Read with these settings from now on, here and in all processes that are started."""
    os.environ[VARIABLE] = json.dumps(asdict(settings))


def adopt(settings: Read) -> None:
    """Read with the settings of an analysis, if it has any: what the environment says counts otherwise."""
    if settings != Read():
        use(settings)


def current() -> Read:
    """The settings to read with; the defaults where none were given.

    Raises
    ------
    NanoMLError
        The environment variable cannot be understood.
    """
    return _parsed(os.environ.get(VARIABLE, "{}"))


@functools.lru_cache(maxsize=1)
def _parsed(text: str) -> Read:
    try:
        return Read(**json.loads(text))
    except (ValueError, TypeError) as problem:
        raise NanoMLError(f"{VARIABLE}={text}: cannot be understood ({problem}). Unset it.") from None
