"""The roles of a job's fields: files that it reads or makes, and what cannot change its result. All others decide it.

A job is a frozen dataclass that says all that the function that does it needs to know; so may be what its fields hold. Other files that an
object reads, such as those that a file of its fields names, are its property `also_read`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_ROLE = "role"
READS = {_ROLE: "reads"}
WRITES = {_ROLE: "writes"}
HOW = {_ROLE: "how"}
"""Metadata of the fields with files that are read and made, and of those that cannot change the result."""


class Described(NamedTuple):
    """The roles of a job in what it holds."""

    settings: Mapping[str, object]  # all that its result depends on beside files and code, as JSON holds it
    reads: tuple[str, ...]
    writes: tuple[str, ...]


_shared: dict[type, tuple[list[object], Mapping[str, object], tuple[str, ...]]] = {}


def describe(job: object) -> Described:
    """The roles in a job. Jobs of many files share all else: of the same objects, this is found out once."""
    kind = type(job)
    held = [getattr(job, name) for name in _fields_of(job)[""]]
    before = _shared.get(kind)
    if before is None or not all(map(operator.is_, held, before[0])):
        settings = decisive(job)
        assert isinstance(settings, dict)
        before = _shared[kind] = held, settings, tuple(_files(held, "reads"))
    reads = _files([getattr(job, name) for name in _fields_of(job)["reads"]], "")
    writes = _files([getattr(job, name) for name in _fields_of(job)["writes"]], "")
    also = map(str, getattr(job, "also_read", ()))
    return Described(before[1], tuple(dict.fromkeys([*reads, *before[2], *also])), tuple(writes))


def decisive(value: object) -> object:
    """What of a value a result depends on, as JSON holds it."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: decisive(item) for key, item in value.items()}
        return [[decisive(key), decisive(item)] for key, item in value.items()]
    if dataclasses.is_dataclass(value):
        return {name: decisive(getattr(value, name)) for name in _fields_of(value)["settings"]}
    if isinstance(value, Collection):
        return [decisive(item) for item in value]
    raise TypeError(f"{type(value).__name__} cannot be a setting of a job: {value!r}")


def _files(value: object, role: str) -> Iterator[str]:
    """The files with a role in a value; without a role it consists of files."""
    if isinstance(value, (str, Path)):
        if not role and str(value):
            yield str(value)
    elif isinstance(value, Mapping):
        yield from _files(list(value.values()), role)
    elif dataclasses.is_dataclass(value):
        found = _fields_of(value)
        yield from _files([getattr(value, name) for name in found[role]], "")
        yield from _files([getattr(value, name) for name in found[""]], role)
        yield from _files(getattr(value, "also_read", ()), "")
    elif isinstance(value, Collection):
        for each in value:
            yield from _files(each, role)


def _fields_of(value: object) -> Mapping[str, list[str]]:
    """The names of the fields with each role, of those without one, and of those that are part of the settings."""
    return _fields(type(value))  # type: ignore[arg-type]  # classes are hashable


@functools.cache
def _fields(kind: type) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {"": [], "reads": [], "writes": [], "how": [], "settings": []}
    assert dataclasses.is_dataclass(kind)
    for field in dataclasses.fields(kind):
        role = field.metadata.get(_ROLE, "")
        found[role].append(field.name)
        if not role and not field.metadata.get("hidden"):
            found["settings"].append(field.name)
    return found
