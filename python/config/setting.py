"""Settings are fields of dataclasses, which say of themselves what they may be.

A field's metadata says what its type cannot:

- ``doc``: what it is, for people;
- ``key``: its name in YAML, if that is not its name in Python (a trailing underscore is dropped anyway);
- ``minimum``, ``maximum``, ``exclusiveMinimum``, ``exclusiveMaximum``, ``enum``, ``pattern`` (for the whole text),
  ``minItems``, ``uniqueItems``, ``examples``: as in JSON Schema; ``form``: the pattern in words, after "expected";
- ``items``, ``names``: the same for the items of a list or mapping, and for the keys of a mapping;
- ``hidden``: not a setting, but something that the program notes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

NAME = {
    "pattern": "[A-Za-z0-9_-][A-Za-z0-9._-]*",
    "form": 'letters, digits, "_", "-" and "." (not first), because files are named after it',
}
"""What the name of a dataset may be."""

BRANCH = {"pattern": "[A-Za-z_][A-Za-z0-9_]*", "form": "the name of a branch or of a selection's column"}
"""What the name of a branch or column may be."""

DATASET = {
    "pattern": r"/[A-Za-z0-9_*-][A-Za-z0-9._*-]*/[A-Za-z0-9._*-]+/[A-Z0-9*-]+",
    "form": "a name of the catalogue, /PRIMARY/PROCESSED/TIER, with * for any text",
}
"""What the name of a dataset in CMS's catalogue may be."""


def setting(default: Any, doc: str = "", **metadata: Any) -> Any:
    """A field of a dataclass that is a setting; `...` as default says that the YAML file must give it.

    A class as default stands for a new instance of it. A section needs no `doc`: the docstring of its class describes it.
    """
    details = {"doc": doc, **metadata} if doc else metadata
    if default is ...:
        return dataclasses.field(metadata=details)
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=details)
    if isinstance(default, list):
        return dataclasses.field(default_factory=default.copy, metadata=details)
    return dataclasses.field(default=default, metadata=details)


def build(cls: type[T], data: Mapping[str, Any]) -> T:
    """Make an object of the dataclass `cls` from data that its schema allows."""
    known = {field.name: (key, hint) for field, key, hint in settings_of(cls)}
    return cls(**{name: _typed(hint, data[key]) for name, (key, hint) in known.items() if key in data})


def plain(value: Any) -> Any:
    """Undo `build`: mappings, lists, text and numbers. A None that is the default is left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        entries = ((key, getattr(value, field.name), field.default) for field, key, _ in settings_of(type(value)))
        return {key: plain(item) for key, item, default in entries if not (item is None and default is None)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def settings_of(cls: Any) -> Iterator[tuple[dataclasses.Field[Any], str, Any]]:
    """The fields of a dataclass that are settings, with their names in YAML and their types."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if not field.metadata.get("hidden"):
            yield field, field.metadata.get("key", field.name.rstrip("_")), hints[field.name]


def optional(hint: Any) -> Any:
    """The X of Optional[X]; None for any other hint."""
    inner = [argument for argument in get_args(hint) if argument is not type(None)]
    return inner[0] if get_origin(hint) is Union and len(inner) == 1 else None


def _typed(hint: Any, value: Any) -> Any:
    inner = optional(hint)
    if inner is not None:
        return None if value is None else _typed(inner, value)
    if dataclasses.is_dataclass(hint):
        return build(hint, value)  # type: ignore[arg-type]
    if get_origin(hint) is list:
        return [_typed(get_args(hint)[0], item) for item in (value if isinstance(value, list) else [value])]
    if get_origin(hint) is dict:
        return {key: _typed(get_args(hint)[1], item) for key, item in value.items()}
    return hint(value) if hint in (int, float) else value
