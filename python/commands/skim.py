"""`nanoml skim`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import click

from MLTools.NanoML.commands.options import config_only, epilog, run_one

__all__ = ["skim"]


@click.command(
    epilog=epilog(
        "nanoml skim examples/trilepton.yaml",
        "nanoml skim --selection my_selection.py:DiMuon -o skims/ --keep 'MET_*' data/*.root",
    )
)
@click.argument("files", nargs=-1, required=True, metavar="CONFIG | FILE...")
@click.option(
    "--selection", metavar="MODULE:CLASS", help="Skim FILEs by this selection, without a configuration."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where the skims go.")
@click.option("--keep", multiple=True, metavar="GLOB", help="Branches to keep; may be repeated.")
@click.option("--compression", default="ZLIB:5", show_default=True, metavar="ALGORITHM:LEVEL")
@click.option(
    "--workers", type=click.IntRange(0), default=0, help="Files skimmed at once; default: one per core."
)
@click.option("--force", is_flag=True, help="Skim again, also what is up to date.")
def skim(
    files: tuple[str, ...],
    selection: Optional[str],
    output: Optional[Path],
    keep: tuple[str, ...],
    compression: str,
    workers: int,
    force: bool,
) -> None:
    """Keep the events that a selection selects, and add its columns.

    FILEs may be paths or root:// URLs. The output is NanoAOD again.
    """
    if selection is None:
        run_one(config_only(files, "--selection"), "skim", force)
        return
    if output is None:
        raise click.UsageError("Say where the skims go: -o DIR.")
    from MLTools.NanoML.pipeline import import_part
    from MLTools.NanoML.runner import Stage, locked, plan, run, usable_cores

    stages, datasets = import_part("data_processing", "stages"), import_part("data_processing", "datasets")
    settings = {"selection": selection, "keep": list(keep), "compression": compression}
    sources = datasets.find_files(files, Path(os.getcwd()))
    with locked(output):
        tasks = stages.skim_tasks(sources, output.resolve(), settings, Path.cwd(), 200_000)
        run(
            plan([Stage("skim", tasks, workers or usable_cores(), stages.skim_summary)], output, force),
            output,
        )
