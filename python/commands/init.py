"""`nanoml init`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from MLTools.NanoML.commands.options import epilog

__all__ = ["init"]


@click.command(short_help="Make a directory for a new analysis.", epilog=epilog("nanoml init myanalysis"))
@click.argument("directory", metavar="NAME", type=click.Path(path_type=Path))
def init(directory: Path) -> None:
    """Make a directory for a new analysis, which runs as it stands, on sample data.

    It has the YAML file of the analysis, with comments, a selection of your own with its test, a README and a
    .gitignore. NAME must not exist, or be an empty directory.
    """
    from MLTools.NanoML.commands.skeleton import create

    for path in create(directory):
        click.echo(f"  {directory / path}")
    go_there = "" if directory.resolve() == Path(os.getcwd()) else f"cd {shlex.quote(str(directory))} && "
    click.echo(f"Now:  {go_there}nanoml run analysis.yaml")
