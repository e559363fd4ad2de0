from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.observing import state
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.workflow import record as record_module
from MLTools.NanoML.workflow import task as task_module
from MLTools.NanoML.workflow.record import Fingerprints, Reach, Records
from MLTools.NanoML.workflow.runner import Stage, plan, run
from MLTools.NanoML.workflow.task import Task, stamps
from services.xrootd import Storage


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


def records_in(directory: Path) -> Records:
    return Records(directory / "work" / "records", directory)


def name(path: str | Path) -> str:
    """A file as reasons name it: relative to the YAML file, which is beside it."""
    return Path(path).name


def done(directory: Path, task: Task) -> None:
    for path in (*map(Path, task.inputs), *task.outputs):
        path.write_text("content")
    records_in(directory).write(task, stamps(task), {"entries": 5}, 0.1)


def test_a_task_that_was_done_is_up_to_date(tmp_path: Path) -> None:
    task = make(tmp_path)
    assert records_in(tmp_path).reason(task) == "not done yet"
    done(tmp_path, task)
    assert records_in(tmp_path).reason(task) is None
    record = records_in(tmp_path).read(task)
    assert record is not None
    assert record.summary == {"entries": 5}


def test_a_reason_reaches_as_far_as_what_has_changed(tmp_path: Path) -> None:
    weights, events = str(tmp_path / "weights.json"), str(tmp_path / "in.h5")
    beside = {"beside": ("cut", weights), "core": (events,)}
    task = make(tmp_path, inputs=(str(tmp_path / "in.root"), weights, events), settings={"keep": 1, "cut": 2}, **beside)
    done(tmp_path, task)
    records = records_in(tmp_path)

    def reach(settings: dict[str, int], *given: set[str]) -> Reach | None:
        reason = records.reason(replace(task, settings=settings), *(dict.fromkeys(each, "x") for each in given))
        return reason.reach if reason is not None else None

    assert reach({"keep": 1, "cut": 3}) is reach({"keep": 1, "cut": 2}, {weights}) is Reach.PART
    assert reach({"keep": 3, "cut": 3}) is reach({"keep": 1, "cut": 3}, {events}) is Reach.ALL
    assert reach({"keep": 1, "cut": 2}, set(), {events}) is None
    assert reach({"keep": 1, "cut": 3}, set(), {events}) is Reach.PART
    assert reach({"keep": 1, "cut": 3}, set(), {task.inputs[0]}) is Reach.AROUND
    Path(weights).write_text("others")
    assert reach({"keep": 1, "cut": 2}) is Reach.PART
    records.forget(task, Reach.PART)
    assert reach({"keep": 1, "cut": 2}) is Reach.PART
    records.write(task, stamps(task), {"core": "of other events"}, 0.1)
    task.outputs[0].write_text("something else")
    assert reach({"keep": 1, "cut": 2}) is Reach.ALL


def test_what_is_done_in_part_reads_no_input_for_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make(tmp_path, settings={"keep": 1, "cut": 2}, beside=("cut",))
    done(tmp_path, task)
    before, read, hashed = stamps(task), list[Any](), task_module.file_hash
    monkeypatch.setattr(task_module, "file_hash", lambda path: read.append(path) or hashed(path))
    records_in(tmp_path).forget(task, Reach.PART)
    assert (stamps(task), read) == (before, [])
    Path(task.inputs[0]).write_text("more content")
    assert (stamps(task) == before, read) == (False, [*task.inputs])


def test_to_force_a_task_is_to_do_it_without_what_spares_work(tmp_path: Path) -> None:
    cache, runs = tmp_path / "cache", list[bool]()
    task = make(tmp_path, cache=(cache,), work=lambda: runs.append(cache.exists()) or {})
    done(tmp_path, task)
    cache.touch()
    Path(task.inputs[0]).write_text("more content")
    for force in (False, True):
        run(plan([Stage("skim", [task])], tmp_path / "work", force), tmp_path / "work")
    assert runs == [True, False]


