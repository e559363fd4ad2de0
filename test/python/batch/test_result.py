from __future__ import annotations

from pathlib import Path

import pytest

from MLTools.NanoML.batch.result import Done, Problem, Result


def make() -> Result:
    done = Done("done", [{"path": "a"}], [{"path": "b", "size": 1}], {"entries": 5}, 1.5, 200, "host", "2026")
    failed = Done("failed", problem=Problem("disk", "full"))
    tasks = {"WZ/0": done, "WZ/1": failed}
    return Result(
        "skim-0000",
        "failed",
        tasks,
        "host",
        12,
        "5.0",
        1.0,
        2.0,
        1,
        Problem("disk", "full"),
        [{"kind": "lost"}],
    )


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    make().write(tmp_path / "result.json")
    assert Result.read(tmp_path / "result.json") == make()


def test_one_that_has_not_ended_says_so() -> None:
    assert make().has_ended
    assert not Result("skim-0000").has_ended


def test_truncations_of_a_result_count_as_none(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    make().write(path)
    text = path.read_text().rstrip()
    for end in range(0, len(text), 7):
        path.write_text(text[:end])
        assert Result.read(path) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "1",
        "null",
        "{}",
        '{"tasks": {}, "problem": null}',
        '{"tasks": [], "problem": 1}',
        '{"job": "a", "tasks": {"a": 1}}',
    ],
)
def test_what_is_no_result_counts_as_none(content: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    assert Result.read(path) is None
    assert Result.read(tmp_path / "none.json") is None
