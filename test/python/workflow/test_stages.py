from __future__ import annotations

from MLTools.NanoML.workflow.pipeline import between
from MLTools.NanoML.workflow.stages import NAMES, PARTS


def test_every_stage_is_of_one_part() -> None:
    assert PARTS == {
        "data_processing": ("skim", "convert", "shuffle", "score"),
        "ML_processing": ("train", "evaluate", "export"),
    }


def test_stages_follow_each_other() -> None:
    assert between(None, None) == NAMES
    assert between("convert", "train") == ("convert", "shuffle", "train")
