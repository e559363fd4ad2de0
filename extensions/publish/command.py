"""`nanoml publish`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from MLTools.NanoML.commands.options import command, config_argument, echo, flag, loaded, option, output_option, settle


@command(
    "nanoml publish examples/wz.yaml -o capsule",
    "nanoml publish analysis.yaml -o capsule --title 'Search for W prime' --author 'The collaboration' --dry-run",
    under="Look at results",
    short="Write what others need to check or recast a result.",
)
@config_argument
@output_option("DIRECTORY", "Write it there; a capsule that is there is replaced.", required=True)
@option("--title", "Title of the analysis; default: the name of its work directory.", "TEXT")
@option("--author, authors", "An author, or a collaboration, to be cited; may be repeated.", "NAME", multiple=True)
@option("--events", "Reference events of each dataset.", "N", default=300, type=click.IntRange(1))
@flag("--dry-run", "Only say what would be written.")
def publish(
    config: Path, output: Path, title: Optional[str], authors: tuple[str, ...], events: int, dry_run: bool
) -> None:
    """Write a capsule: model with its selection, likelihood, card, tables for HEPData, reference events, and reproduce.py.

    An outsider runs `python reproduce.py` in it, which needs no NanoML, and `python reproduce.py --signal FILE --cross-section X`
    for the limit on another signal. The results must be up to date. A blind analysis is published without any observed data.
    """
    from MLTools.NanoML.extensions.publish.capsule import Request, ready
    from MLTools.NanoML.extensions.publish.capsule import publish as write
    from MLTools.NanoML.workflow.layout import Layout

    analysis = loaded(config)
    workdir = Layout.of(analysis).workdir
    settle(workdir)
    request = Request(output, title or workdir.name, authors, events)
    if dry_run:
        for task in ready(analysis, request).tasks:
            echo(f"{output}: {task.outputs[0].name}, with {events} reference events of each dataset")
        echo(f"{output}: likelihood, limits and tables of {workdir}")
        return
    write(analysis, request)
    if not authors:
        echo(f"{output}/CITATION.cff names no author: add --author.")
    echo(f"publish: {output}. See its README.md, and try it: python {output}/reproduce.py")
