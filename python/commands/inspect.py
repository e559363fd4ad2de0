"""`nanoml inspect`."""

from __future__ import annotations

import json
from typing import Optional

import click

from MLTools.NanoML.commands.options import FILE, epilog, json_option

__all__ = ["inspect"]


@click.command(
    epilog=epilog(
        "nanoml inspect skims/WZ.root",
        "nanoml inspect skims/WZ.root --branches 'Muon_*'",
        "nanoml inspect model.onnx --json",
    )
)
@click.argument("file", type=FILE)
@click.option(
    "--branches", metavar="GLOB", help="List the branches of a ROOT file that match, with types and titles."
)
@json_option
def inspect(file: str, branches: Optional[str], as_json: bool) -> int:
    """Show what is in a ROOT, HDF5 or ONNX file of the pipeline.

    Ends with exit code 1 if the file is damaged, or does not fit what it says of itself.
    """
    from MLTools.NanoML.inspection import inspect_file, show

    content = inspect_file(file)
    if as_json:
        click.echo(json.dumps(content, indent=1))
    else:
        show(content, branches)
    return 1 if content["errors"] else 0
