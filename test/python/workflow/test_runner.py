from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from MLTools.NanoML import parallel
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import locked, workers_for
from MLTools.NanoML.terminal import progress
from MLTools.NanoML.workflow.record import Reason, Record
from MLTools.NanoML.workflow.runner import Planned, Stage, plan, run
from MLTools.NanoML.workflow.task import Task
from processes import running
from services.daemons import wait_for

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
def test_only_what_changed_runs_again(inputs: Path, workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    stages = [stage(inputs, "a", "in", range(4), workers), stage(inputs, "b", "a", range(4), workers)]
    run(plan(stages, inputs), inputs)
    assert [(inputs / f"b{number}").read_text() for number in range(4)] == [f"content {number}" for number in range(4)]
    assert "  36 bytes" in capsys.readouterr().err
    assert [dict(each.reasons) for each in plan(stages, inputs)] == [{}, {}]
    (inputs / "in2").write_text("changed!!")
    assert plan(stages, inputs)[0].reasons == {"2": f"{inputs / 'in2'} was changed"}
    third = [
        *stages,
        stage(inputs, "c", "b", range(4), workers),
    ]  # with the first cause, and paths relative to the YAML file
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


def test_a_part_that_was_interrupted_is_done_again_and_nothing_else(inputs: Path) -> None:
    first, second = stage(inputs, "a", "in", range(2)), stage(inputs, "b", "a", range(2))
    done = []

    def partly(name: str) -> dict[str, int]:
        if not done:
            raise KeyboardInterrupt
        done.append(name)
        return {"size": 5}

    def stages(cut: int) -> list[Stage]:
        beside = {"settings": {"cut": cut}, "beside": ("cut",)}
        mine = [replace(it, partly=functools.partial(partly, it.name), **beside) for it in first.tasks]
        others = [replace(it, core=it.inputs) for it in second.tasks]
        return [replace(first, tasks=mine), replace(second, tasks=others, kept="stays, although {}")]

    run(plan(stages(1), inputs), inputs)
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


@pytest.mark.parametrize("workers", [1, 3])
def test_what_many_tasks_mention_is_printed_once(
    inputs: Path, workers: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_notes", {})
    run(plan([stage(inputs, "a", "in", range(4), workers)], inputs), inputs)
    assert capsys.readouterr().err.count("is copied, as many others are") == 1


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
from MLTools.NanoML.workflow.runner import Stage, plan, run
from MLTools.NanoML.workflow.record import Reason, Record
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
    wait_for(lambda: not any(map(_alive, workers)), "their end")


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False


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
    stages = [
        replace(stage(inputs, "out", "in", range(4)), summary=lambda done: [str(write(page, done))], written=[page])
    ]

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
