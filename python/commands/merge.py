"""`nanoml merge`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from MLTools.NanoML.commands.options import FILE, epilog

__all__ = ["merge"]


@click.command(
    short_help="Merge NanoAOD files.",
    epilog=epilog(
        "nanoml merge -o WZ.root skims/WZTo3LNu/*.root",
        "nanoml merge --fill -o 2018.root 'skims/Run2018*/*.root'",
    ),
)
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="OUT.root",
    help="The file that is made.",
)
@click.option(
    "--fill", is_flag=True, help="Fill branches that a file lacks with zeros, false or empty lists there."
)
@click.option("--common", is_flag=True, help="Leave out branches that are not the same in all files.")
@click.option("--compression", default="ZLIB:5", show_default=True, metavar="ALGORITHM:LEVEL")
@click.option(
    "--memory", default=100, show_default=True, type=click.IntRange(1), help="MB for the events at work."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be merged.")
@click.option("--force", is_flag=True, help="Merge again, also what is up to date.")
def merge(
    files: tuple[str, ...],
    output: Path,
    fill: bool,
    common: bool,
    compression: str,
    memory: int,
    dry_run: bool,
    force: bool,
) -> None:
    """Merge NanoAOD files, skims or not, without losing an event, a branch or a weight.

    An event of collision data that several files have, as skims of two primary datasets may, is taken from the first.

    Events, Runs and LuminosityBlocks come one after the other in the order of FILEs, histograms are summed. The files
    must have the same branches, in any order; of types that differ, the larger one is taken. The result is read again
    and compared with what was read of FILEs. A file that keeps no event still counts with its weights.
    """
    if fill and common:
        raise click.UsageError(
            "--fill takes the branches of any file, --common those of all: give one of them."
        )
    from MLTools.NanoML.parallel import locked
    from MLTools.NanoML.workflow.runner import plan, run
    from MLTools.NanoML.workflow.stages import import_part

    merging, stage_of, datasets = (
        import_part(name)
        for name in (
            "data_processing.merge.merge",
            "data_processing.merge.stage",
            "data_processing.datasets.datasets",
        )
    )
    sources = datasets.find_files(files, Path(os.getcwd()))
    job = merging.MergeJob(sources, output.resolve(), fill, common, compression, memory)
    workdir = stage_of.workdir_of(job.output)
    stage = stage_of.merge_stage(job)
    if dry_run:
        lines = [line for each in plan([stage], workdir, force) for line in each.lines()]
        click.echo("\n".join([*lines, *stage_of.merge_summary({job.output.name: merging.foresee(job)})]))
        return
    with locked(workdir):
        run(plan([stage], workdir, force), workdir)
