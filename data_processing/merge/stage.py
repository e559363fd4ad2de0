"""The stage of `nanoml merge`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_processing.merge.merge import MergeJob, merge_files
from data_processing.merge.plan import listed
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.workflow.runner import Stage
from MLTools.NanoML.workflow.task import Task

__all__ = ["merge_stage", "merge_summary", "workdir_of"]


def merge_summary(done: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What was merged, and what was not, in lines; `done` is what `merge_files` returned, by the file's name."""
    lines = []
    for name, found in done.items():
        lines.append(
            f"{name}: {found['files']:,} files, {found['entries']:,} events, sum of weights "
            f"{found['sum_of_weights']:.9g}, {found['branches']:,} branches"
        )
        if found["duplicates"]:
            lines.append(f"{found['duplicates']:,} events that an earlier file also has were left out")
        filled = [
            f"{branch} ({len(files)} of {found['files']} files)" for branch, files in found["filled"].items()
        ]
        if filled:
            lines.append(f"filled where a file lacks it: {listed(filled)}")
        lines += [f"WARNING {what} is left out: {reason}" for what, reason in found["not_merged"].items()]
    return lines


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
    return Stage("merge", [task], summary=merge_summary)


def workdir_of(output: Path) -> Path:
    """Where the record of a merged file is: a place of its own, so that others may be at work beside it."""
    return output.parent / RECORDS / output.name
