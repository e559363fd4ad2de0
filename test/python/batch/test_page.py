from __future__ import annotations

from typing import Any, Optional

import pytest

from MLTools.NanoML.batch.causes import ADVICE
from MLTools.NanoML.batch.page import lines
from MLTools.NanoML.batch.result import Problem, Result
from MLTools.NanoML.batch.status import JobState, Status
from MLTools.NanoML.batch.submission import Submission


def make(
    submission: Submission, active: Optional[bool], states: dict[str, Any], notes: tuple[str, ...] = ()
) -> Status:
    jobs = {}
    for entry in submission.jobs:
        state, done, problem = states.get(entry.name, ("waiting", 0, None))
        result = Result(entry.name, host="worker") if problem else None
        jobs[entry.name] = JobState(entry, state, done, problem, result)
    return Status(submission, jobs, active, notes)


def test_the_table_has_the_columns_that_are_needed(submission: Submission) -> None:
    status = make(submission, True, {"skim-0000": ("done", 2, None), "skim-0001": ("running", 1, None)})
    assert list(lines(status)) == [
        "work-1: pipeline on condor, submitted 2026-01-01 10:00",
        "  stage      tasks     done  running  waiting",
        "  skim           4        3        1        0",
        "  convert        1        0        0        1",
        "Jobs are at work: nanoml status --wait shows how they go on.",
    ]


def test_reasons_are_grouped_and_say_what_to_do(submission: Submission) -> None:
    problem = Problem("unreadable", "root://a//b.root: cannot be read\nafter 3 tries")
    status = make(
        submission,
        False,
        {
            "skim-0000": ("failed", 1, problem),
            "skim-0001": ("failed", 0, problem),
            "convert-0000": ("idle", 0, None),
        },
        ("A note.",),
    )
    assert list(lines(status))[3:] == [
        "  convert        1        0        0",
        f"  2 x file unreadable: {ADVICE['unreadable']}",
        "      skim-0000 (worker): root://a//b.root: cannot be read after 3 tries",
        "      skim-0001 (worker): root://a//b.root: cannot be read after 3 tries",
        "A note.",
        "No job is at work. nanoml resubmit does what is missing.",
    ]


@pytest.mark.parametrize("kind", sorted(ADVICE))
def test_every_reason_has_words_and_advice(kind: str, submission: Submission) -> None:
    status = make(submission, False, {"skim-0000": ("failed", 0, Problem(kind, "x" * 1000))})
    text = list(lines(status))
    assert any(line.endswith(f": {ADVICE[kind]}") for line in text)
    assert max(map(len, text)) < 400


def test_what_comes_next(submission: Submission) -> None:
    assert list(lines(make(submission, None, {})))[-1] == "Whether jobs are at work is not known: ask again."
    held = make(submission, True, {"skim-0000": ("held", 0, Problem("held", "by hand"))})
    assert list(lines(held))[-1].endswith("Held jobs wait for nanoml resubmit.")
