"""Dataclasses as plain content, as JSON and YAML hold it, and back.

The metadata of a field say what its type cannot:

- ``key``: its name in the content, if that is not its name in Python (a trailing underscore is dropped anyway);
- ``hidden``: it is not part of the content;
- ``sparse``: it is left out of the content where it has its default;
- ``older``: its value where the content does not have it, as that of older versions;
- ``build``: what makes its value of the content.

Arrays keep every bit: they are their bytes in base 64, with the kind of their numbers and their shape.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import dataclasses
import functools
import gc
import json
import math
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, TypeVar, Union, get_args, get_origin, get_type_hints

from MLTools.NanoML.errors import NanoMLError

T = TypeVar("T")
_UNIONS = (Union, getattr(types, "UnionType", Union))  # that of A | B, which Python 3.9 does not have
_WORDS = {int: "integer", float: "number", str: "text", bool: "boolean"}

DAMAGE = (OSError, KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, ArithmeticError)
"""The exceptions that reading a damaged file raises: `json`, `build`, and what looks into the content."""


@functools.cache
def _keys_of(cls: Any) -> tuple[tuple[dataclasses.Field[Any], str], ...]:
    """The fields of a dataclass that are part of the content, with their names there."""
    fields = (field for field in dataclasses.fields(cls) if not field.metadata.get("hidden"))
    return tuple((field, field.metadata.get("key", field.name.rstrip("_"))) for field in fields)


@functools.cache
def fields_of(cls: Any) -> tuple[tuple[dataclasses.Field[Any], str, Any], ...]:
    """The fields of a dataclass that are part of the content, with their names there and their types."""
    hints = get_type_hints(cls)
    return tuple((field, key, hints[field.name]) for field, key in _keys_of(cls))


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default of a field, or `dataclasses.MISSING`."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def optional(hint: Any) -> Any:
    """The X of Optional[X], which may be a union; None for any other hint."""
    inner = tuple(argument for argument in get_args(hint) if argument is not type(None))
    return Union[inner] if get_origin(hint) in _UNIONS and len(inner) < len(get_args(hint)) else None


def build(cls: type[T], content: Mapping[str, Any]) -> T:
    """Make an object of the dataclass `cls`; KeyError, TypeError, ValueError or AttributeError if the content is not one."""
    values = {}
    for field, key, hint in fields_of(cls):  # type: ignore[arg-type]  # classes are hashable
        if key in content:
            values[field.name] = (field.metadata.get("build") or _converter(hint))(content[key])
        elif "older" in field.metadata:
            values[field.name] = copy.copy(field.metadata["older"])
        elif default_of(field) is dataclasses.MISSING:
            raise KeyError(key)
    return cls(**values)


def parsed(text: str) -> Any:
    """The content of JSON; ValueError if it is damaged."""
    was_enabled = gc.isenabled()
    gc.disable()  # it would look again and again through all that is being made, of which nothing is garbage
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    finally:
        if was_enabled:
            gc.enable()


def content_of(path: Path) -> Any:
    """The content of a JSON file; OSError or ValueError if it is not there, or is damaged."""
    return parsed(path.read_text(encoding="utf-8"))


def read(cls: type[T], path: Path, remedy: str, schema: Optional[int] = None) -> T:
    """The object of the dataclass `cls` that a JSON file holds; if the file says its schema, it must be this one.

    Raises NanoMLError if the file is not there, is damaged, or of another version: it names the file, and `remedy` says what to do.
    """
    try:
        content = content_of(path)
        if schema is not None and content.get("schema", schema) != schema:
            raise NanoMLError(f"{path}: schema {content['schema']}, this NanoML reads {schema}. {remedy}")
        return build(cls, content)
    except FileNotFoundError:
        raise NanoMLError(f"{path}: no such file. {remedy}") from None
    except DAMAGE as problem:
        raise NanoMLError(f"{path}: is damaged ({type(problem).__name__}: {problem}). {remedy}") from None


def read_or_none(cls: type[T], path: Path, schema: Optional[int] = None) -> Optional[T]:
    """As `read`, but None where that fails."""
    with contextlib.suppress(NanoMLError):
        return read(cls, path, "", schema)
    return None


@functools.cache
def _converter(hint: Any) -> Callable[[Any], Any]:
    """The function that makes a value of a type from its plain content."""
    inner, kind = optional(hint), get_origin(hint)
    if inner is not None:
        convert = _converter(inner)
        return lambda value: None if value is None else convert(value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return functools.partial(build, hint)
    if kind in _UNIONS:  # of dataclasses, which differ in their keys, and a short form for one
        kinds = [each for each in get_args(hint) if isinstance(each, type) and dataclasses.is_dataclass(each)]
        return lambda value: build(_having(value, kinds), value) if kinds and isinstance(value, Mapping) else value
    if kind in (list, tuple):
        item = _converter(get_args(hint)[0])
        # a list of one may be written as its item
        return lambda value: kind(map(item, value if isinstance(value, (list, tuple)) else [value]))
    if kind is dict:
        of_key, of_item = map(_converter, get_args(hint))
        return lambda value: {of_key(key): of_item(each) for key, each in value.items()}
    if getattr(kind, "__name__", "") in ("NDArray", "ndarray"):  # the alias, or what it stood for until numpy 2.4
        return _array
    if hint is float:
        return lambda value: product(value) if isinstance(value, str) else float(value)
    if hint is bool:
        return _boolean
    return hint if hint in (int, str) else lambda value: value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value} is neither true nor false")
    return value


def _having(content: Mapping[str, Any], kinds: Sequence[type]) -> type:
    """The dataclass that has all keys of the content; the first one if none has."""
    return next((it for it in kinds if content.keys() <= {key for _, key in _keys_of(it)}), kinds[0])


def _array(content: Mapping[str, Any]) -> Any:
    import numpy as np  # whoever has arrays has imported it

    kind = np.dtype(content["dtype"])
    if kind.kind not in "biuf":
        raise ValueError(f"an array of {kind}")
    return np.frombuffer(base64.b64decode(content["base64"]), kind).reshape(content["shape"]).copy()


def misfits(value: object, hint: object, where: str, or_null: str = "") -> Iterator[tuple[str, str]]:
    """Where and why plain data do not have the form of a type."""
    inner, kind = optional(hint), get_origin(hint)
    if inner is not None:
        yield from () if value is None else misfits(value, inner, where, " or null")
    elif hint in _WORDS:
        kinds = (int, float) if hint is float else (hint,)
        if type(value) not in kinds or (isinstance(value, float) and not math.isfinite(value)):
            yield where, f"is {str(value)[:60]}, not {_WORDS[hint]}{or_null}"
    elif hint is not Any:
        is_list = kind in (list, tuple)
        if not isinstance(value, (dict, list)) or isinstance(value, list) != is_list:
            yield where, f"is {str(value)[:60]}, not {'a list' if is_list else 'an object'}"
        elif kind is None and isinstance(value, dict):
            for field_, key, each in fields_of(hint):
                if key in value:
                    yield from misfits(value[key], each, f"{where}.{key}")
                elif "older" not in field_.metadata and default_of(field_) is dataclasses.MISSING:
                    yield f"{where}.{key}", "is missing"
        else:
            of_item = get_args(hint)[0 if is_list else 1]
            for name, item in dict(enumerate(value) if isinstance(value, list) else value).items():
                yield from misfits(item, of_item, f"{where}.{name}")


def product(text: str) -> float:
    """The number that a product or quotient of numbers stands for, as 831.8 * 0.1061."""
    number = 1.0
    for operation, factor in re.findall("(^|[*/])([^*/]*)", text):
        number = number / float(factor) if operation == "/" else number * float(factor)
    return number


def plain(value: Any) -> Any:
    """Undo `build`: mappings, lists, text and numbers."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if type(value).__name__ == "ndarray":
        encoded = base64.b64encode(value.tobytes()).decode()
        return {"dtype": value.dtype.str, "shape": list(value.shape), "base64": encoded}
    if not dataclasses.is_dataclass(value):
        return value
    found = {}
    for field, key in _keys_of(type(value)):  # type: ignore[arg-type]
        item = getattr(value, field.name)
        if not field.metadata.get("sparse") or item != default_of(field):
            found[key] = plain(item)
    return found