def test_every_change_is_a_reason_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make(tmp_path)
    done(tmp_path, task)
    records = records_in(tmp_path)
    assert records.reason(task, {task.inputs[0]: "x"}) == f"{name(task.inputs[0])} will be rebuilt: x"
    more = make(tmp_path, inputs=(*task.inputs, "root://somewhere//b.root"))
    assert records.reason(more) == "root://somewhere//b.root is a new input"
    assert records.reason(make(tmp_path, inputs=())) == f"{name(task.inputs[0])} is no longer an input"
    kept = make(tmp_path, settings={"keep": ["MET_*", "HLT_*"]})
    assert records.reason(kept) == 'keep was changed from ["MET_*"] to ["MET_*", "HLT_*"]'
    histograms: list[Any] = [{"name": "discriminant", "bins": {"edges": [0, 0.25, 0.5, 0.75, 1]}}, {"name": "mass"}]
    long = make(tmp_path, settings={"keep": {"histograms": [*histograms, {"name": "jets"}]}})
    done(tmp_path, long)
    histograms[0] = {**histograms[0], "bins": {"edges": [0, 0.25, 0.5, 0.9, 1]}}
    for given, what in (
        ([*histograms, {"name": "jets"}], '[0].bins was changed from {"edges": [0, 0.25, 0.5, 0.75, 1]} to'),
        (long.settings["keep"]["histograms"][:2], '[2] was changed from {"name": "jets"} to null'),
    ):
        changed = make(tmp_path, settings={"keep": {"histograms": given}})
        assert (records.reason(changed) or "").startswith(f"keep.histograms{what}")
    done(tmp_path, task)
    Path(task.inputs[0]).write_text("another")
    assert records.reason(task) == f"{name(task.inputs[0])} was changed"
    done(tmp_path, task)
    task.outputs[0].write_text("something longer")
    assert records.reason(task) == f"{name(task.outputs[0])} was changed"
    task.outputs[0].unlink()
    assert records.reason(task) == f"{name(task.outputs[0])} is missing"
    done(tmp_path, task)
    (tmp_path / "code.py").write_text("new = True\n")
    task = make(tmp_path)
    assert records.reason(task) == "code.py was changed"
    assert records.reason(replace(task, code="of another user")) == ("the code that does it was changed")
    monkeypatch.setattr(record_module, "__version__", "9.0")
    assert "NanoML 9.0 does it differently from" in str(records.reason(task))


def test_a_change_of_code_may_be_accepted_and_no_other_change(tmp_path: Path) -> None:
    task, records = make(tmp_path), records_in(tmp_path)
    assert records.accept(task) is None  # not done yet
    done(tmp_path, task)
    assert records.accept(task) is None  # up to date
    before = task.code
    (tmp_path / "code.py").write_text("new = True\n")
    task = make(tmp_path)
    assert records.accept(task, dry_run=True) == "code.py was changed"
    assert records.reason(task) == "code.py was changed"
    assert records.accept(make(tmp_path, settings={"keep": []})) is None
    Path(task.inputs[0]).write_text("another")
    assert records.accept(task) is None
    done(tmp_path, make(tmp_path, code=before))
    assert records.accept(task) == "code.py was changed"
    assert records.reason(task) is None
    record = records.read(task)
    assert record is not None
    assert record.code == task.code
    assert record.summary == {"entries": 5}
    assert [(each.code, each.because) for each in record.accepted] == [(before, "code.py was changed")]


def test_a_damaged_record_is_a_reason_to_do_the_task_again(tmp_path: Path) -> None:
    task, records = make(tmp_path), records_in(tmp_path)
    done(tmp_path, task)
    path = records.path(task)
    content = json.loads(path.read_text())
    mutations = [{key: value for key, value in content.items() if key != lost} for lost in content]
    mutations += [{**content, key: other} for key in content for other in (None, [], {"a": 1}, "text", 7)]
    for text in ("{", "[]", "{}", "", "null", "[" * 100_000, *map(json.dumps, mutations)):
        path.write_text(text)
        assert (records.reason(task) or "").startswith("its record cannot be used: ")
        assert records.read(task) is None
    path.write_text(json.dumps({**content, "format": 3}))
    assert records.reason(task) == "its record cannot be used: a newer NanoML wrote it"
    path.write_text(json.dumps({key: value for key, value in content.items() if key not in ("format", "check")}))
    assert records.reason(task) == "its record cannot be used: an older NanoML wrote it"
    path.write_text(json.dumps(content))
    assert records.reason(task) is None


def test_a_record_is_a_file_of_known_form(tmp_path: Path) -> None:
    settings = {"keep": ["MET_*"], "compare": str(tmp_path / "a.h5"), "of": [str(tmp_path / "work" / "b.h5"), "/c.h5"]}
    task, records = make(tmp_path, inputs=("root://somewhere//in.root",), settings=settings), records_in(tmp_path)
    task.outputs[0].write_text("content")
    records.write(task, stamps(task), {"entries": 5}, 0.1, host="worker", memory=100)
    content = json.loads(records.path(task).read_text())
    assert content.pop("finished") > "2020"
    assert len(content.pop("check")) == 24
    (output,) = content["outputs"]
    assert len(output.pop("content")) == 64
    status = task.outputs[0].stat()
    times = {"modified": status.st_mtime_ns, "changed": status.st_ctime_ns, "inode": status.st_ino}
    assert content == {
        "task": "skim/WZ/0",
        "inputs": [{"path": "root://somewhere//in.root"}],
        "outputs": [{"path": "./out.root", "size": 7, **times}],
        "settings": {"keep": ["MET_*"], "compare": "./a.h5", "of": ["WORKDIR/b.h5", "/c.h5"]},
        "code": task.code,
        "version": record_module.__version__,
        "summary": {"entries": 5},
        "seconds": 0.1,
        "host": "worker",
        "memory": 100,
        "format": 2,
    }


