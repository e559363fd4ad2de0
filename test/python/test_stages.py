from __future__ import annotations

from MLTools.NanoML.pipeline import between
from MLTools.NanoML.stages import PARTS, STAGES


def test_every_stage_is_of_one_part() -> None:
    assert sorted(STAGES) == sorted(name for names in PARTS.values() for name in names)


def test_stages_follow_each_other() -> None:
    assert between(None, None) == STAGES
    assert between("convert", "train") == ("convert", "shuffle", "train")
