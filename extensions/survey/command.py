"""`nanoml corrections propose`, `check` and `compare`."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Optional

import click

from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.commands.corrections import corrections
from MLTools.NanoML.commands.options import (
    PATH,
    echo,
    echo_as_is,
    echo_json,
    epilog,
    flag,
    json_option,
    option,
    output_option,
)
from MLTools.NanoML.terminal.progress import say

_FIRST = "nanoml corrections propose --era 2018_UL --directory POG -o corrections/2018.yaml"

corrections.epilog = f"{corrections.epilog}\n    {_FIRST}"


@corrections.command(
    short_help="Propose the YAML file of an era.",
    epilog=epilog(_FIRST, "nanoml corrections propose --era 2024 --directory /cvmfs/cms-griddata.cern.ch/cat/metadata"),
)
@option("--era", "The era, as its directories name it, or the year.", "ERA", required=True)
@option("--directory", "A tree of files of CMS's object groups, or a part of it.", "DIR", type=PATH, required=True)
@output_option("FILE", "The YAML file to write; by default it is printed.")
@flag("--force", "Replace the YAML file if it exists.")
def propose(era: str, directory: Path, output: Optional[Path], force: bool) -> None:
    """Propose the YAML file of an era: all corrections in a tree of files that NanoML knows a use for.

    Files are known by what is in them. Each is named with its SHA-256, and with the date of its directory; under `latest`, which
    changes, with a warning. Comments say what else there is to choose, and what was not found, and why.

    What is wrong in the tree, such as a damaged file, is left out, and the exit code is 1.
    """
    from MLTools.NanoML.extensions.survey.propose import propose as made

    if output is not None and output.exists() and not force:
        raise click.UsageError(f"{output} exists: give another name, or --force to replace it.")
    proposal = made(directory, era, output.parent if output is not None else None)
    if output is None:
        echo_as_is(proposal.text.rstrip())
    else:
        write_text(output, proposal.text)
    _end(proposal.problems, proposal.warnings)


@corrections.command(
    "check", short_help="List what NanoML can use of a tree of files.", epilog=epilog("nanoml corrections check POG")
)
@click.argument("directory", metavar="DIR", type=PATH)
@json_option
def check_tree(directory: Path, as_json: bool) -> None:
    """Open each file of a tree, and say what of it NanoML can use, and what it cannot use and why.

    The exit code is 1 if a file is damaged.
    """
    from MLTools.NanoML.extensions.survey.compare import check
    from MLTools.NanoML.terminal.page import Page, TableColumn

    files = list(check(directory))
    if as_json:
        echo_json([dataclasses.asdict(each) for each in files])
    else:
        rows = [(each.path, ", ".join(each.entries), each.others) for each in files if not each.problem]
        columns = ["file", TableColumn("has corrections for", "rest"), TableColumn("others", "number")]
        page = Page()
        page.table(f"{len(files)} files", columns, rows)
        unusable = [(each.path, why) for each in files for why in each.unusable]
        page.table("Not usable", ["file", TableColumn("why", "rest")], unusable)
    _end([each.problem for each in files if each.problem])


@corrections.command(
    short_help="List what changed between two states.",
    epilog=epilog("nanoml corrections compare JME/2022_Summer22/2025-09-23 JME/2022_Summer22/2026-06-01"),
)
@click.argument("old", type=PATH)
@click.argument("new", type=PATH)
@output_option("DIR", "A directory for figures of the changes.")
@json_option
def compare(old: Path, new: Path, output: Optional[Path], as_json: bool) -> None:
    """Compare two files of correctionlib, or two directories: what appeared, vanished, or changed its inputs or values.

    Values are compared at the middles of bins: the typical and the largest relative change, and where that is. A correction of
    which only the version is another one, V2 or V3, is compared, too.
    """
    from MLTools.NanoML.extensions.survey.compare import compare as compared
    from MLTools.NanoML.schema.plain import plain
    from MLTools.NanoML.terminal.page import Page, TableColumn, share

    changes = list(compared(old, new))
    if as_json:
        echo_json([plain(dataclasses.replace(each, curve=None)) for each in changes])
    else:
        rows = []
        for it in changes:
            sizes = ["" if value is None else share(value) for value in (it.typical, it.largest)]
            about = f"{it.about}; the largest at {it.where}" if it.where else it.about
            rows.append((it.file, it.correction, it.what, *sizes, about))
        columns = ["file", "correction", "change", TableColumn("typical", "number"), TableColumn("largest", "number")]
        page = Page()
        page.table(f"{len(changes)} changes", [*columns, TableColumn("about", "rest")], rows)
        if not changes:
            page.line("Nothing has changed.")
    if output is not None and importlib.util.find_spec("mplhep") is None:
        echo("warning: no figures, since the Python package mplhep is missing: pip install mplhep.", err=True)
    elif output is not None:
        from MLTools.NanoML.extensions.survey.changes import draw  # imports matplotlib

        for stem in draw(changes, output):
            say(f"{stem}.png and .pdf are written.")
    _end([each.about for each in changes if each.what == "damaged"])


def _end(problems: Collection[str], warnings: Iterable[str] = ()) -> None:
    """Print warnings and errors, and end with exit code 1 if there are any errors."""
    for kind, texts in (("warning", warnings), ("error", problems)):
        for text in texts:
            echo(f"{kind}: {text}", err=True)
    if problems:
        click.get_current_context().exit(1)
