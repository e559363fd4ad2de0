"""`nanoml crab`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from MLTools.NanoML.commands.options import config_argument, epilog

__all__ = ["crab"]


@click.command(
    short_help="Write CRAB tasks that skim and score on the grid.",
    epilog=epilog(
        "nanoml crab analysis.yaml -o crab/ --site T2_DE_DESY --directory /store/user/$USER/analysis"
    ),
)
@config_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="For a directory of each dataset's task.",
)
@click.option("--site", required=True, metavar="SITE", help="Where the output goes, as in T2_CH_CERN.")
@click.option("--directory", metavar="LFN", help="The directory there, as in /store/user/NAME/analysis.")
@click.option(
    "--files-per-job",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Files that a job reads, and makes one of.",
)
@click.option(
    "--run-at",
    "sites",
    multiple=True,
    default=("T2_*",),
    show_default=True,
    metavar="SITE",
    help="Where jobs run whose files are named one by one; may be repeated.",
)
def crab(
    config: Path,
    output: Path,
    site: str,
    directory: Optional[str],
    files_per_job: int,
    sites: tuple[str, ...],
) -> None:
    """Write a CRAB task for each dataset: PSet, script and crab_cfg.py. Nothing is submitted.

    A job skims as `nanoml skim` with the engine nanoaodtools does, and adds the scores of the models of the section
    `score`, or of the analysis's own model if it has been exported. The files of a dataset are its name in CMS's
    catalogue, or logical names (/store/...).
    """
    from MLTools.NanoML.config import load
    from MLTools.NanoML.pipeline import import_part

    tasks = import_part("data_processing", "crab.tasks")
    grid = tasks.Grid(site, directory, files_per_job, sites)
    for line in tasks.write_tasks(load(config), output.resolve(), grid):
        click.echo(line)
