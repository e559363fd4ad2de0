"""The stage of `nanoml merge`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_processing.merge.merge import MergeJob, MergeRecord, merge_files
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.workflow.runner import Stage
from MLTools.NanoML.workflow.task import Task


def merge_stage(job: MergeJob) -> Stage:
    """The stage that merges; its record belongs in `workdir_of` the output."""
    settings = {"fill": job.fill, "common": job.common, "compression": job.compression}
    task = Task(
        "merge",
        job.output.name,
        tuple(job.sources),
        (job.output,),
        settings,
        code_of(merge_files.__module__),
        functools.partial(merge_files, job),
    )
    return Stage("merge", [task], summary=_lines)


def _lines(done: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The summary of merged files, by their names and the JSON of their `MergeRecord`."""
    return [line for name, content in done.items() for line in MergeRecord(**content).lines(name)]


def workdir_of(output: Path) -> Path:
    """Where the record of a merged file is: a place of its own, so that other runs may write beside it."""
    return output.parent / RECORDS / output.name
