"""`nanoml skim`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Optional

import click

from MLTools.NanoML.commands.options import FILE, config_only, epilog, read_settings, reading_options, run_one

__all__ = ["skim"]


@click.command(
    epilog=epilog(
        "nanoml skim examples/trilepton.yaml",
        "nanoml skim --selection my_selection.py:DiMuon -o skims/ --keep 'MET_*' data/*.root",
        "nanoml skim --module my_module.py:MyModule --cut 'nMuon >= 2' --branches keep_and_drop.txt -o skims/ data/*.root",
    )
)
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="CONFIG | FILE...")
@click.option(
    "--selection", metavar="MODULE:CLASS", help="Skim FILEs by this selection, without a configuration."
)
@click.option(
    "--module",
    "modules",
    multiple=True,
    metavar="MODULE:NAME",
    help="Run this module of nanoAOD-tools, event by event; may be repeated.",
)
@click.option(
    "--cut", default="", metavar="FORMULA", help="Cut before the selection, as nano_postproc.py -c."
)
@click.option(
    "--json", "certified", default="", metavar="FILE", help="Of data, keep the certified luminosity sections."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where the skims go.")
@click.option(
    "--keep", multiple=True, metavar="RULE", help="Branches to keep: GLOB, or `drop GLOB`; may be repeated."
)
@click.option(
    "--branches", default="", metavar="FILE", help="Branch selection file of nanoAOD-tools, before --keep."
)
@click.option("--compression", default="ZLIB:5", show_default=True, metavar="ALGORITHM:LEVEL")
@click.option(
    "--engine",
    type=click.Choice(["columnar", "nanoaodtools"]),
    default="columnar",
    show_default=True,
    help="What runs the skim: NanoML's own, or nanoAOD-tools' PostProcessor (needs ROOT).",
)
@click.option(
    "--workers", type=click.IntRange(0), default=0, help="Files skimmed at once; default: one per core."
)
@reading_options
@click.option("--force", is_flag=True, help="Skim again, also what is up to date.")
def skim(
    files: tuple[str, ...],
    selection: Optional[str],
    modules: tuple[str, ...],
    output: Optional[Path],
    keep: tuple[str, ...],
    workers: int,
    redirectors: tuple[str, ...],
    copy_first: bool,
    max_missing_files: Optional[str],
    force: bool,
    **settings: str,
) -> None:
    """Keep the events that a selection selects, and add its columns.

    FILEs may be paths or root:// URLs. The output is NanoAOD again.
    """
    read: dict[str, Any] = {
        "redirectors": redirectors,
        "copy_first": copy_first,
        "max_missing_files": max_missing_files,
    }
    if not (selection or modules or settings["cut"] or settings["certified"]):
        config = config_only(files, "--selection, --module, --cut or --json")
        if settings["engine"] != "columnar":
            raise click.UsageError("The engine of a configuration is written there: skim.engine.")
        run_one(config, "skim", force, **read)
        return
    if output is None:
        raise click.UsageError("Say where the skims go: -o DIR.")
    from MLTools.NanoML.parallel import locked, usable_cores
    from MLTools.NanoML.rootio.remote import reading
    from MLTools.NanoML.workflow.pipeline import run_stage
    from MLTools.NanoML.workflow.stages import import_part

    stages, datasets = (
        import_part("data_processing.skim.stage"),
        import_part("data_processing.datasets.datasets"),
    )
    asked = {"selection": selection or "", "modules": list(modules), "keep": list(keep), **settings}
    reading.use(read_settings(reading.current(), **read))
    sources = datasets.find_files(files, Path(os.getcwd()))
    with locked(output):
        tasks = stages.skim_tasks(sources, output.resolve(), asked, Path.cwd(), {})
        stage = stages.skim_tasks_stage(tasks, {"": output.resolve()}, workers or usable_cores())
        run_stage(stage, sources, output, force, reading.current().max_missing_files)
