"""`nanoml attach`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import click

from MLTools.NanoML.commands.options import FILE, epilog

__all__ = ["attach"]


@click.command(
    epilog=epilog("nanoml attach --columns 'score_*' --prefix my_ -o attached/ events.h5 skims/*.root")
)
@click.argument("events", metavar="EVENTS.h5", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
@click.option(
    "--columns",
    multiple=True,
    required=True,
    metavar="GLOB",
    help="Columns to attach: fields of the events, or datasets beside them; may be repeated.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Where the files go, under the names of FILEs.",
)
@click.option(
    "--dataset",
    default="events",
    show_default=True,
    metavar="NAME",
    help="Dataset with run, luminosityBlock and event.",
)
@click.option("--prefix", default="", metavar="NAME_", help="Put before the names of the columns.")
@click.option(
    "--missing", type=float, metavar="VALUE", help="Value for events that EVENTS.h5 lacks; default: an error."
)
@click.option("--partial", is_flag=True, help="EVENTS.h5 may have events that are in none of FILEs.")
@click.option(
    "--workers", type=click.IntRange(0), default=0, help="Files worked on at once; default: one per core."
)
@click.option("--force", is_flag=True, help="Attach again, also what is up to date.")
def attach(
    events: Path,
    files: tuple[str, ...],
    columns: tuple[str, ...],
    output: Path,
    dataset: str,
    prefix: str,
    missing: Optional[float],
    partial: bool,
    workers: int,
    force: bool,
) -> None:
    """Write columns of an HDF5 file as branches, entry for entry with the ROOT files that it was made from.

    Events are found by run, luminosityBlock and event, so the HDF5 file may be of many ROOT files, and its rows in
    any order. The output has these and the columns: make it a friend of the ROOT file.
    """
    from MLTools.NanoML.parallel import locked, usable_cores
    from MLTools.NanoML.workflow.runner import plan, run
    from MLTools.NanoML.workflow.stages import import_part

    attaching, stage_of, datasets = (
        import_part(name)
        for name in (
            "data_processing.score.attach",
            "data_processing.score.attachstage",
            "data_processing.datasets.datasets",
        )
    )
    sources = datasets.find_files(files, Path(os.getcwd()))
    job = attaching.AttachJob(
        events.resolve(), sources, output.resolve(), columns, dataset, prefix, missing, partial
    )
    stages = stage_of.attach_stages(job, workers or usable_cores())
    with locked(output):
        run(plan(stages, output, force), output)
