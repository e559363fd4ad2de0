from __future__ import annotations

import pytest

from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.workflow.resources import Resources, duration, in_words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30min", 1800),
        ("2m", 120),
        ("8h", 28800),
        ("1.5h", 5400),
        ("2d", 172800),
        (" 1 d ", 86400),
        ("0s", 1),
    ],
)
def test_times_are_seconds(text: str, seconds: int) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "h", "-1h", "8 hours", "1h30", "8h\n8h", "nan h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a time: write it as 30min, 8h or 2d"):
        duration(text)


def test_times_in_words() -> None:
    assert [in_words(it) for it in (45, 720, 12600, 181440)] == ["45 s", "12 min", "3.5 h", "2.1 d"]


def test_a_job_that_lacked_something_asks_for_twice_of_it() -> None:
    before = Resources()
    assert before.after("memory") == Resources(memory=4000)
    assert before.after("time") == Resources(time=7200)
    assert before.after("disk") == Resources(disk=4000)
    assert before.after("killed") is before
    assert before.after("memory").changes_since(before) == "memory 2000 -> 4000 MB"
    assert Resources(7200, disk=4000).changes_since(before) == "time 60 min -> 2.0 h, disk 2000 -> 4000 MB"
    assert before.changes_since(before) == ""
