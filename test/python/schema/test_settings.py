"""Dataclasses as JSON Schema, and documents checked against it and built from it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Optional

import jsonschema
import pytest

from MLTools.NanoML.config.fit import Fit, log_normal
from MLTools.NanoML.corrections.evaluation import CLAMPED
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.schema.document import Document
from MLTools.NanoML.schema.plain import plain
from MLTools.NanoML.schema.settings import PRODUCT, json_schema, parse, setting


@dataclass(frozen=True)
class Wheel:
    """A wheel.

    Not shown.
    """

    size: float = setting(..., "Diameter [cm].", exclusiveMinimum=0, examples=[66])
    spokes: int = setting(32, minimum=0, maximum=64)


@dataclass(frozen=True)
class Bicycle:
    """A bicycle."""

    wheels: dict[str, Wheel] = setting(dict, names={"pattern": "[a-z]+", "form": "small letters"})
    spare: Optional[Wheel] = setting(None)
    class_: str = setting("city", enum=("city", "race"))
    is_new: bool = setting(False, key="new")
    gears: list[int] = setting([1], items={"minimum": 1}, uniqueItems=True, minItems=1)
    owner: Optional[str] = setting(None)
    load: float = setting(0.0, minimum=0, exclusiveMaximum=100)
    order: Optional[str] = setting("-size", pattern="-?[a-z]+", form="a field")
    notes: str = setting("none", hidden=True)


SCHEMA = json_schema(Bicycle)


def bicycle(text: str) -> Bicycle:
    return parse(Bicycle, Document.parse(text, "b.yaml"), SCHEMA)


def message(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        bicycle(text)
    return str(caught.value)


def test_schema_is_one_and_explains() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["description"] == "A bicycle."
    names = ["wheels", "spare", "class", "new", "gears", "owner", "load", "order"]
    assert list(SCHEMA["properties"]) == names
    wheel = SCHEMA["properties"]["spare"]
    assert wheel["description"] == "A wheel."
    assert wheel["required"] == ["size"]
    size, gears = wheel["properties"]["size"], dict(SCHEMA["properties"]["gears"])
    assert size == {"type": "number", "description": "Diameter [cm].", "exclusiveMinimum": 0, "examples": [66]}
    assert (gears.pop("type"), gears.pop("items")) == (["array", "integer"], {"type": "integer", "minimum": 1})
    assert gears == {"minimum": 1, "minItems": 1, "uniqueItems": True, "default": [1]}
    assert SCHEMA["properties"]["order"]["patternErrorMessage"] == "expected a field"


def test_defaults() -> None:
    assert bicycle("{}") == Bicycle()
    assert Bicycle().gears is not Bicycle().gears


def test_values_become_what_the_hints_say() -> None:
    built = bicycle(
        "wheels: {front: {size: 66}}\ngears: 7\nnew: true\nload: 5\nclass: race\nspare: {size: 1, spokes: 3.0}"
    )
    assert built == Bicycle({"front": Wheel(66.0)}, Wheel(1.0, 3), "race", True, [7], None, 5.0)
    assert isinstance(built.wheels["front"].size, float)
    assert built.spare is not None
    assert isinstance(built.spare.spokes, int)
    assert isinstance(built.load, float)


def test_what_has_no_entries_may_be_left_blank() -> None:
    assert bicycle("wheels:\n") == Bicycle()
    assert message("spare:\n") == 'b.yaml:1: spare.size: missing. Add it, as in "size: 66".'
    assert bicycle("order:\nowner:\n") == Bicycle(order=None)


def test_plain_is_the_inverse() -> None:
    built = bicycle("wheels: {front: {size: 66}}\norder: null\nclass: race")
    data = plain(built)
    wheels = {"front": {"size": 66.0, "spokes": 32}}
    assert data == {"wheels": wheels, "class": "race", "new": False, "gears": [1], "load": 0.0, "order": None}
    assert parse(Bicycle, Document("b.yaml", data), SCHEMA) == built


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a", '1: expected lines of the form "key: value", got a list.'),
        ("geers: 1", '1: geers: unknown key. Did you mean "gears"?'),
        ("Gears: 1", '1: Gears: unknown key. Did you mean "gears"?'),
        ("zz: 1", "1: zz: unknown key. Known: wheels, spare, class, new, gears, owner, load, order."),
        ("spokes: 1", '1: spokes: unknown key here. It belongs in "spare": check the indentation.'),
        (
            "spare:\n  size: 1\n  gears: 1",
            "3: spare.gears: unknown key here. It belongs at the start of a line: check the indentation.",
        ),
        ("wheels:\n  f:\n    spokes: 3", '2: wheels.f.size: missing. Add it, as in "size: 66".'),
        ("wheels: {F: {size: 1}}", '1: wheels.F: "F" cannot be a name: expected small letters.'),
        ("class: cit", '1: class: "cit" is not a class. Did you mean "city"?'),
        ("class: moped", '1: class: "moped" is not a class. Known: city, race.'),
        ("owner: ''", '1: owner: expected text, got "".'),
        ("owner: true", "1: owner: expected text, got true. If it is meant as text, put it in quotes."),
        ("owner: [a]", "1: owner: expected text, got a list."),
        ("new: yes", '1: new: expected true or false, got "yes". Write true.'),
        ("new: off", '1: new: expected true or false, got "off". Write false.'),
        ("new: 1", "1: new: expected true or false, got 1."),
        ("load: much", '1: load: expected a number, got "much".'),
        ("load: '5'", '1: load: expected a number, got "5". Remove the quotes.'),
        ("load: .nan", "1: load: expected a number, got NaN."),
        ("load: 1e999", "1: load: expected a number, got Infinity."),
        ("load: true", "1: load: expected a number, got true."),
        ("load: -1", "1: load: expected a number of at least 0, got -1."),
        ("load: 100", "1: load: expected a number below 100, got 100."),
        ("load:", "1: load: expected a number, got nothing."),
        ("gears: 1.5", "1: gears: expected a whole number or a list of them, got 1.5."),
        ("gears:\n- 1\n- 0", "3: gears[1]: expected a whole number of at least 1, got 0."),
        ("gears: []", "1: gears: expected at least 1 item, got an empty list."),
        ("gears: [1, 2, 1]", "1: gears: 1 is listed twice."),
        ("spare: {size: 0}", "1: spare.size: expected a number above 0, got 0."),
        ("spare: {size: 1, spokes: 65}", "1: spare.spokes: expected a whole number of at most 64, got 65."),
        ("order: '1'", '1: order: expected a field, got "1".'),
        ("owner: {a: b}", "1: owner: expected text, got a mapping."),
        ("class: " + "x" * 99, f'1: class: "{"x" * 55}..." is not a class. Known: city, race.'),
    ],
)
def test_mistakes(text: str, expected: str) -> None:
    assert message(text) == f"b.yaml:{expected}"


def test_all_mistakes_are_told_at_once() -> None:
    text = "gears: 0\nload: x\nnew: 1\nload: 3\n"
    assert message(text).splitlines() == [
        "b.yaml:1: gears: expected a whole number of at least 1, got 0.",
        "b.yaml:2: load: duplicate key, again on line 4. Remove one.",
        "b.yaml:3: new: expected true or false, got 1.",
    ]
    assert len(message('order: "a\\u200b"').splitlines()) == 1  # an unreadable value is not complained about twice


def test_free_keys_are_not_unknown() -> None:
    schema: dict[str, Any] = {**SCHEMA, "patternProperties": {"^x-": {}}}
    document = Document.parse("x-a: &a {size: 1}\nspare: *a", "b.yaml")
    assert parse(Bicycle, document, schema) == Bicycle(spare=Wheel(1.0))
    with pytest.raises(ConfigError, match=r"spare\.x-a: unknown key"):
        parse(Bicycle, Document.parse("spare: {size: 1, x-a: 1}", "b.yaml"), schema)


@pytest.mark.parametrize("text", ["0/90e" * 20_000, " " * 20_000, "0.5 *" * 20_000, "9" * 20_000 + "x"])
def test_no_text_takes_long(text: str) -> None:
    """To tell that it is no product, percentage or name takes a time that grows with its length, not with its square or power."""
    names = [it.metadata["names"]["pattern"] for it in fields(Fit) if "names" in it.metadata]
    assert [it for it in (PRODUCT["pattern"], *names) if re.fullmatch(it, f"{text}**")] == []
    assert not CLAMPED.fullmatch(f"{'__pt' * 20_000}{text}*")
    with pytest.raises(ValueError, match="takes a percentage"):
        log_normal(f"-9.9{text}\t -9.9\t{text}")
