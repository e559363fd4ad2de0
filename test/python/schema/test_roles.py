from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional

import pytest

from MLTools.NanoML.schema.roles import BESIDE, CORE, HOW, READS, WRITES, decisive, describe


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
