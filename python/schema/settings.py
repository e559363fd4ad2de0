"""Settings are fields of dataclasses, which say of themselves what they may be; and their JSON Schema.

By the schema editors complete settings, and documents are checked, in words for a physicist. A field's metadata says what its type
cannot, beside what `schema.plain` knows:

- ``doc``: what it is, for people;
- ``minimum``, ``maximum``, ``exclusiveMinimum``, ``exclusiveMaximum``, ``enum``, ``pattern`` (for the whole text),
  ``minItems``, ``uniqueItems``, ``examples``: as in JSON Schema; ``form``: the pattern in words, after "expected";
- ``or_number``: a text that may look like a whole number, as 2018;
- ``items``, ``names``: the same for the items of a list or mapping, and for the keys of a mapping.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin

from MLTools.NanoML.schema.plain import build, default_of, fields_of, optional, plain

if TYPE_CHECKING:
    from MLTools.NanoML.schema.document import Document, Keys, Problem

NAME = {
    "pattern": "[A-Za-z0-9_-][A-Za-z0-9._-]*",
    "form": 'letters, digits, "_", "-" and "." (not first), because files are named after it',
}
"""The form of the name of a dataset."""

BRANCH = {"pattern": "[A-Za-z_][A-Za-z0-9_]*", "form": "the name of a branch or of a selection's column"}
"""The form of the name of a branch or column."""

REGION = {"pattern": "[A-Za-z_][A-Za-z0-9_]*", "form": "a name of letters, digits and _, as in SR or CR_ZZ"}
"""The form of the name of a region."""

DATASET = {
    "pattern": r"/[A-Za-z0-9_*-][A-Za-z0-9._*-]*/[A-Za-z0-9._*-]+/[A-Z0-9*-]+",
    "form": "a name of the catalogue, /PRIMARY/PROCESSED/TIER, with * for any text",
}
"""The form of the name of a dataset in CMS's catalogue."""


PRODUCT = {
    "pattern": r" *{0}( *[*/] *{0})* *".format(r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"),
    "form": "a number, or a product or quotient of numbers, as in 831.8 * 0.1061",
}
"""The form of a number that is often the product of others."""

T = TypeVar("T")

_NAMES = {str: "string", int: "integer", float: "number", bool: "boolean"}
_CONSTRAINTS = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum", "minItems", "uniqueItems", "examples",
)  # fmt: skip
_KINDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": 'lines of the form "key: value"',
    "null": "nothing",
}
_LONGEST = 60


def setting(default: Any, doc: str = "", **metadata: Any) -> Any:
    """A field of a dataclass that is a setting; `...` as default says that the YAML file must give it.

    A class as default stands for a new instance of it. A section needs no `doc`: the docstring of its class describes it.
    """
    details = {"doc": doc, **metadata} if doc else metadata
    if default is None:
        details = {**details, "sparse": True}
    if default is ...:
        return dataclasses.field(metadata=details)
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=details)
    if isinstance(default, list):
        return dataclasses.field(default_factory=default.copy, metadata=details)
    return dataclasses.field(default=default, metadata=details)


def json_schema(cls: type) -> dict[str, Any]:
    """Make the JSON Schema (draft 7) of a dataclass.

    A list of one item may be written without its brackets. A mapping may be left empty, as it is when all its lines
    are comments.
    """
    properties, required = {}, []
    for field, key, hint in fields_of(cls):
        properties[key], default = _of_hint(hint, field.metadata), default_of(field)
        if default is dataclasses.MISSING:
            required.append(key)
        elif default is not None:
            properties[key]["default"] = plain(default)
    return {
        "description": inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0],
        "type": ["object", "null"],
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def parse(cls: type[T], document: Document, schema: Mapping[str, Any]) -> T:
    """Check a document against `schema`, which is that of `cls`, and build the object that it describes.

    Raises ConfigError if something is wrong; the message has a line for each mistake.
    """
    return build(cls, checked(document, schema))


