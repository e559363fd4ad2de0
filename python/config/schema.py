"""The settings that a YAML document may hold, described once, as dataclasses.

From the dataclasses follow a JSON Schema, by which editors complete and documents are checked, and the typed objects
themselves. A field's metadata says what its type cannot:

- ``doc``: what it is, for people;
- ``key``: its name in YAML, where that is not a name in Python (a trailing underscore is dropped anyway);
- ``minimum``, ``maximum``, ``exclusiveMinimum``, ``exclusiveMaximum``, ``enum``, ``pattern`` (of the whole text),
  ``minItems``, ``uniqueItems``, ``examples``: as in JSON Schema; ``form``: the pattern in words, after "expected";
- ``items``, ``names``: the same for the items of a list or mapping, and for the keys of a mapping;
- ``hidden``: no setting, but something the program notes.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin

from MLTools.NanoML.config.complaints import complaints
from MLTools.NanoML.config.document import Document
from MLTools.NanoML.settings import build, optional, plain, settings_of

__all__ = ["json_schema", "parse"]

T = TypeVar("T")

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}
_CONSTRAINTS = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "enum",
    "minItems",
    "uniqueItems",
    "examples",
)


def json_schema(cls: type) -> dict[str, Any]:
    """Make the JSON Schema (draft 7) of a dataclass.

    A list of one may be written without its brackets. A mapping without any entry may be written as nothing at all,
    as it is when all its lines are comments.
    """
    properties, required = {}, []
    for field, key, hint in settings_of(cls):
        properties[key] = {**_of_hint(hint, field.metadata), **_default(field)}
        if _is_required(field):
            required.append(key)
    return {
        "description": inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0],
        "type": ["object", "null"],
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def parse(cls: type[T], document: Document, schema: Mapping[str, Any]) -> T:
    """Check a document against `schema`, which is that of `cls`, and build the object that it describes.

    Raises
    ------
    ConfigError
        Something is wrong; all that is wrong is in the message, a line each.
    """
    data = _filled(document.data, schema)
    unreadable = {keys for keys, _ in document.problems}
    problems = [*document.problems, *(it for it in complaints(data, schema) if it[0] not in unreadable)]
    if problems:
        raise document.error(problems)
    return build(cls, data)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _default(field: dataclasses.Field[Any]) -> dict[str, Any]:
    if field.default_factory is not dataclasses.MISSING:
        return {"default": plain(field.default_factory())}
    return {} if field.default in (dataclasses.MISSING, None) else {"default": field.default}


def _of_hint(hint: Any, metadata: Mapping[str, Any]) -> dict[str, Any]:
    inner = optional(hint)
    if inner is not None:
        schema = _of_hint(inner, metadata)
        return {**schema, "type": list(dict.fromkeys([*_as_list(schema["type"]), "null"]))}
    if get_origin(hint) is Union:
        kinds = [_of_hint(kind, metadata) for kind in get_args(hint)]
        return {**kinds[0], "type": [kind["type"] for kind in kinds]}
    if dataclasses.is_dataclass(hint):
        return {**json_schema(hint), **_details(metadata)}  # type: ignore[arg-type]
    if get_origin(hint) is list:
        item = _of_hint(get_args(hint)[0], metadata.get("items", {}))
        return {**item, "type": ["array", item["type"]], "items": item, **_details(metadata)}
    if get_origin(hint) is dict:
        names = {"propertyNames": _details(metadata["names"])} if "names" in metadata else {}
        entry = _of_hint(get_args(hint)[1], metadata.get("items", {}))
        return {"type": ["object", "null"], "additionalProperties": entry, **names, **_details(metadata)}
    if hint is Any:
        return _details(metadata)
    filled = {"minLength": 1} if hint is str else {}
    return {"type": _TYPES[hint], **filled, **_details(metadata)}


def _details(metadata: Mapping[str, Any]) -> dict[str, Any]:
    details = {name: metadata[name] for name in _CONSTRAINTS if name in metadata}
    if "enum" in details:
        details["enum"] = list(details["enum"])
    if "doc" in metadata:
        details["description"] = metadata["doc"]
    if "pattern" in metadata:
        details["pattern"] = f"^(?:{metadata['pattern']})$"
        # The word that the YAML language server shows in an editor.
        details["patternErrorMessage"] = f"expected {metadata['form']}"
    return details


def _as_list(types: Any) -> list[str]:
    return list(types) if isinstance(types, list) else [types]


def _filled(data: Any, schema: Mapping[str, Any]) -> Any:
    """Make each mapping without entries, which YAML takes for null, an empty one."""
    if data is None and "object" in _as_list(schema.get("type")):
        return {}
    if not isinstance(data, dict):
        return data
    properties, others = schema.get("properties", {}), schema.get("additionalProperties") or {}
    return {key: _filled(value, properties.get(key, others)) for key, value in data.items()}
