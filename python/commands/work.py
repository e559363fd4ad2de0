"""`nanoml work`: what a job runs."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from MLTools.NanoML.commands.options import epilog

__all__ = ["work"]


@click.command(hidden=True, epilog=epilog("nanoml work jobs/skim-0000.json --result results/skim-0000.json"))
@click.argument("job", type=click.Path(path_type=Path))
@click.option(
    "--result", type=click.Path(path_type=Path), default="result.json", help="Where its result goes."
)
@click.option("--drive", is_flag=True, help="JOB is a directory of jobs: do them all, here.")
def work(job: Path, result: Optional[Path], drive: bool) -> int:
    """Do the job that a file describes."""
    if drive:
        from MLTools.NanoML.batch import local
        from MLTools.NanoML.batch.submission import Submission

        return min(local.drive(Submission.read(job)), 1)
    from MLTools.NanoML.batch.worker import work as do

    assert result is not None
    return do(job, result)