@pytest.mark.parametrize("size", [10, (1 << 20) + 1, 70 << 20])
def test_content_decides_where_the_file_system_says_that_a_file_changed(tmp_path: Path, size: int) -> None:
    (tmp_path / RECORDS).mkdir()  # a task has made it
    task, records = make(tmp_path), records_in(tmp_path)
    done(tmp_path, task)
    path, content = Path(task.inputs[0]), b"a" * size
    path.write_bytes(content)
    records.write(task, stamps(task), {}, 0.1)
    before = path.stat()
    path.unlink()
    path.write_bytes(content)
    assert records.reason(task) is None
    for place in (0, size // 2, -1):
        other = bytearray(content)
        other[place] += 1
        path.write_bytes(other)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # of the same size and time
        assert records.reason(task) == f"{name(path)} was changed"


def test_of_a_large_file_that_no_task_has_made_size_and_time_decide(tmp_path: Path) -> None:
    task, records = make(tmp_path), records_in(tmp_path)
    done(tmp_path, task)
    path = Path(task.inputs[0])
    os.truncate(path, 70 << 20)
    record = records.write(task, stamps(task), {}, 0.1)
    assert record.inputs[0].content is None
    other = tmp_path / "other"
    shutil.copy2(path, other)
    other.replace(path)
    assert records.reason(task) is None
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert records.reason(task) == f"{name(path)} was changed"


@pytest.mark.service
def test_a_remote_file_that_its_server_says_was_changed_counts(
    tmp_path: Path, storage: Storage, read_with: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("XRootD")
    monkeypatch.setattr(task_module, "_remote", {})
    path = storage.directory / tmp_path.name / "a.root"
    path.parent.mkdir()
    path.write_text("first")
    task, records = make(tmp_path, inputs=(f"{storage.url}/{tmp_path.name}/a.root",)), records_in(tmp_path)
    task.outputs[0].write_text("content")
    record = records.write(task, stamps(task), {}, 0.1)
    assert record.inputs[0].size == 5
    assert (record.inputs[0].modified, record.inputs[0].content) == (int(path.stat().st_mtime) * 10**9, None)
    monkeypatch.setattr(task_module, "_remote", {})
    assert records.reason(task) is None  # nobody has asked
    os.utime(path, (0, 0))
    (planned,) = plan([Stage("skim", [task])], tmp_path)
    assert planned.reasons  # a plan asks
    assert records.reason(task) == f"{task.inputs[0]} was changed"


def test_what_user_code_touches_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, records, table = make(tmp_path), records_in(tmp_path), tmp_path / "sf.json"
    table.write_text("{}")
    monkeypatch.delenv("MY_VERSION", raising=False)
    keys = [f"file {table}", "file /nowhere/b.json", "variable MY_VERSION", f"folder {tmp_path / 'tables'}"]
    keys.append(f"file {task.inputs[0]}")  # it counts anyway
    (tmp_path / "tables").mkdir()
    done(tmp_path, task)
    record = records.write(task, stamps(task), {}, 0.1, {key: state(key) for key in keys})
    assert list(record.observed) == ["file ./sf.json", "file /nowhere/b.json", "variable MY_VERSION", "folder ./tables"]
    fingerprints = Fingerprints(records, "skim")
    digest = fingerprints.of(task, record)
    fingerprints.write([digest])
    assert fingerprints.read() == {fingerprints.now(task)}

    def reason() -> str | None:
        again = records_in(tmp_path)
        found = again.reason(task)
        assert Fingerprints(again, "skim").read() == (set() if found else {digest})
        return found

    assert reason() is None
    monkeypatch.setenv("MY_VERSION", "2")
    assert reason() == "the environment variable MY_VERSION was changed"
    monkeypatch.delenv("MY_VERSION")
    (tmp_path / "tables" / "new.json").touch()
    assert reason() == "the list of files in tables was changed"
    (tmp_path / "tables" / "new.json").unlink()
    table.write_text("[]")
    assert reason() == f"{name(table)} was changed"
    fingerprints = Fingerprints(records_in(tmp_path), "skim")  # changed while other tasks were done
    fingerprints.of(task, record)
    fingerprints.write([digest])
    assert reason() == f"{name(table)} was changed"


def test_a_directory_may_be_moved_or_copied(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    done(first, make(first, settings={"compare": str(first / "in.root")}))
    shutil.copytree(first, second)
    shutil.rmtree(first)
    task = make(second, settings={"compare": str(second / "in.root")})
    assert records_in(second).reason(task) is None
    (second / "in.root").write_text("changed")
    assert records_in(second).reason(task) == "in.root was changed"


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match="in.root: no such file; skim WZ/0 needs it"):
        stamps(make(tmp_path))
