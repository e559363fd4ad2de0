"""`nanoml attach`: columns of an HDF5 file become friends of the ROOT files that it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from MLTools.NanoML.commands.options import FILE, PATH, command, find_files, flag, option, output_option, workers_option


@command("nanoml attach --columns 'score_*' --prefix my_ -o attached/ events.h5 skims/*.root", under="Work on files")
@click.argument("events", metavar="EVENTS.h5", type=PATH)
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
@option(
    "--columns",
    "Columns to attach: fields of the events, or datasets next to them; may be repeated.",
    "GLOB",
    multiple=True,
    required=True,
)
@output_option("DIR", "The directory for the files, which have the names of FILEs.", required=True)
@option("--dataset", "Dataset with run, luminosityBlock and event.", "NAME", default="events")
@option("--prefix", "Prefix of the names of the columns.", "NAME_", default="")
@option("--missing", "Value for events that are not in EVENTS.h5; default: an error.", "VALUE", type=float)
@flag("--partial", "EVENTS.h5 may have events that are in none of FILEs.")
@workers_option("Files processed at once")
@flag("--force", "Attach again, even what is up to date.")
def attach(events: Path, files: tuple[str, ...], output: Path, workers: int, force: bool, **options: Any) -> None:
    """Write columns of an HDF5 file as branches. They fit the ROOT files that it was made from, entry for entry.

    Events are matched by run, luminosityBlock and event, so the HDF5 file may come from many ROOT files, with its rows
    in any order. The output has these and the columns: make it a friend of the ROOT file.
    """
    from MLTools.NanoML.extensions.attach.attach import AttachJob, attach_stages
    from MLTools.NanoML.parallel import locked
    from MLTools.NanoML.workflow.analysis import plan, run

    job = AttachJob(events.resolve(), find_files(files), output.resolve(), **options)
    stages = attach_stages(job, workers)
    with locked(output):
        run(plan(stages, output, force), output)
