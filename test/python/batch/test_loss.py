from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("data_processing")

from MLTools.NanoML.batch.prepare import JobRequest
from MLTools.NanoML.batch.submit import find, resubmit, submit, wait
from MLTools.NanoML.config.analysis import load
from MLTools.NanoML.contracts.hdf5 import metadata_content
from MLTools.NanoML.errors import NanoMLError

ANALYSIS = """\
datasets:
  ZG: {files: "*.root", class: ZG}
skim: {cut: nMuon >= 2, keep: [MET_pt]}
convert: {features: [MET_pt]}
batch: {retries: 0, files_per_job: 2}
"""


@pytest.fixture
def analysis(tmp_path: Path, sample: Path) -> Path:
    for number in range(3):
        shutil.copy(sample / "ZGToLLG_PtG100" / f"ZGToLLG_PtG100_{number}.root", tmp_path)
    os.truncate(tmp_path / "ZGToLLG_PtG100_1.root", 20_000)
    (tmp_path / "analysis.yaml").write_text(ANALYSIS)
    return tmp_path / "analysis.yaml"


def test_a_loss_is_allowed_or_not(analysis: Path) -> None:
    submission = submit(load(analysis), JobRequest("pipeline", "local"))
    assert submission is not None
    status = wait(submission, 0.2)
    (failed,) = status.of("failed")
    assert failed.problem is not None
    assert (failed.problem.kind, Path(failed.problem.file).name) == ("unreadable", "ZGToLLG_PtG100_1.root")
    assert status.counts()["skim"] == {"tasks": 3, "done": 2, "failed": 1}

    with pytest.raises(NanoMLError, match="allow a larger loss than 10%"):
        list(resubmit(submission, max_missing="10%"))
    lines = list(resubmit(submission, max_missing="1"))
    assert lines[0] == "convert: 1 task in 1 job"
    assert wait(find(analysis), 0.2).is_done
    (dataset,) = metadata_content(analysis.parent / "analysis" / "hdf5" / "ZG.h5")["datasets"]
    assert [Path(it["file"]).name for it in dataset["missing"]] == ["ZGToLLG_PtG100_1.root"]
    assert len(dataset["books"]["files"]) == 2