def checked(document: Document, schema: Mapping[str, Any]) -> Any:
    """The data of a document that agrees with `schema`; an error with a line for each mistake if it does not."""
    data = _filled(document.data, schema)
    unreadable = {keys for keys, _ in document.problems}
    problems = [*document.problems, *(it for it in complaints(data, schema) if it[0] not in unreadable)]
    if problems:
        raise document.error(problems)
    return data


def _of_hint(hint: Any, metadata: Mapping[str, Any]) -> dict[str, Any]:
    inner = optional(hint)
    if inner is not None:
        schema = _of_hint(inner, metadata)
        return {**schema, "type": list(dict.fromkeys([*_as_list(schema["type"]), "null"]))}
    if get_origin(hint) is Union:
        kinds = [_of_hint(kind, metadata) for kind in get_args(hint)]
        types = [name for kind in kinds for name in _as_list(kind["type"])]
        return {**kinds[-1], **kinds[0], "type": list(dict.fromkeys(types))}
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
    kind: Any = ["string", "number"] if hint is float and "pattern" in metadata else _NAMES[hint]
    kind = ["string", "integer"] if "or_number" in metadata else kind
    return {"type": kind, **filled, **_details(metadata)}


def _details(metadata: Mapping[str, Any]) -> dict[str, Any]:
    details = {name: metadata[name] for name in _CONSTRAINTS if name in metadata}
    if "enum" in details:
        details["enum"] = list(details["enum"])
    if "doc" in metadata:
        details["description"] = metadata["doc"]
    if "pattern" in metadata:
        details["pattern"] = f"^(?:{metadata['pattern']})$"
        # what the YAML language server shows in an editor
        details["patternErrorMessage"] = f"expected {metadata['form']}"
    return details


def _as_list(types: Any) -> list[str]:
    return list(types) if isinstance(types, list) else [types]


def _filled(data: Any, schema: Mapping[str, Any]) -> Any:
    """Replace each null that stands for a mapping without entries by an empty mapping."""
    if data is None and "object" in _as_list(schema.get("type")):
        return {}
    if not isinstance(data, dict):
        return data
    properties, others = schema.get("properties", {}), schema.get("additionalProperties") or {}
    return {key: _filled(value, properties.get(key, others)) for key, value in data.items()}


def complaints(data: Any, schema: Mapping[str, Any]) -> list[Problem]:
    """All that is wrong with `data` by a schema of `json_schema`, each with the path to the value.

    NaN and infinities do not count as numbers.
    """
    errors = _validator()(schema).iter_errors(data)
    return list(dict.fromkeys(problem for error in errors for problem in _explain(error, schema)))


@functools.cache
def _validator() -> Any:
    from jsonschema import Draft7Validator, validators  # a third of the time that reading a configuration takes

    types = Draft7Validator.TYPE_CHECKER.redefine("number", _is_number)
    return validators.extend(Draft7Validator, type_checker=types)  # type: ignore[no-untyped-call]


