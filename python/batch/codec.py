"""Tasks as JSON, from which a worker on another machine makes them again, and which a person can read."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from MLTools.NanoML.errors import NanoMLError

__all__ = ["decode", "encode"]

_PACKAGES = ("MLTools.NanoML", "data_processing", "ML_processing")
_TAGS = {"path", "tuple", "number", "mapping", "type", "call"}


def encode(value: Any) -> Any:
    """Make JSON of plain data, paths, dataclasses and partials of named functions; anything else is a TypeError."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"number": repr(value)}
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value) and not _TAGS & set(value):
            return {key: encode(item) for key, item in value.items()}
        return {"mapping": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, functools.partial):
        keywords = {name: encode(item) for name, item in value.keywords.items()}
        arguments = [encode(item) for item in value.args]
        return {"call": _name_of(value.func), "arguments": arguments, "keywords": keywords}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        content = {it.name: encode(getattr(value, it.name)) for it in dataclasses.fields(value) if it.init}
        return {"type": _name_of(type(value)), "fields": content}
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")


def _name_of(thing: Any) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"


def decode(content: Any, rename: Callable[[str], str] = lambda text: text) -> Any:
    """Undo `encode`.

    Parameters
    ----------
    content
        What `encode` gave.
    rename
        Called with every text and every path; returns what it is on this machine.

    Raises
    ------
    NanoMLError
        It was written by another version of NanoML, or asks for something outside NanoML.
    """
    if isinstance(content, str):
        return rename(content)
    if isinstance(content, list):
        return [decode(item, rename) for item in content]
    if not isinstance(content, dict):
        return content
    if "path" in content:
        return Path(rename(content["path"]))
    if "tuple" in content:
        return tuple(decode(item, rename) for item in content["tuple"])
    if "number" in content:
        return float(content["number"])
    if "mapping" in content:
        return {decode(key, rename): decode(item, rename) for key, item in content["mapping"]}
    if "type" in content:
        arguments = {name: decode(item, rename) for name, item in content["fields"].items()}
        try:
            return _thing(content["type"])(**arguments)
        except TypeError as problem:
            raise NanoMLError(
                f"{content['type']}: {problem}. The job was written by another version of NanoML: submit it again."
            ) from None
    if "call" in content:
        keywords = {name: decode(item, rename) for name, item in content["keywords"].items()}
        return functools.partial(_thing(content["call"]), *decode(content["arguments"], rename), **keywords)
    return {key: decode(item, rename) for key, item in content.items()}


def _thing(name: str) -> Any:
    """A class or function of NanoML; never anything else, since a job file could name it."""
    module, _, path = name.partition(":")
    refusal = NanoMLError(f"{name}: is not a part of NanoML, so no job may ask for it.")
    if not _is_own(module):
        raise refusal
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (AttributeError, ModuleNotFoundError) as problem:
        missing = problem.name if isinstance(problem, ModuleNotFoundError) else module
        if missing is None or not _is_own(missing):
            raise
        raise NanoMLError(
            f"{name}: does not exist in this version of NanoML; another version wrote the job: submit it again."
        ) from None
    # what NanoML has imported from elsewhere is not its own
    if not callable(found) or not _is_own(str(getattr(found, "__module__", ""))):
        raise refusal
    return found


def _is_own(module: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in _PACKAGES)
