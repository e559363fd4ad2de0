"""`nanoml doctor`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Optional

import click

from MLTools.NanoML.commands.options import epilog, json_option

if TYPE_CHECKING:
    from MLTools.NanoML.doctor import Examination

__all__ = ["doctor"]

WAYS = ("laptop", "lxplus", "condor", "slurm", "crab", "cmssw")


@click.command(
    short_help="Check what this machine has of what NanoML needs.",
    epilog=epilog("nanoml doctor", "nanoml doctor --for condor", "nanoml doctor --for crab --json"),
)
@click.option("--for", "way", type=click.Choice(WAYS), help="The way of working; default: a guess.")
@click.option(
    "--redirector",
    default="",
    metavar="HOST",
    help="Also ask whether this XRootD server answers; on lxplus that of CMS is asked anyway.",
)
@json_option
def doctor(way: Optional[str], redirector: str, as_json: bool) -> int:
    """Check, here and now, what a way of working needs, and say how to mend what is not as it should be.

    \b
    laptop   everything on this machine
    lxplus   interactive work on lxplus, with files of the grid
    condor   jobs of HTCondor
    slurm    jobs of Slurm
    crab     jobs on the grid, by CRAB
    cmssw    skims, conversion and scores in CMSSW

    Ends with exit code 1 if something is missing without which nothing goes. Nothing is changed, and nobody is asked
    that is not in the list.
    """  # noqa: D301
    from MLTools.NanoML.doctor import examine, guess

    found = examine(way or guess(), redirector)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=1))
    else:
        _show(found, guessed=way is None)
    return 1 if found.missing else 0


def _show(found: Examination, guessed: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from MLTools.NanoML.doctor import WAYS as KNOWN
    from MLTools.NanoML.doctor import State

    styles = {State.FINE: "green", State.ABSENT: "yellow", State.MISSING: "bold red"}
    others = ", ".join(name for name in KNOWN if name != found.way)
    console = Console(highlight=False, soft_wrap=False)
    console.print(Text(f"{found.way}: {KNOWN[found.way].about}", style="bold"))
    if guessed:
        console.print(Text(f"(a guess; nanoml doctor --for {others})", style="dim"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, finding in found.findings.items():
        state = found.state(name)
        told = Text(finding.found)
        if finding.mend:
            told.append(f"\n-> {finding.mend}", style="cyan")
        table.add_row(Text(state.value, style=styles[state]), Text(name), told)
    console.print(table)
    missing = found.missing
    if missing:
        console.print(Text(f"Missing for {found.way}: {', '.join(missing)}.", style="bold red"))
    else:
        console.print(Text(f"All that {found.way} needs is here.", style="bold green"))
