"""A submission that was written by hand, and what its jobs may have left; an analysis that was run without jobs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from MLTools.NanoML.batch.job import Job, JobResult
from MLTools.NanoML.batch.submission import JobEntry, JobOptions, Submission
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.extending import Resources
from MLTools.NanoML.workflow.task import Record, Task, stamps
from services.analysis import Analysis


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    """Jobs skim-0000 and skim-0001 of two files each, and convert-0000, which takes what the first makes."""
    workdir, directory = tmp_path / "work", tmp_path / "jobs" / "work-1"
    workdir.mkdir()
    for name in ("jobs", "results", "logs"):
        (directory / name).mkdir(parents=True)
    entries = []
    for name, numbers in (("skim-0000", (0, 1)), ("skim-0001", (2, 3)), ("convert-0000", (4,))):
        stage = name.partition("-")[0]
        tasks = []
        for number in numbers:
            source = tmp_path / f"{number}.root"
            source.write_text(f"input {number}")
            work = functools.partial(code_of, source)
            output = workdir / f"{number}.out"
            tasks.append(Task(stage, f"WZ/{number}", (str(source),), (output,), {"cut": 1}, "12ab", work))
        Job.of(name, tasks, workdir=str(workdir), base=str(tmp_path)).write(directory / "jobs" / f"{name}.json")
        entries.append(JobEntry(name, stage, [task.name for task in tasks], Resources()))
    options = JobOptions(retries=1)
    about = ("tag", "condor", str(tmp_path / "analysis.yaml"), str(workdir), "pipeline", "2026-01-01 10:00")
    made = Submission(directory, *about, entries, options, "submitted")
    made.handles = {"dag": 1}
    made.save()
    made.register()
    return made


@pytest.fixture
def leave(submission: Submission) -> Callable[..., JobResult]:
    """Writes the result of a job, some of whose tasks are done; their outputs are there."""

    def write(name: str, done: int, state: str = "done", **others: Any) -> JobResult:
        tasks = {}
        for task in submission.job(name).decoded()[:done]:
            (output,) = task.outputs
            output.write_text(f"output of {task.name}")
            made = Record.of(task, stamps(task), {"entries": 5}, 1.5)
            tasks[task.name] = replace(made, memory=100, host="worker", finished="2026")
        times = {"started": 100.0, "finished": 200.0 if state != "running" else 0.0}
        result = JobResult(name, state, {**tasks, **others.pop("tasks", {})}, "worker", **{**times, **others})
        result.write(submission.directory / "results" / f"{name}.json")
        return result

    return write


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """What the analysis of `services.analysis` gives without jobs."""
    analysis = Analysis(tmp_path_factory.mktemp("reference"), {}, "local")
    said, _ = analysis.begin("run", "analysis.yaml", NANOML_CORES="1").communicate(timeout=300)
    assert "skim: 6 of 6 to do" in said
    return analysis
