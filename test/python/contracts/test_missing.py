from __future__ import annotations

import json
from pathlib import Path

import pytest

from MLTools.NanoML.contracts import missing
from MLTools.NanoML.errors import NanoMLError


def test_how_many_may_be_missing() -> None:
    numbers = {(0, 100): 0, ("3", 100): 3, (3, 3): 2}
    shares = {("1 %", 412): 4, ("1%", 99): 0, (".5%", 1000): 5, ("100 %", 7): 6, ("9.2 %", 750): 69}
    for (limit, total), most in {**numbers, **shares}.items():
        assert missing.allowed(limit, total) == most


def test_what_is_recorded_is_read(tmp_path: Path) -> None:
    missing.record(tmp_path, {"WZ": {}})
    assert not list(tmp_path.iterdir())
    assert missing.read(tmp_path) == {}
    missing.record(tmp_path, {"WZ": {"a.root": "gone", "b.root": "damaged"}, "ZG": {}})
    found = missing.read(tmp_path)
    assert [*found] == ["WZ"]
    assert [(each.file, each.reason) for each in found["WZ"]] == [("a.root", "gone"), ("b.root", "damaged")]
    assert found["WZ"][0].date[:2] == "20"
    missing.record(tmp_path, {"ZG": {"c.root": "late"}})
    assert [(name, len(files)) for name, files in missing.read(tmp_path).items()] == [("WZ", 2), ("ZG", 1)]
    assert missing.read(tmp_path)["WZ"] == found["WZ"]
    missing.record(tmp_path, {"WZ": {}, "ZG": {}})
    assert missing.read(tmp_path) == {}


def test_a_record_without_a_version_is_read(tmp_path: Path) -> None:
    (tmp_path / ".nanoml").mkdir()
    each = {"file": "a.root", "reason": "gone", "date": "2024-01-01T00:00:00+0000"}
    (tmp_path / ".nanoml" / "missing.json").write_text(json.dumps({"WZ": [each], "version": [each]}))
    assert missing.read(tmp_path) == {name: [missing.Missing(**each)] for name in ("WZ", "version")}


@pytest.mark.parametrize("text", ["", "[]", '{"version": 2}', '{"version": 1}', '{"WZ": 1}', '{"WZ": [{"file": "a"}]}'])
def test_a_damaged_record_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / ".nanoml").mkdir()
    (tmp_path / ".nanoml" / "missing.json").write_text(text)
    with pytest.raises(NanoMLError, match=r"missing.json: cannot be read .*Remove it"):
        missing.read(tmp_path)


def test_lines() -> None:
    one, other = missing.Missing.now("a.root", "a.root: gone"), missing.Missing.now("b.root", "damaged")
    found = missing.lines({"WZ": [one], "ZG": [other, one]})
    assert found == ["WZ: a.root is left out: gone", "ZG: b.root and 1 more are left out: damaged"]
