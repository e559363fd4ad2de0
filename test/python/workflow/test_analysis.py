from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from MLTools.NanoML import parallel
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.observing import state
from MLTools.NanoML.parallel import RECORDS, locked, workers_for
from MLTools.NanoML.terminal import progress
from MLTools.NanoML.workflow import records as records_module
from MLTools.NanoML.workflow import task as task_module
from MLTools.NanoML.workflow.analysis import Planned, Stage, plan, run
from MLTools.NanoML.workflow.records import Fingerprints, Reason, Records
from MLTools.NanoML.workflow.task import Record, Task, stamps
from processes import running
from services.daemons import alive, wait_for
from services.xrootd import Storage

# in a module of its own: worker processes import it
COPY = """
import os
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.terminal.progress import say_once

def copy(source, output):
    if source.read_text() == "bad":
        raise NanoMLError(f"{source}: is bad")
    if source.read_text() == "fatal":
        os._exit(9)
    if source.read_text() == "large":
        bytes(1 << 60)
    say_once("copies", f"{source.name} is copied, as many others are")
    with replacing(output) as aside:
        aside.write_text(source.read_text())
    return {"size": len(source.read_text()), "process": os.getpid()}
"""


def stage(directory: Path, name: str, before: str, numbers: range, workers: int = 1) -> Stage:
    copy = importlib.import_module("copying").copy
    tasks = []
    for number in numbers:
        source, output = directory / f"{before}{number}", directory / f"{name}{number}"
        work = functools.partial(copy, source, output)
        tasks.append(Task(name, str(number), (str(source),), (output,), {}, "a1b2", work))
    return Stage(name, tasks, workers, lambda done: [f"{sum(each['size'] for each in done.values())} bytes"])


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "copying.py").write_text(COPY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "copying", raising=False)
    for number in range(4):
        (tmp_path / f"in{number}").write_text(f"content {number}")
    return tmp_path


def processes_of(tasks: Sequence[Task], directory: Path) -> set[int]:
    records = (json.loads((directory / parallel.RECORDS / it.stage / f"{it.name}.json").read_text()) for it in tasks)
    return {each["summary"]["process"] for each in records}


