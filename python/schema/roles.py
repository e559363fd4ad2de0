"""The roles of a job's fields: files that it reads or makes, and what cannot change its result. All others decide it.

Some decide what stands `BESIDE` the core of the result alone, as flags of regions beside events. Of some files a job reads the `CORE`
alone, as a training reads no flags of regions.

A job is a frozen dataclass that says all that the function that does it needs to know; so may be what its fields hold. Other files that an
object reads, such as those that a file of its fields names, are its property `also_read`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Union

_ROLE = "role"
READS = {_ROLE: "reads"}
WRITES = {_ROLE: "writes"}
HOW = {_ROLE: "how"}
CORE = {_ROLE: "core"}
BESIDE = {_ROLE: "beside"}
"""Metadata of the fields with files that are read and made, of those that cannot change the result, of files whose core alone is read, and
of settings that decide what is beside the core of the result alone, as do the files that are named in them."""


class Described(NamedTuple):
    """The roles of a job in what it holds."""

    settings: Mapping[str, object]  # all that its result depends on beside files and code, as JSON holds it
    reads: tuple[str, ...]
    writes: tuple[Path, ...]
    beside: tuple[str, ...]  # the settings, and files that are read, which decide what is beside the core of the result
    core: tuple[str, ...]  # the files of which it reads the core alone


_shared: dict[type, tuple[list[object], Mapping[str, object], tuple[str, ...], tuple[str, ...]]] = {}


def describe(job: object) -> Described:
    """The roles in a job. Jobs of many files share all else: of the same objects, this is found out once."""
    kind = type(job)
    fields = _fields_of(job)
    held = [getattr(job, name) for name in fields[""]]
    before = _shared.get(kind)
    if before is None or not all(map(operator.is_, held, before[0])):
        settings, beside = dict[str, object](), list[str]()
        _settle(job, "", settings, beside)
        beside.extend(_files([getattr(job, name) for name in fields["beside"]], "reads"))
        before = _shared[kind] = held, settings, tuple(_files(held, "reads")), tuple(dict.fromkeys(beside))
    reads, core = ([*map(str, _named(job, fields[role]))] for role in ("reads", "core"))
    writes = tuple(path if isinstance(path, Path) else Path(path) for path in _named(job, fields["writes"]))
    also = map(str, getattr(job, "also_read", ()))
    every = tuple(dict.fromkeys([*reads, *core, *before[2], *also]))
    return Described(before[1], every, writes, before[3], tuple(core))


def _settle(value: object, place: str, settings: dict[str, object], beside: list[str]) -> None:
    """Enter the settings of a job by their names; those inside a field each, if some of them are beside the others."""
    for name in _fields_of(value)["settings"]:
        held, key = getattr(value, name), place + name
        if dataclasses.is_dataclass(held) and _fields_of(held)["beside"]:
            _settle(held, f"{key}.", settings, beside)
        else:
            settings[key] = decisive(held)
        if name in _fields_of(value)["beside"]:
            beside.append(key)


def decisive(value: object) -> object:
    """The part of a value that a result depends on, as JSON holds it."""
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


def _named(job: object, fields: Sequence[str]) -> Iterator[Union[str, Path]]:
    """The files that some fields name. Most fields hold one path, which is returned as it is."""
    for name in fields:
        value = getattr(job, name)
        if value and isinstance(value, (str, Path)):
            yield value
        else:
            yield from _files(value, "")


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
    found: dict[str, list[str]] = {it: [] for it in ("", "reads", "writes", "how", "core", "beside", "settings")}
    assert dataclasses.is_dataclass(kind)
    for field in dataclasses.fields(kind):
        role = field.metadata.get(_ROLE, "")
        found[role].append(field.name)
        if role == "beside":
            found[""].append(field.name)
        if role in ("", "beside") and not field.metadata.get("hidden"):
            found["settings"].append(field.name)
    return found
