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

from MLTools.NanoML.batch.job import JobProblem, decode, encode
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.stages import Resources
from MLTools.NanoML.workflow.task import Task

plain = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
paths = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), min_size=1).map(Path)
keys = st.text() | st.sampled_from(["path", "tuple", "number", "mapping", "type", "call"])
records = st.builds(Resources, st.integers(), st.integers()) | st.builds(JobProblem, st.text(), st.text())
values = st.recursive(
    plain | paths | records,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(keys, inner)
        | st.dictionaries(st.integers() | keys, inner)
    ),
    max_leaves=20,
)


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


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "subprocess:Popen",
        "builtins:eval",
        "data_processingx:thing",
        "MLTools:NanoML",
        "MLTools.NanoMLx:thing",
        "",
        ":",
        "MLTools.NanoML.workflow.task:os.system",
        "MLTools.NanoML.workflow.task:Task.__init__.__globals__",
        "MLTools.NanoML.batch.job:importlib.import_module",
        "MLTools.NanoML.batch.job:Path",
    ],
)
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


def test_a_job_of_another_version_says_so() -> None:
    wanted = "another version of NanoML|does not exist in this version of NanoML"
    for content in (
        {"type": "MLTools.NanoML.stages:Resources", "fields": {"wheels": 4}},
        {"type": "MLTools.NanoML.stages:Wishes", "fields": {}},
        {"call": "MLTools.NanoML.no_such_module:work", "arguments": [], "keywords": {}},
    ):
        with pytest.raises(NanoMLError, match=wanted):
            decode(content)