def test_files_that_are_small_together_are_read_by_this_process(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOML_CORES", "2")
    small = stage(inputs, "a", "in", range(4), workers=0)
    run(plan([small], inputs), inputs)
    assert processes_of(small.tasks, inputs) == {os.getpid()}
    files = [str(inputs / f"in{number}") for number in range(4)]
    assert [workers_for(files), workers_for([*files, "root://a.b//c.root"])] == [1, 2]
    monkeypatch.setattr(parallel, "_LITTLE", 35)
    assert [workers_for(files), workers_for([*files[:3], files[0]])] == [2, 1]
    large = stage(inputs, "b", "in", range(4), workers=0)
    run(plan([large], inputs), inputs)
    assert os.getpid() not in processes_of(large.tasks, inputs)


@pytest.mark.parametrize("workers", [1, 3])
def test_only_what_changed_runs_again(
    inputs: Path, workers: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_notes", {})
    stages = [stage(inputs, "a", "in", range(4), workers), stage(inputs, "b", "a", range(4), workers)]
    run(plan(stages, inputs), inputs)
    assert [(inputs / f"b{number}").read_text() for number in range(4)] == [f"content {number}" for number in range(4)]
    said = capsys.readouterr().err
    assert "  36 bytes" in said
    assert said.count("is copied, as many others are") == 1
    assert [dict(each.reasons) for each in plan(stages, inputs)] == [{}, {}]
    (inputs / "in2").write_text("changed!!")
    assert plan(stages, inputs)[0].reasons == {"2": f"{inputs / 'in2'} was changed"}
    third = [*stages, stage(inputs, "c", "b", range(4), workers)]
    # with the first cause, and paths relative to the YAML file
    again = plan(third, inputs, base=inputs)
    assert [it.lines()[1] for it in again[:2]] == ["  2: in2 was changed", "  2: a2 will be rebuilt: in2 was changed"]
    assert again[2].reasons["2"] == "not done yet"
    assert again[2].lines() == ["c: 4 of 4 to do"]
    run(again, inputs)
    (inputs / "in2").write_text("changed again")
    again = plan(third, inputs, base=inputs)
    assert again[2].lines() == ["c: 1 of 4 to do", "  2: b2 will be rebuilt: in2 was changed"]
    every = Planned(again[1].stage, {name: Reason("will be rebuilt", file=f"a{name}", cause="x") for name in "0123"})
    assert every.lines() == ["b: 4 of 4 to do", "  0, 1, 2 and 1 more: a0 will be rebuilt: x (and 3 more)"]
    run(again, inputs)
    assert (inputs / "b2").read_text() == "changed again"
    forced = plan(stages, inputs, force=True)
    assert forced[0].reasons == dict.fromkeys("0123", "you asked for it")


def test_what_is_beside_the_core_and_was_interrupted_is_done_again_and_nothing_else(inputs: Path) -> None:
    first, second = stage(inputs, "a", "in", range(2)), stage(inputs, "b", "a", range(2))
    done = [""]

    def work(task: Task) -> dict[str, Any]:
        if not done:
            raise KeyboardInterrupt
        done.append(task.name)
        return task.do()

    def stages(cut: int) -> list[Stage]:
        beside = {"settings": {"cut": cut}, "beside": ("cut",)}
        mine = [replace(it, work=functools.partial(work, it), **beside) for it in first.tasks]
        others = [replace(it, core=it.inputs) for it in second.tasks]
        return [replace(first, tasks=mine), replace(second, tasks=others, kept="stays, although {}")]

    run(plan(stages(1), inputs), inputs)
    done.clear()
    with pytest.raises(KeyboardInterrupt):
        run(plan(stages(2), inputs), inputs)
    for cut in (1, 2):  # as before, too: nobody knows what was done
        again = plan(stages(cut), inputs)
        assert [{*each.reasons} for each in again] == [{"0", "1"}, set()]
    assert again[1].lines()[1] == "  0: stays, although cut was changed from null to 2"
    done.append("")
    run(again, inputs)
    assert done == ["", "0", "1"]
    assert [dict(each.reasons) for each in plan(stages(2), inputs)] == [{}, {}]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_stops_after_its_stage_and_names_the_task(inputs: Path, workers: int) -> None:
    (inputs / "in1").write_text("bad")
    stages = [stage(inputs, "a", "in", range(4), workers), stage(inputs, "b", "a", range(4), workers)]
    with pytest.raises(NanoMLError) as caught:
        run(plan(stages, inputs), inputs)
    assert f"a 1: {inputs / 'in1'}: is bad" in str(caught.value)
    assert "1 of 4 failed, 3 are done. Fix this" in str(caught.value)
    assert (inputs / "a3").exists()
    assert not (inputs / "b0").exists()
    (inputs / "in1").write_text("mended")
    todo = plan(stages, inputs)
    assert list(todo[0].reasons) == ["1"]
    run(todo, inputs)
    assert (inputs / "b1").read_text() == "mended"


def test_a_worker_that_dies_is_reported(inputs: Path) -> None:
    (inputs / "in0").write_text("fatal")
    with pytest.raises(NanoMLError, match="the process that did it was killed"):
        run(plan([stage(inputs, "a", "in", range(4), 2)], inputs), inputs)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_with_too_little_memory_says_so(inputs: Path, workers: int) -> None:
    (inputs / "in0").write_text("large")
    with pytest.raises(NanoMLError, match="a 0: there is too little memory for it: lower the chunk"):
        run(plan([stage(inputs, "a", "in", range(2), workers)], inputs), inputs)
    assert (inputs / "a1").exists()


def test_two_tasks_of_one_output_are_refused(inputs: Path) -> None:
    with pytest.raises(NanoMLError, match="is made both by a 0 and by a 0|is made both by a 0 and by c 0"):
        first = stage(inputs, "a", "in", range(1))
        second = Stage("c", [Task("c", "0", (), first.tasks[0].outputs, {}, "", dict)])
        plan([first, second], inputs)


def test_many_tasks_in_one_process_have_one_bar(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4, 25):
        (inputs / f"in{number}").write_text("more")
    run(plan([stage(inputs, "few", "in", range(4)), stage(inputs, "many", "in", range(25))], inputs), inputs)
    lines = capsys.readouterr().err.splitlines()
    assert [it.partition(" in ")[0] for it in lines if " in " in it and "copied" not in it] == ["many: 25 files"]


HOLD = """
import sys, time
from pathlib import Path
from MLTools.NanoML.parallel import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    with running([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(NanoMLError, match=f"another run is active here .process {holder.pid} on"), locked(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with locked(tmp_path):
        pass


POOL = """
import functools, os, sys, time
from pathlib import Path
from MLTools.NanoML.workflow.analysis import Stage, plan, run
from MLTools.NanoML.workflow.task import Task

def work(number):
    Path(sys.argv[1], f"began{number}.{os.getpid()}").touch()
    time.sleep(60)
    return {}

if __name__ == "__main__":
    base = Path(sys.argv[1])
    tasks = [Task("a", str(n), (), (base / f"out{n}",), {}, "", functools.partial(work, n)) for n in range(2)]
    run(plan([Stage("a", tasks, 2)], base), base)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "pool.py").write_text(POOL)
    line = [sys.executable, str(tmp_path / "pool.py"), str(tmp_path)]
    with running(line, stderr=subprocess.DEVNULL) as parent:
        wait_for(lambda: len(list(tmp_path.glob("began*"))) == 2, "the workers")
        workers = [int(path.suffix[1:]) for path in tmp_path.glob("began*")]
        parent.send_signal(number)
        parent.wait(timeout=120)
    wait_for(lambda: not any(map(alive, workers)), "their end")


def test_a_source_is_never_overwritten(inputs: Path) -> None:
    task = Task("skim", "0", (str(inputs / "in0"),), (inputs / "in0",), {}, "", dict)
    with pytest.raises(NanoMLError, match="in0: would be overwritten by skim"):
        plan([Stage("skim", [task])], inputs)
    (inputs / "link").symlink_to(inputs)
    task = Task("skim", "0", (str(inputs / "in1"),), (inputs / "link" / "in1",), {}, "", dict)
    with pytest.raises(NanoMLError, match="in1: would be overwritten"):
        plan([Stage("skim", [task])], inputs)


def test_a_run_with_nothing_to_do_reads_no_record(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = inputs / "page"
    made = stage(inputs, "out", "in", range(4))
    stages = [replace(made, summary=lambda done: [str(write(page, done))], written=[page])]

    def write(path: Path, done: Mapping[str, Any]) -> int:
        return path.write_text(str(sum(each["size"] for each in done.values())))

    def reasons() -> dict[str, str]:
        (found,) = plan(stages, inputs)
        run([found], inputs)
        return dict(found.reasons)

    assert set(reasons().values()) == {"not done yet"}
    with monkeypatch.context() as patch:
        patch.setattr(Record, "read", None)
        assert reasons() == {}
        (inputs / "in1").write_text("more content")
        with pytest.raises(TypeError):  # it would be read
            reasons()
    assert reasons() == {"1": f"{inputs / 'in1'} was changed"}
    page.unlink()
    assert reasons() == {}
    assert page.read_text() == "39"
    (inputs / "out2").unlink()
    assert reasons() == {"2": f"{inputs / 'out2'} is missing"}
    stages[0].tasks[3].settings["cut"] = "x > 1"  # type: ignore[index]
    assert reasons() == {"3": 'cut was changed from null to "x > 1"'}
    (record := inputs / ".nanoml" / "out" / "0.json").write_text("damaged")
    assert reasons() == {"0": "its record cannot be used: it is damaged"}
    record.unlink()
    assert reasons() == {"0": "there is no record that it was finished"}
    (inputs / ".nanoml" / "out.txt").write_bytes(b"\xff")
    assert reasons() == {}


def make(directory: Path, **changes: Any) -> Task:
    (directory / "code.py").touch()
    files = {"inputs": (str(directory / "in.root"),), "outputs": (directory / "out.root",)}
    about = {"settings": {"keep": ["MET_*"]}, "code": code_of(directory / "code.py"), "work": dict}
    return Task(**{"stage": "skim", "name": "WZ/0", **files, **about, **changes})  # type: ignore[arg-type]


def records_in(directory: Path) -> Records:
    return Records(directory / "work" / "records", directory)


def done(directory: Path, task: Task) -> None:
    for path in (*map(Path, task.inputs), *task.outputs):
        path.write_text("content")
    records_in(directory).write(task, Record.of(task, stamps(task), {"entries": 5}, 0.1))


def test_a_reason_reaches_as_far_as_what_has_changed(tmp_path: Path) -> None:
    weights, events = str(tmp_path / "weights.json"), str(tmp_path / "in.h5")
    beside = {"beside": ("cut", weights), "core": (events,)}
    task = make(tmp_path, inputs=(str(tmp_path / "in.root"), weights, events), settings={"keep": 1, "cut": 2}, **beside)
    done(tmp_path, task)
    records = records_in(tmp_path)

    def spares_core(settings: dict[str, int], *given: set[str]) -> bool | None:
        reason = records.reason(replace(task, settings=settings), *(dict.fromkeys(each, "x") for each in given))
        return reason.spares_core if reason is not None else None

    assert spares_core({"keep": 1, "cut": 3}) is spares_core({"keep": 1, "cut": 2}, {weights}) is True
    assert spares_core({"keep": 3, "cut": 3}) is spares_core({"keep": 1, "cut": 3}, {events}) is False
    assert spares_core({"keep": 1, "cut": 2}, set(), {events}) is None
    assert spares_core({"keep": 1, "cut": 3}, set(), {events}) is True
    assert spares_core({"keep": 1, "cut": 2}, set(), {task.inputs[0]}) is True
    Path(weights).write_text("others")
    assert spares_core({"keep": 1, "cut": 2}) is True
    records.forget(task, spares_core=True)
    assert spares_core({"keep": 1, "cut": 2}) is True
    records.write(task, Record.of(task, stamps(task), {"core": "of other events"}, 0.1))
    task.outputs[0].write_text("something else")
    assert spares_core({"keep": 1, "cut": 2}) is False


def test_what_keeps_its_core_reads_no_input_for_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make(tmp_path, settings={"keep": 1, "cut": 2}, beside=("cut",))
    done(tmp_path, task)
    before, read, hashed = stamps(task), list[Any](), task_module.file_hash
    monkeypatch.setattr(task_module, "file_hash", lambda path: read.append(path) or hashed(path))
    records_in(tmp_path).forget(task, spares_core=True)
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
    assert records.reason(task, {task.inputs[0]: "x"}) == "in.root will be rebuilt: x"
    more = make(tmp_path, inputs=(*task.inputs, "root://somewhere//b.root"))
    assert records.reason(more) == "root://somewhere//b.root is a new input"
    assert records.reason(make(tmp_path, inputs=())) == "in.root is no longer an input"
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
    assert records.reason(task) == "in.root was changed"
    done(tmp_path, task)
    task.outputs[0].write_text("something longer")
    assert records.reason(task) == "out.root was changed"
    task.outputs[0].unlink()
    assert records.reason(task) == "out.root is missing"
    done(tmp_path, task)
    (tmp_path / "code.py").write_text("new = True\n")
    task = make(tmp_path)
    assert records.reason(task) == "code.py was changed"
    assert records.reason(replace(task, code="of another user")) == ("the code that does it was changed")
    monkeypatch.setattr(records_module, "__version__", "9.0")
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
    records.write(task, replace(Record.of(task, stamps(task), {"entries": 5}, 0.1), host="worker", memory=100))
    content = json.loads(records.path(task).read_text())
    assert content.pop("finished") > "2020"
    assert len(content.pop("check")) == 24
    (output,) = content["outputs"]
    assert len(output.pop("content")) == 64
    status = task.outputs[0].stat()
    times = {"modified": status.st_mtime_ns, "changed": status.st_ctime_ns, "inode": status.st_ino}
    assert content.pop("outputs") == [{"path": "./out.root", "size": 7, **times}]
    assert content.pop("settings") == {"keep": ["MET_*"], "compare": "./a.h5", "of": ["WORKDIR/b.h5", "/c.h5"]}
    made = {"code": task.code, "version": task_module.__version__, "summary": {"entries": 5}, "format": 2}
    done = {"task": "skim/WZ/0", "seconds": 0.1, "host": "worker", "memory": 100}
    assert content == {"inputs": [{"path": "root://somewhere//in.root"}], **made, **done}


@pytest.mark.parametrize("size", [10, (1 << 20) + 1, 70 << 20])
def test_content_decides_where_the_file_system_says_that_a_file_changed(tmp_path: Path, size: int) -> None:
    (tmp_path / RECORDS).mkdir()  # a task has made it
    task, records = make(tmp_path), records_in(tmp_path)
    done(tmp_path, task)
    path, content = Path(task.inputs[0]), b"a" * size
    path.write_bytes(content)
    records.write(task, Record.of(task, stamps(task), {}, 0.1))
    before = path.stat()
    path.unlink()
    path.write_bytes(content)
    assert records.reason(task) is None
    for place in (0, size // 2, -1):
        other = bytearray(content)
        other[place] += 1
        path.write_bytes(other)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # of the same size and time
        assert records.reason(task) == "in.root was changed"


def test_of_a_large_file_that_no_task_has_made_size_and_time_decide(tmp_path: Path) -> None:
    task, records = make(tmp_path), records_in(tmp_path)
    done(tmp_path, task)
    path = Path(task.inputs[0])
    os.truncate(path, 70 << 20)
    record = records.write(task, Record.of(task, stamps(task), {}, 0.1))
    assert record.inputs[0].content is None
    other = tmp_path / "other"
    shutil.copy2(path, other)
    other.replace(path)
    assert records.reason(task) is None
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert records.reason(task) == "in.root was changed"


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
    record = records.write(task, Record.of(task, stamps(task), {}, 0.1))
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
    record = records.write(task, Record.of(task, stamps(task), {}, 0.1, {key: state(key) for key in keys}))
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
    assert reason() == "sf.json was changed"
    fingerprints = Fingerprints(records_in(tmp_path), "skim")  # changed while other tasks were done
    fingerprints.of(task, record)
    fingerprints.write([digest])
    assert reason() == "sf.json was changed"


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
    (second / "in.root").unlink()
    with pytest.raises(NanoMLError, match="in.root: no such file; skim WZ/0 needs it"):
        stamps(task)