def _is_number(_: Any, value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the known word that was probably meant, or else all."""
    names = list(known)
    folded = {name.lower(): name for name in reversed(names)}
    close = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.7)
    close = close or sorted((name for name in folded if _begins(word.lower(), name)), key=len)
    if close:
        return f'Did you mean "{folded[close[0]]}"?'
    return f"Known: {', '.join(names)}." if names else "There is none."


def unknown(place: Keys, word: str, known: Collection[str], what: str) -> Iterator[Problem]:
    """That a word is none of those known, if it is none; `what` says what it should be, as "a class" or "one of `regions`"."""
    if word not in known:
        yield place, f'"{word}" is not {what}. {suggestion(word, known)}'


def _begins(one: str, other: str) -> bool:
    """Whether one of two words begins with the other, as lumi and luminosity do."""
    return min(len(one), len(other)) >= 3 and (one.startswith(other) or other.startswith(one))


def _explain(error: Any, root: Mapping[str, Any]) -> Iterator[Problem]:
    keys, value, schema = tuple(error.absolute_path), error.instance, error.schema
    if "propertyNames" in error.absolute_schema_path:
        yield (*keys, value), f"{_shown(value)} cannot be a name: {schema['patternErrorMessage']}"
    elif error.validator == "additionalProperties":
        for key in value:
            free = any(re.search(pattern, key) for pattern in schema.get("patternProperties", {}))
            if key not in schema["properties"] and not free:
                yield (*keys, key), _unknown_key(key, schema["properties"], root)
    elif error.validator == "required":
        for key in schema["required"]:
            if key not in value:
                examples = schema["properties"][key].get("examples")
                yield ((*keys, key), "missing. Add it" + (f', as in "{key}: {examples[0]}"' if examples else ""))
    elif error.validator == "enum":
        if not isinstance(value, str):
            return  # then its type is wrong, too
        article = "an" if str(keys[-1])[:1] in "aeiou" else "a"
        yield keys, f"{_shown(value)} is not {article} {keys[-1]}. {suggestion(str(value), schema['enum'])}"
    elif error.validator == "uniqueItems":
        double = next(item for position, item in enumerate(value) if item in value[:position])
        yield keys, f"{_shown(double)} is listed twice"
    elif error.validator == "type":
        is_product = _types(schema) == ["string", "number"]
        expected = schema["patternErrorMessage"] if is_product else f"expected {_kind(schema)}"
        yield keys, f"{expected}, got {_shown(value)}{'' if is_product else _remedy(value, schema)}"
    else:
        yield keys, f"{_expectation(error)}, got {_shown(value)}"


def _expectation(error: Any) -> str:
    limit, number = error.validator_value, _KINDS[_types(error.schema)[-1]]
    words = {
        "pattern": str(error.schema.get("patternErrorMessage")),
        "minLength": "expected text",
        "minItems": f"expected at least {limit} item{'s' if limit != 1 else ''}",
        "minimum": f"expected {number} of at least {limit}",
        "maximum": f"expected {number} of at most {limit}",
        "exclusiveMinimum": f"expected {number} above {limit}",
        "exclusiveMaximum": f"expected {number} below {limit}",
    }
    return words[str(error.validator)]


def _unknown_key(key: str, known: Iterable[str], root: Mapping[str, Any]) -> str:
    """Say where a key belongs: an exact match elsewhere says more than a similar name here."""
    sections = root["properties"]
    if key in sections:
        return "unknown key here. It belongs at the start of a line: check the indentation"
    homes = [name for name, section in sections.items() if key in section.get("properties", {})]
    if len(homes) == 1:
        return f'unknown key here. It belongs in "{homes[0]}": check the indentation'
    return f"unknown key. {suggestion(key, known)} {root.get('$comment', '')}".rstrip()


def _types(schema: Mapping[str, Any]) -> list[str]:
    return [kind for kind in _as_list(schema["type"]) if kind != "null"]


def _kind(schema: Mapping[str, Any]) -> str:
    """The kind that is expected; a list of one may be written as its item."""
    types = _types(schema)
    return f"{_KINDS[types[1]]} or a list of them" if types[0] == "array" else _KINDS[types[0]]


def _remedy(value: Any, schema: Mapping[str, Any]) -> str:
    kind = _kind(schema)
    if kind.startswith("text") and isinstance(value, (bool, int, float)):
        return ". If it is meant as text, put it in quotes"
    if kind == "true or false" and str(value).lower() in ("yes", "on", "no", "off"):
        return f". Write {'true' if str(value).lower() in ('yes', 'on') else 'false'}"
    if kind.endswith("number") and isinstance(value, str) and value.replace(".", "", 1).isdecimal():
        return ". Remove the quotes"
    return ""


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, (list, dict)):
        kind = "list" if isinstance(value, list) else "mapping"
        return f"a {kind}" if value else f"an empty {kind}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]}..." + '"' * text.startswith('"')
