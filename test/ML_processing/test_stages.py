from __future__ import annotations

from pathlib import Path

import pytest

from ML_processing.stages import stages
from MLTools.NanoML.config import load

CONFIG = """
datasets:
  A: {files: a.root, class: signal}
  B: {files: b.root, class: other}
  C: {files: c.root}
convert:
  features: [x]
SHUFFLE
train:
"""


@pytest.mark.parametrize(
    ("shuffle", "files"),
    [("", ["A.h5", "B.h5"]), ("  shuffle: 0", ["all.h5"]), ("  shuffle: null", ["A.h5", "B.h5"])],
)
def test_trains_on_the_datasets_with_a_class_or_on_the_file_of_them_all(
    tmp_path: Path, shuffle: str, files: list[str]
) -> None:
    (tmp_path / "a.yaml").write_text(CONFIG.replace("SHUFFLE", shuffle))
    found = stages(load(tmp_path / "a.yaml"))
    expected = [str(tmp_path / "a" / "hdf5" / name) for name in files]
    assert list(found["train"].tasks[0].inputs) == expected
    for name in ("evaluate", "export"):
        assert list(found[name].tasks[0].inputs[1:]) == expected
