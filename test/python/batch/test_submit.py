"""Submitting again where files cannot be read; and submissions that other versions wrote."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("data_processing.skim.skim")

from data_processing.crab.client import CrabProject
from MLTools.NanoML.batch.job import JobProblem
from MLTools.NanoML.batch.submission import JobRequest, Submission
from MLTools.NanoML.batch.submit import find, resubmit, submit, wait
from MLTools.NanoML.config.load import load
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


def test_missing_files_are_allowed_or_not(analysis: Path) -> None:
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


def test_a_submission_of_the_version_before_is_read_and_a_later_one_is_not(submission: Submission) -> None:
    path = submission.directory / "submission.json"
    now = json.loads(path.read_text())
    before = {key: value for key, value in now.items() if key != "problems"}
    handles = {"dag": 1, "seen": {"skim-0000": ["memory", "too much"]}}
    path.write_text(json.dumps({**before, "schema": 1, "handles": handles}))
    found = Submission.read(submission.directory)
    assert (found.options.retries, found.handles) == (1, {"dag": 1})
    assert found.problems == {"skim-0000": JobProblem("memory", "too much")}

    task = {"name": "WZ", "dataset": "WZ", "what": "1 file", "request": "a_WZ", "memory": 2500, "time": None}
    options = {"tasks": {"WZ": {**task, "scores": [], "digest": "12"}}, "site": "T2_CH_CERN", "directory": None}
    job = {"state": "finished", "code": None, "message": "", "site": "T2_DE_DESY", "tries": 1}
    record = {"server": "SUBMITTED", "refusal": "", "again": {}, "outputs": [], "listed": 0, "name": "1:a"}
    handles = {"tasks": {"WZ": {**record, "jobs": {"1": job}}}}
    old = {**before, "schema": 1, "system": "crab", "options": options, "handles": handles}
    path.write_text(json.dumps(old))
    found = Submission.read(submission.directory)
    assert CrabProject.all_of(found)["WZ"].record.done == ["1"]
    assert found.handles["site"] == "T2_CH_CERN"

    path.write_text(json.dumps({**now, "schema": 3}))
    with pytest.raises(NanoMLError, match=r"submission.json: .*version 3, which another version of NanoML wrote"):
        Submission.read(submission.directory)
