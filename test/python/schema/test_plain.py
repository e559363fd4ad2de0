from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Optional

import pytest

from MLTools.NanoML.schema.plain import build, plain


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
CONTENT: dict[str, Any] = {
    "class": "signal",
    "muons": [{"pt": 20.5}, {"pt": 10.0, "charge": -1}],
    "sums": {"a": [1.0, 2.0]},
}


def test_what_is_plain_is_json_and_can_be_built_again() -> None:
    assert plain(EVENT) == CONTENT
    assert build(Event, json.loads(json.dumps(CONTENT))) == Event(EVENT.class_, EVENT.muons, EVENT.weights)


def test_older_content_and_short_forms_are_understood() -> None:
    found = build(Event, {"class": "signal", "muons": {"pt": 20}, "unknown": 1})
    assert found == Event("signal", (Muon(20.0),), {})
    assert isinstance(found.muons[0].pt, float)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"muons": []}, KeyError),
        ({"class": "signal"}, KeyError),
        ({"class": "signal", "muons": [{}]}, KeyError),
        ({"class": "signal", "muons": [{"pt": "large"}]}, ValueError),
        ({"class": "signal", "muons": [3]}, TypeError),
        ({"class": "signal", "muons": [], "sums": []}, AttributeError),
    ],
)
def test_other_content_is_an_error(content: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        build(Event, content)
