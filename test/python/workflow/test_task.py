from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.workflow import task as task_module
from MLTools.NanoML.workflow.task import Task, accept, read_record, reason_to_run, stamps, write_record


def make(directory: Path, **changes: Any) -> Task:
    (directory / "code.py").touch()
    settings = {
        "stage": "skim",
        "name": "WZ/0",
        "inputs": (str(directory / "in.root"),),
        "outputs": (directory / "out.root",),
        "settings": {"keep": ["MET_*"]},
        "code": code_of(directory / "code.py"),
        "work": dict,
    }
    return Task(**{**settings, **changes})


def done(directory: Path, task: Task) -> None:
    for path in (*map(Path, task.inputs), *task.outputs):
        path.write_text("content")
    write_record(task, directory / "records", stamps(task), {"entries": 5}, 0.1)


def test_a_task_that_was_done_is_up_to_date(tmp_path: Path) -> None:
    task = make(tmp_path)
    assert reason_to_run(task, tmp_path / "records", ()) == "not done yet"
    done(tmp_path, task)
    assert reason_to_run(task, tmp_path / "records", ()) is None
    record = read_record(task, tmp_path / "records")
    assert record is not None
    assert record.summary == {"entries": 5}


def test_every_change_is_a_reason_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make(tmp_path)
    done(tmp_path, task)
    records = tmp_path / "records"
    assert reason_to_run(task, records, {task.inputs[0]}) == f"{task.inputs[0]} is made anew"
    more = make(tmp_path, inputs=(*task.inputs, "root://somewhere//b.root"))
    assert reason_to_run(more, records, ()) == "root://somewhere//b.root is a new input"
    assert reason_to_run(make(tmp_path, inputs=()), records, ()) == f"{task.inputs[0]} is no longer an input"
    kept = make(tmp_path, settings={"keep": ["MET_*", "HLT_*"]})
    assert reason_to_run(kept, records, ()) == 'keep was changed from ["MET_*"] to ["MET_*", "HLT_*"]'
    histograms: list[Any] = [{"name": "discriminant", "bins": {"edges": [0, 0.25, 0.5, 0.75, 1]}}, {"name": "mass"}]
    long = make(tmp_path, settings={"keep": {"histograms": [*histograms, {"name": "jets"}]}})
    done(tmp_path, long)
    histograms[0] = {**histograms[0], "bins": {"edges": [0, 0.25, 0.5, 0.9, 1]}}
    for given, what in (
        ([*histograms, {"name": "jets"}], '[0].bins was changed from {"edges": [0, 0.25, 0.5, 0.75, 1]} to'),
        (long.settings["keep"]["histograms"][:2], '[2] was changed from {"name": "jets"} to null'),
    ):
        changed = make(tmp_path, settings={"keep": {"histograms": given}})
        assert (reason_to_run(changed, records, ()) or "").startswith(f"keep.histograms{what}")
    done(tmp_path, task)
    os.utime(task.inputs[0], ns=(1, 1))
    assert reason_to_run(task, records, ()) == f"{task.inputs[0]} was changed"
    done(tmp_path, task)
    task.outputs[0].write_text("something longer")
    assert reason_to_run(task, records, ()) == f"{task.outputs[0]} was changed"
    task.outputs[0].unlink()
    assert reason_to_run(task, records, ()) == f"{task.outputs[0]} is missing"
    done(tmp_path, task)
    (tmp_path / "code.py").write_text("new = True\n")
    task = make(tmp_path)
    assert reason_to_run(task, records, ()) == "code.py was changed"
    assert reason_to_run(replace(task, code="of another user"), records, ()) == ("the code that does it was changed")
    monkeypatch.setattr(task_module, "__version__", "9.0")
    assert "NanoML 9.0 does it differently from" in str(reason_to_run(task, records, ()))


def test_a_change_of_code_may_be_accepted_and_no_other_change(tmp_path: Path) -> None:
    task, records = make(tmp_path), tmp_path / "records"
    assert accept(task, records) is None  # not done yet
    done(tmp_path, task)
    assert accept(task, records) is None  # up to date
    before = task.code
    (tmp_path / "code.py").write_text("new = True\n")
    task = make(tmp_path)
    assert accept(task, records, dry_run=True) == "code.py was changed"
    assert reason_to_run(task, records, ()) == "code.py was changed"
    assert accept(make(tmp_path, settings={"keep": []}), records) is None
    os.utime(task.inputs[0], ns=(1, 1))
    assert accept(task, records) is None
    done(tmp_path, make(tmp_path, code=before))
    assert accept(task, records) == "code.py was changed"
    assert reason_to_run(task, records, ()) is None
    record = read_record(task, records)
    assert record is not None
    assert record.code == task.code
    assert record.summary == {"entries": 5}
    assert [(each.code, each.because) for each in record.accepted] == [(before, "code.py was changed")]


def test_a_damaged_record_counts_as_none(tmp_path: Path) -> None:
    task = make(tmp_path)
    done(tmp_path, task)
    for text in ("{", "[]", "{}", ""):
        (tmp_path / "records" / "skim" / "WZ" / "0.json").write_text(text)
        assert reason_to_run(task, tmp_path / "records", ()) == "there is no record that it was finished"


def test_a_record_is_a_file_of_known_form(tmp_path: Path) -> None:
    task = make(tmp_path, inputs=("root://somewhere//in.root",))
    task.outputs[0].write_text("content")
    write_record(task, tmp_path / "records", stamps(task), {"entries": 5}, 0.1, host="worker", memory=100)
    path = tmp_path / "records" / "skim" / "WZ" / "0.json"
    content = json.loads(path.read_text())
    assert content.pop("finished") > "2020"
    modified = task.outputs[0].stat().st_mtime_ns
    assert content == {
        "task": "skim/WZ/0",
        "inputs": [{"path": "root://somewhere//in.root"}],
        "outputs": [{"path": str(task.outputs[0]), "size": 7, "modified": modified}],
        "settings": {"keep": ["MET_*"]},
        "code": task.code,
        "version": task_module.__version__,
        "summary": {"entries": 5},
        "seconds": 0.1,
        "host": "worker",
        "memory": 100,
        "format": 1,
    }


def test_an_older_record_is_read_and_a_newer_one_counts_as_none(tmp_path: Path) -> None:
    task = make(tmp_path)
    done(tmp_path, task)
    path = tmp_path / "records" / "skim" / "WZ" / "0.json"
    content = json.loads(path.read_text())
    del content["format"]
    path.write_text(json.dumps({**content, "of another time": 1}))
    assert reason_to_run(task, tmp_path / "records", ()) is None
    path.write_text(json.dumps({**content, "format": 2}))
    assert read_record(task, tmp_path / "records") is None


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match="in.root: no such file; skim WZ/0 needs it"):
        stamps(make(tmp_path))
