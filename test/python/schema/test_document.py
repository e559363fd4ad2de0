"""YAML documents: what plain words mean, where values stand, and what is said about mistakes."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Optional

import jsonschema
import pytest

from MLTools.NanoML.config.fit import Fit, log_normal
from MLTools.NanoML.corrections.evaluation import CLAMPED
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.schema import document
from MLTools.NanoML.schema.document import Document, dotted
from MLTools.NanoML.schema.plain import plain
from MLTools.NanoML.schema.settings import PRODUCT, json_schema, parse, setting


def data(text: str) -> Any:
    document = Document.parse(text, "a.yaml")
    assert document.problems == ()
    return document.data


def message(text: str) -> str:
    try:
        document = Document.parse(text, "a.yaml")
    except ConfigError as error:
        return str(error)
    return str(document.error(document.problems))


@pytest.mark.parametrize(
    "words",
    [
        {it: it for it in ("no", "Off", "y", "yes", "2018-01-01", "12:30", "_1", "nan", "<<", "1.2.3", "MET_*", "-pt")},
        {"root://host//store/a.root": "root://host//store/a.root", "'5'": "5", "!!str 5": "5"},
        {"true": True, "False": False, "~": None, "null": None, "": None},
        {"5": 5, "-5": -5, "017": 17, "0x1f": 31, "0o17": 15, "1_000": 1000},
        {"1e-3": 1e-3, "1E5": 1e5, "-.5": -0.5, "1.": 1.0, "1_000.5": 1000.5, "!!float 5": 5.0},
        {".inf": math.inf, "-.INF": -math.inf},
    ],
)
def test_words(words: dict[str, object]) -> None:
    for word, value in words.items():
        read = data(f"key: {word}")
        assert read == {"key": value}
        assert type(read["key"]) is type(value), word


def test_keys_are_text_as_written() -> None:
    assert math.isnan(data("[.nan]")[0])
    assert data("no: 1\n2018: 2\n1e3: 3\nnull: 4\n") == {"no": 1, "2018": 2, "1e3": 3, "null": 4}


def test_anchors_and_merge_keys() -> None:
    read = data("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: *a, y: 5}\nd: {<<: [*a, *b], w: 6}\ne: *a\n")
    assert read["c"] == {"x": 1, "y": 5}
    assert read["d"] == {"x": 1, "y": 2, "z": 4, "w": 6}
    assert read["e"] == read["a"]
    document = Document.parse("a: &a\n  x: 1\nb:\n  <<: *a\n  y: 2\n", "a.yaml")
    # merged values stand where they were written
    assert (document.where("b", "x"), document.where("b", "y")) == ("a.yaml:2", "a.yaml:5")


def test_where_falls_back_to_what_is_around() -> None:
    document = Document.parse("# comment\na:\n  b:\n    - 1\n    - c: 2\n", "a.yaml")
    assert document.where("a") == "a.yaml:2"
    assert document.where("a", "b", 1, "c") == "a.yaml:5"
    assert document.where("a", "b", 7) == "a.yaml:3"
    assert document.where("z") == document.where() == "a.yaml:2"
    assert Document("configuration").where("a") == "configuration"


def test_errors_come_in_the_order_of_the_file_each_once() -> None:
    document = Document.parse("a: 1\nb: 2\n", "a.yaml")
    problems = [(("b",), "is wrong"), (("a",), "why?"), (("b",), "is wrong")]
    assert str(document.error(problems)) == "a.yaml:1: a: why?\na.yaml:2: b: is wrong."
    assert dotted(("convert", "features", 3)) == "convert.features[3]"
    assert dotted(()) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("", "a.yaml: the file is empty."), ("# nothing\n", "a.yaml: the file is empty.")),
        ("a:\n\tb: 1\n", "a.yaml:2: YAML does not allow tabs for indentation, use spaces."),
        ("a:\n  b: 1\n  \tc: 1\n", "a.yaml:3: YAML does not allow tabs for indentation, use spaces."),
        ("a:\tb\n", "a.yaml:1: YAML does not allow a tab here, use spaces."),
        ("a:1\nb:\n  c: 1\n", 'a.yaml:1: write "key: value", with a space after the colon.'),
        ("a: 1\nb\n", "a.yaml:2:1: not valid YAML: could not find expected ':'. Write \"key: value\""),
        ("a: b: c\n", "a.yaml:1:5: not valid YAML: mapping values are not allowed here. Check the indent"),
        ("a:\n   b: 1\n  c: 1\n", "a.yaml:3:3: not valid YAML: expected <block end>"),
        ("a: *.root\n", "a.yaml:1:5: not valid YAML: expected alphabetic"),
        ("a: [*_pt]\n", 'Text that begins with "*" must be in quotes.'),
        *(("a: [b, c\n", 'Is a "]" or a comma missing?'), ("a: {b: c\n", 'Is a "}" or a comma missing?')),
        *(("a: 'b\n", "Is a closing quote missing?"), ("a: @b\n", "Put this text in quotes.")),
        ("a: 1\n---\nb: 1\n", "a.yaml:2:1: not valid YAML: found another document. One file holds one configuration"),
        ("a: &x 1\nb: &x 2\n", "This anchor's name is taken"),
        ("a: 1\nb: 2\na: 3\n", "a.yaml:1: a: duplicate key, again on line 3. Remove one."),
        ("a: !!python/object:os.system x\n", "python/object:os.system is a tag that is not allowed here"),
        ("a: !!set {b}\n", "a.yaml:1: a: tag:yaml.org,2002:set is a tag that is not allowed here. Remove it."),
        ("a: !Jet_pt\n", "a.yaml:1: a: !Jet_pt is a tag that is not allowed here. Remove it, or put the text in quot"),
        ("a: !!int b\n", "is a tag that is not allowed here"),
        ("a:\n  ? [b]\n  : c\n", "a.yaml:2: a.?: a list or mapping cannot be a key."),
        ("a:\n  <<: 3\n", 'a.yaml:2: a.<<: takes the alias of a mapping, as in "<<: *name".'),
        ("a: |\n  b\n  c\n", 'a.yaml:1: a: expected one line of text. For a list, begin each item with "- ".'),
        ('a: "b\\u200b"\n', "a.yaml:1: a: contains the invisible character U+200B. Remove it."),
        *(('a: "\\ud800"\n', "U+D800"), ('a: "\\0"\n', "U+0000")),
        ("b: 1\na: \x07\n", "a.yaml:2: contains the invisible character U+0007. Remove it."),
        ('a: "\\UFFFFFFFF"\n', "escape is not a character"),
        (f"a: {10**20}\n", "a.yaml:1: a: this number is too large."),
        (f"a: {'9' * 5000}\n", "a.yaml:1: a: this number is too large."),
        ("a: &a [*a]\n", "a.yaml:1: an alias refers to the value that contains it."),
        *(("a: &a {<<: *a}\n", "nested too deeply"), pytest.param("- " * 1500, "nested too deeply", id="deep")),
    ],
)
def test_mistakes(text: str, expected: str) -> None:
    assert expected in message(text)
    assert "\n" not in message(text)


@pytest.mark.parametrize("form", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_cannot_fill_the_memory(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "_MOST_VALUES", 2000)  # which is soon reached
    levels = ["a0: &a0 {x: 1}"]
    levels += [f"a{n}: &a{n} " + form.format(", ".join([f"*a{n - 1}"] * 20)) for n in range(1, 9)]
    assert "more than 2000 values once all aliases are followed" in message("\n".join(levels))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def said(path: Path | str) -> str:
        with pytest.raises(ConfigError) as caught:
            Document.read(path)
        return str(caught.value)

    assert said(tmp_path / "none.yaml") == f"{tmp_path}/none.yaml: no such file."
    assert said(tmp_path) == f"{tmp_path}: is a directory. Give the YAML file in it."
    assert "is not a file name" in said("a\0b")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("a: 1\nb: Müller".encode("latin-1"))
    assert said(latin).startswith(f"{latin}:2: is not UTF-8 text.")
    assert "cannot be read: not a directory." in said(latin / "below")
    big = tmp_path / "big.yaml"
    with big.open("wb") as file:
        file.truncate(1 << 25)
    assert "larger than 16 MiB" in said(big)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1")
    path.chmod(0)
    with pytest.raises(ConfigError, match="cannot be read: permission denied"):
        Document.read(path)


def test_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    document = Document.read(path)
    assert document.data == {"a": 1, "b": 2}
    assert document.where("b") == f"{path}:2"


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


def message_of_setting(text: str) -> str:
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


def test_values_become_what_the_hints_say() -> None:
    wheels = "wheels: {front: {size: 66}}\nspare: {size: 1, spokes: 3.0}\n"
    built = bicycle(f"{wheels}gears: 7\nnew: true\nload: 5\nclass: race")
    assert built == Bicycle({"front": Wheel(66.0)}, Wheel(1.0, 3), "race", True, [7], None, 5.0)
    assert isinstance(built.wheels["front"].size, float)
    assert built.spare is not None
    assert isinstance(built.spare.spokes, int)
    assert isinstance(built.load, float)


def test_what_has_no_entries_may_be_left_blank() -> None:
    assert bicycle("{}") == bicycle("wheels:\n") == Bicycle()
    assert Bicycle().gears is not Bicycle().gears
    assert message_of_setting("spare:\n") == 'b.yaml:1: spare.size: missing. Add it, as in "size: 66".'
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
def test_mistakes_in_settings(text: str, expected: str) -> None:
    assert message_of_setting(text) == f"b.yaml:{expected}"


def test_all_mistakes_are_told_at_once() -> None:
    text = "gears: 0\nload: x\nnew: 1\nload: 3\n"
    assert message_of_setting(text).splitlines() == [
        "b.yaml:1: gears: expected a whole number of at least 1, got 0.",
        "b.yaml:2: load: duplicate key, again on line 4. Remove one.",
        "b.yaml:3: new: expected true or false, got 1.",
    ]
    # an unreadable value is not complained about twice
    assert len(message_of_setting('order: "a\\u200b"').splitlines()) == 1


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
