"""The file of a normalisation is read, or one error says what is wrong with it."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from data_processing.score.eventcolumns import Normalisation
from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.fileaccounting import ShiftSums, Step, WeightSums
from MLTools.NanoML.schema.plain import plain

SUMS = WeightSums("btag", "all", True, True, {2: 4.0, 3: 1.0}, {"nominal": {2: 3.9, 3: 1.1}}, "envelope")
NORMALISATION = Normalisation(True, 0.25, (SUMS,), (ShiftSums("jesUp", [Step("all", 5, 4.5)], [SUMS]),), {"b.root": 8})


def damaged(content: Any, chance: random.Random) -> Any:
    """The content with something else in one place: absent, of another type, or empty."""
    if isinstance(content, dict) and content and chance.random() < 0.9:
        key = chance.choice(list(content))
        if chance.random() < 0.3:
            return {name: value for name, value in content.items() if name != key}
        return {**content, key: damaged(content[key], chance)}
    if isinstance(content, list) and content and chance.random() < 0.9:
        return [damaged(content[0], chance), *content[1:]]
    return chance.choice([None, "x", [], {}, [1], {"x": 1}, -1])


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", plain(NORMALISATION))
    assert Normalisation.read(tmp_path / "a.json") == NORMALISATION


def test_any_damage_is_no_other_error(tmp_path: Path) -> None:
    path, chance = tmp_path / "a.json", random.Random(1)
    for _ in range(200):
        write_json(path, damaged(plain(NORMALISATION), chance))
        with contextlib.suppress(NanoMLError):
            Normalisation.read(path)


def test_a_file_that_ends_early_or_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(NanoMLError, match=r"a\.json: no such file\. Remove it, and run `nanoml normalise` again"):
        Normalisation.read(path)
    path.write_text(json.dumps(plain(NORMALISATION))[:-9])
    with pytest.raises(NanoMLError, match=r"a\.json: is damaged \(JSONDecodeError"):
        Normalisation.read(path)
