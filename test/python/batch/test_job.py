"""The files of a job: what it does, and what it leaves; and how all of that is written as JSON."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from MLTools.NanoML.batch.job import Job, JobProblem, JobResult, decode, encode
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extending import Resources
from MLTools.NanoML.workflow.task import Record, Stamp, Task


def make_job(directory: Path) -> Job:
    work = functools.partial(code_of, directory / "in.root")
    task = Task("skim", "WZ/0", (str(directory / "in.root"),), (directory / "out.root",), {}, "12ab", work)
    return Job.of("skim-0000", [task], workdir=str(directory), base=str(directory), storage={"/eos/": "root://a//eos/"})


def test_a_job_is_read_as_it_was_written(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    job.write(tmp_path / "job.json")
    found = Job.read(tmp_path / "job.json")
    assert found.recorded() == job.recorded()
    assert (found.workdir, found.storage) == (job.workdir, job.storage)
    assert found.decoded() == job.decoded()
    assert found.decoded(lambda text: text.replace("in.root", "other.root"))[0].inputs == (
        str(tmp_path / "other.root"),
    )


def test_what_is_recorded_of_tasks_needs_no_import_of_what_does_them(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    job.tasks[0]["fields"]["work"]["call"] = "data_processing.no_such_module:work"
    (task,) = job.recorded()
    assert (task.stage, task.name, task.settings, task.code) == ("skim", "WZ/0", {}, "12ab")
    assert (task.inputs, task.outputs) == ((str(tmp_path / "in.root"),), (tmp_path / "out.root",))
    assert Job("tune-0001", "tune", "/w", "/b", command=["tune", "analysis.yaml"]).recorded() == []


NO_JOBS = (b"[]", b"1", b'"a"', b"null", b"{}", b'{"schema": 1}', b'{"schema": 1, "wheels": 4}', b"\xff")


def test_what_is_no_whole_job_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    make_job(tmp_path).write(path)
    whole = path.read_bytes().rstrip()
    for content in (*NO_JOBS, *(whole[:end] for end in range(0, len(whole), 7))):
        path.write_bytes(content)
        with pytest.raises(NanoMLError, match="is not a job of this version of NanoML"):
            Job.read(path)
    path.write_text(json.dumps({**json.loads(whole), "schema": 2}))
    with pytest.raises(NanoMLError, match="schema 2, this NanoML reads 1. It is not a job of this version of NanoML"):
        Job.read(path)
    with pytest.raises(NanoMLError, match="no such file"):
        Job.read(tmp_path / "none.json")


@pytest.mark.parametrize("task", [3, {}, {"fields": []}, {"fields": {"stage": {}}}, {"type": "x", "fields": []}])
def test_a_damaged_task_is_one_message(task: object) -> None:
    job = Job("skim-0001", "skim", "", "", [task])
    with pytest.raises(NanoMLError, match="the job skim-0001 is damaged"):
        job.decoded() if task == {"type": "x", "fields": []} else job.recorded()


def make_result() -> JobResult:
    problem, made = JobProblem("disk", "full"), {"inputs": (Stamp("a"),), "outputs": (Stamp("b", 1, 2),)}
    done = Record("", "", "", summary={"entries": 5}, seconds=1.5, memory=200, host="host", **made)
    tasks, earlier = {"WZ/0": done, "WZ/1": problem}, [JobProblem("lost", "gone", host="host")]
    return JobResult("skim-0000", "failed", tasks, "host", 12, "5.0", 1.0, 2.0, 1, problem, earlier)


def test_a_result_of_the_first_version_is_read_and_of_a_later_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    make_result().write(path)
    assert JobResult.read(path) == make_result()
    content = json.loads(path.read_text())
    assert content.pop("schema") == 1
    done, failed = content["tasks"].values()
    content["tasks"] = {"WZ/0": {**done, "state": "done"}, "WZ/1": {"problem": failed, "state": "failed"}}
    path.write_text(json.dumps(content))
    assert JobResult.read(path) == make_result()
    path.write_text(json.dumps({**content, "schema": 2}))
    assert JobResult.read(path) is None


NO_RESULTS = ("[]", "1", "null", "{}", '{"tasks": {}, "problem": null}', '{"tasks": [], "problem": 1}')


def test_what_is_no_whole_result_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    assert JobResult.read(path) is None
    make_result().write(path)
    whole = path.read_text().rstrip()
    for content in (*NO_RESULTS, '{"job": "a", "tasks": {"a": 1}}', *(whole[:end] for end in range(0, len(whole), 7))):
        path.write_text(content)
        assert JobResult.read(path) is None


plain = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
paths = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), min_size=1).map(Path)
keys = st.text() | st.sampled_from(["path", "tuple", "number", "mapping", "type", "call"])
records = st.builds(Resources, st.integers(), st.integers()) | st.builds(JobProblem, st.text(), st.text())


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    mappings = st.dictionaries(keys, inner) | st.dictionaries(st.integers() | keys, inner)
    return st.lists(inner) | st.lists(inner).map(tuple) | mappings


values = st.recursive(plain | paths | records, nested, max_leaves=20)


def there_and_back(value: Any, rename: Callable[[str], str] = lambda text: text) -> Any:
    return decode(json.loads(json.dumps(encode(value), allow_nan=False)), rename)


@settings(max_examples=60)
@given(values)
def test_what_is_encoded_comes_back_the_same(value: Any) -> None:
    found = there_and_back(value)
    assert found == value
    assert repr(found) == repr(value)  # which tells 1 from True and 1.0, and a list from a tuple


def test_numbers_that_json_has_not_come_back() -> None:
    nan, infinite = there_and_back([math.nan, -math.inf])
    assert math.isnan(nan)
    assert infinite == -math.inf


@settings(max_examples=30)
@given(st.lists(values, max_size=3), st.dictionaries(st.sampled_from("abc"), values, max_size=3))
def test_partials_come_back(arguments: list[Any], keywords: dict[str, Any]) -> None:
    found = there_and_back(functools.partial(code_of, *arguments, **keywords))
    assert found.func is code_of
    assert repr((list(found.args), found.keywords)) == repr((arguments, keywords))


def test_a_task_comes_back_with_its_work(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    work = functools.partial(code_of, tmp_path / "a.py")
    task = Task("skim", "WZ/0", ("a.root",), (tmp_path / "b.root",), {"cut": None}, "12ab", work, folders=(tmp_path,))
    found = there_and_back(task)
    assert found == task
    assert found.work() == code_of(tmp_path / "a.py")


def test_every_text_and_path_is_renamed_but_no_key_and_no_name_of_a_class() -> None:
    value = {"/here/a": ["/here/b", Path("/here/c"), ("/here/d", JobProblem("/here/e", "no"))]}
    found = there_and_back(value, lambda text: text.replace("/here", "/there"))
    assert found == {"/here/a": ["/there/b", Path("/there/c"), ("/there/d", JobProblem("/there/e", "no"))]}


def test_what_cannot_be_written_is_refused() -> None:
    for value in ({1, 2}, b"bytes", object(), len, Resources):
        with pytest.raises(TypeError, match="cannot be written as JSON"):
            encode([value])


TASK, JOB = "MLTools.NanoML.workflow.task", "MLTools.NanoML.batch.job"
OTHERS = ("os:system", "subprocess:Popen", "builtins:eval", "data_processingx:thing", "MLTools:NanoML", "", ":")
DEEPER = (f"{TASK}:os.system", f"{TASK}:Task.__init__.__globals__", f"{JOB}:importlib.import_module", f"{JOB}:Path")


@pytest.mark.parametrize("name", [*OTHERS, "MLTools.NanoMLx:thing", *DEEPER])
def test_a_job_may_ask_for_nothing_but_classes_and_functions_of_nanoml(name: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for content in ({"call": name, "arguments": [f"touch {canary}"], "keywords": {}}, {"type": name, "fields": {}}):
        with pytest.raises(NanoMLError, match="so no job may ask for it"):
            work = decode(content)
            work()
    assert not canary.exists()


def test_to_read_a_job_calls_no_function(tmp_path: Path) -> None:
    """Reading is what `nanoml status` and `nanoml draw` do, in a work directory of somebody else, too."""
    program = tmp_path / "program.py"
    program.write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    for name, fields in (
        ("MLTools.NanoML.loading:import_file", {"path": {"path": str(program)}, "prefix": "a"}),
        ("MLTools.NanoML.atomic:write_text", {"path": str(tmp_path / "canary"), "text": "written"}),
    ):
        with pytest.raises(NanoMLError, match="so no job may ask for it"):
            decode({"type": name, "fields": fields})
    assert not (tmp_path / "canary").exists()


def test_what_another_version_asks_for_says_so() -> None:
    wanted = "another version of NanoML|does not exist in this version of NanoML"
    for content in (
        {"type": "MLTools.NanoML.stages:Resources", "fields": {"wheels": 4}},
        {"type": "MLTools.NanoML.stages:Wishes", "fields": {}},
        {"call": "MLTools.NanoML.no_such_module:work", "arguments": [], "keywords": {}},
    ):
        with pytest.raises(NanoMLError, match=wanted):
            decode(content)
