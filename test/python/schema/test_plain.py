from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.plain import build, plain, read, read_or_none
from MLTools.NanoML.schema.roles import BESIDE, CORE, HOW, READS, WRITES, decisive, describe


@dataclass(frozen=True)
class Muon:
    pt: float
    charge: Optional[int] = field(default=None, metadata={"sparse": True})


@dataclass(frozen=True)
class Event:
    class_: str
    muons: tuple[Muon, ...]
    weights: dict[str, list[float]] = field(metadata={"key": "sums", "older": {}})
    file: str = field(default="here", metadata={"hidden": True})


EVENT = Event("signal", (Muon(20.5), Muon(10.0, -1)), {"a": [1.0, 2.0]}, "there")
MUONS: list[Any] = [{"pt": 20.5}, {"pt": 10.0, "charge": -1}]
CONTENT = {"class": "signal", "muons": MUONS, "sums": {"a": [1.0, 2.0]}}


def test_what_is_plain_is_json_and_can_be_built_again() -> None:
    assert plain(EVENT) == CONTENT
    assert build(Event, json.loads(json.dumps(CONTENT))) == Event(EVENT.class_, EVENT.muons, EVENT.weights)


def test_older_content_and_short_forms_are_understood() -> None:
    found = build(Event, {"class": "signal", "muons": {"pt": 20}, "unknown": 1})
    assert found == Event("signal", (Muon(20.0),), {})
    assert isinstance(found.muons[0].pt, float)


def test_other_content_is_an_error() -> None:
    for content in ({"muons": []}, {"class": "signal"}, {"class": "signal", "muons": [{}]}):
        with pytest.raises(KeyError):
            build(Event, content)
    blank = [{"pt": ""}], [{"pt": " " * 100_000}]
    for muons, error in (([{"pt": "large"}], ValueError), *((it, ValueError) for it in blank), ([3], TypeError)):
        with pytest.raises(error):
            build(Event, {"class": "signal", "muons": muons})
    with pytest.raises(AttributeError):
        build(Event, {"class": "signal", "muons": [], "sums": []})


@dataclass(frozen=True)
class Note:
    text: str


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"note.json: no such file. Make it."),
        ("{", r"note.json: is damaged \(JSONDecodeError: .*\). Make it."),
        ("[]", r"note.json: is damaged \(AttributeError: .*\). Make it."),
        ("[" * 100_000, r"note.json: is damaged \(ValueError: it is nested too deeply\). Make it."),
        ('{"schema": 2}', r"note.json: is damaged \(KeyError: 'text'\). Make it."),
        ('{"schema": 1, "text": ""}', r"note.json: schema 1, this NanoML reads 2. Make it."),
    ],
)
def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path, content: Optional[str], message: str) -> None:
    if content is not None:
        (tmp_path / "note.json").write_text(content)
    with pytest.raises(NanoMLError, match=message):
        read(Note, tmp_path / "note.json", "Make it.", schema=2)
    assert read_or_none(Note, tmp_path / "note.json", schema=2) is None


def test_a_file_may_say_its_schema(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    for content in ('{"schema": 2, "text": "a"}', '{"text": "a"}'):
        path.write_text(content)
        assert read(Note, path, "", schema=2) == read_or_none(Note, path) == Note("a")


@dataclass(frozen=True)
class Region:
    name: str
    where: str = field(default="a.yaml:3", metadata=HOW)
    table: str = field(default="", metadata=READS)

    @property
    def also_read(self) -> list[str]:
        return ["named.json"]


@dataclass(frozen=True)
class Job:
    source: str = field(metadata=READS)
    output: Path = field(metadata=WRITES)
    earlier: Mapping[str, Sequence[str]] = field(default_factory=dict, metadata=READS)
    regions: Sequence[Region] = ()
    shares: Mapping[tuple[str, Optional[str]], float] = field(default_factory=dict)
    folder: Path = Path("models")
    chunk: int = field(default=100, metadata=HOW)


def test_fields_say_what_is_read_and_made_and_what_decides() -> None:
    regions = (Region("SR", table="sf.csv"),)
    job = Job("a.root", Path("b.root"), {"Muon": ["c.root", "a.root"]}, regions, {("SR", None): math.nan})
    found = describe(job)
    assert found.reads == ("a.root", "c.root", "sf.csv", "named.json")
    assert found.writes == (Path("b.root"),)
    assert found.settings == {"regions": [{"name": "SR"}], "shares": [[["SR", None], "nan"]], "folder": "models"}
    other = describe(replace(job, source="d.root", output=Path("e.root"), chunk=5))
    assert other.settings is found.settings
    assert other.reads == ("d.root", "c.root", "a.root", "sf.csv", "named.json")
    assert describe(replace(job, regions=())).settings != found.settings


@dataclass(frozen=True)
class Sample:
    name: str
    cross_section: float = field(metadata=BESIDE)


@dataclass(frozen=True)
class Scoring:
    events: Sequence[str] = field(metadata=CORE)
    sample: Sample
    regions: Sequence[Region] = field(default=(), metadata=BESIDE)


def test_settings_and_files_of_a_part_are_told_apart() -> None:
    found = describe(Scoring(["a.h5"], Sample("WZ", 0.1), [Region("SR", table="sf.csv")]))
    assert found.settings == {"sample.name": "WZ", "sample.cross_section": 0.1, "regions": [{"name": "SR"}]}
    assert found.beside == ("sample.cross_section", "regions", "sf.csv", "named.json")
    assert (found.reads, found.core) == (("a.h5", "sf.csv", "named.json"), ("a.h5",))


def test_what_json_cannot_hold_is_no_setting() -> None:
    with pytest.raises(TypeError, match="object cannot be a setting"):
        decisive({"x": object()})
