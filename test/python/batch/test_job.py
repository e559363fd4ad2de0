from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest

from MLTools.NanoML.batch.job import Job, TaskNames
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.workflow.task import Task


def make(directory: Path) -> Job:
    work = functools.partial(code_of, directory / "in.root")
    task = Task("skim", "WZ/0", (str(directory / "in.root"),), (directory / "out.root",), {}, "12ab", work)
    return Job.of(
        "skim-0000", [task], workdir=str(directory), base=str(directory), storage={"/eos/": "root://a//eos/"}
    )


def test_a_job_is_read_as_it_was_written(tmp_path: Path) -> None:
    job = make(tmp_path)
    job.write(tmp_path / "job.json")
    found = Job.read(tmp_path / "job.json")
    assert found.names() == job.names()
    assert (found.workdir, found.storage) == (job.workdir, job.storage)
    assert found.decoded() == job.decoded()
    assert found.decoded(lambda text: text.replace("in.root", "other.root"))[0].inputs == (
        str(tmp_path / "other.root"),
    )


def test_the_names_of_tasks_need_no_import_of_what_does_them(tmp_path: Path) -> None:
    job = make(tmp_path)
    job.tasks[0]["fields"]["work"]["call"] = "data_processing.no_such_module:work"
    assert job.names() == [
        TaskNames("skim", "WZ/0", (str(tmp_path / "in.root"),), (str(tmp_path / "out.root"),))
    ]
    command = Job("tune-0001", "tune", "/w", "/b", command=["tune", "analysis.yaml"])
    assert command.names() == [TaskNames("tune", "tune-0001", (), ())]


def test_truncations_of_a_job_are_one_message(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    make(tmp_path).write(path)
    text = path.read_text().rstrip()
    for end in range(0, len(text), 7):
        path.write_text(text[:end])
        with pytest.raises(NanoMLError, match="is no job of this version of NanoML"):
            Job.read(path)


@pytest.mark.parametrize(
    "content", ["[]", "1", '"a"', "null", "{}", '{"schema": 1}', '{"schema": 1, "wheels": 4}', "\udcff"]
)
def test_what_is_no_job_is_one_message(content: str, tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(NanoMLError, match="is no job of this version of NanoML"):
        Job.read(path)


def test_a_job_of_another_version_says_so(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    make(tmp_path).write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 2}))
    with pytest.raises(NanoMLError, match="it is of another version of NanoML"):
        Job.read(path)
    with pytest.raises(NanoMLError, match="No such file"):
        Job.read(tmp_path / "none.json")
