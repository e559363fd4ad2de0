"""`nanoml convert`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Optional

import click

from MLTools.NanoML.commands.options import config_only, epilog, json_option, run_one
from MLTools.NanoML.progress import say

__all__ = ["convert"]


class _Collection(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    name = "NAME:MAX"

    def convert(
        self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]
    ) -> tuple[str, int]:
        name, _, number = str(value).partition(":")
        if not name or not number.isdigit() or int(number) < 1:
            self.fail(f'"{value}": write a collection and how many objects to keep, as in Muon:4.')
        return name, int(number)


@click.command(
    epilog=epilog(
        "nanoml convert examples/trilepton.yaml",
        "nanoml convert -o events.h5 --branches 'MET_*' --objects Muon:4 --objects Jet:6 skims/*.root",
    )
)
@click.argument("files", nargs=-1, required=True, metavar="CONFIG | FILE...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="OUT.h5",
    help="Convert FILEs to this one file, without a configuration.",
)
@click.option(
    "--branches",
    multiple=True,
    metavar="GLOB",
    help="Event-level branches; may be repeated. Default: all but trigger bits and counters.",
)
@click.option(
    "--objects",
    multiple=True,
    type=_Collection(),
    metavar="NAME:MAX",
    help="A collection, padded or cut to MAX objects of highest pt; may be repeated.",
)
@click.option("--compression", default="gzip:4", show_default=True, metavar="gzip:LEVEL|none")
@click.option("--force", is_flag=True, help="Convert again, also what is up to date (with CONFIG).")
@json_option
def convert(
    files: tuple[str, ...],
    output: Optional[Path],
    branches: tuple[str, ...],
    objects: tuple[tuple[str, int], ...],
    compression: str,
    force: bool,
    as_json: bool,
) -> None:
    """Convert ROOT files to HDF5, skimmed before or not.

    The result needs no manual: h5py, pandas and scikit-learn read it, and it says of itself what it holds.
    """
    if output is None:
        run_one(config_only(files, "-o OUT.h5"), "convert", force)
        return
    metadata = _convert_files(files, output, branches, objects, compression)
    if as_json:
        click.echo(json.dumps(metadata, indent=1))


def _convert_files(
    files: tuple[str, ...],
    output: Path,
    branches: tuple[str, ...],
    objects: tuple[tuple[str, int], ...],
    compression: str,
) -> dict[str, Any]:
    from MLTools.NanoML.pipeline import import_part
    from MLTools.NanoML.rootfile import RootFile

    conversion, datasets = (
        import_part("data_processing", "convert"),
        import_part("data_processing", "datasets"),
    )
    columns = import_part("data_processing", "columns")
    sources = datasets.find_files(files, Path(os.getcwd()))
    with RootFile(sources[0]) as first:
        features, left_out = columns.event_level_branches(first, branches)
        wanted = {
            name: columns.Objects((), most, "-pt" if f"{name}_pt" in first.branches else None)
            for name, most in objects
        }
    job = conversion.ConvertJob(sources, output, features, wanted, compression=compression)
    metadata: dict[str, Any] = conversion.convert_files(job)
    if left_out:
        say(f"{left_out} trigger bits and counters were left out; name them by --branches to have them.")
    for line in conversion.truncation_lines(output.name, metadata):
        say(line)
    return metadata
