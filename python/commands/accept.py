"""`nanoml accept`: results stay, though the code that made them was changed."""

from __future__ import annotations

from pathlib import Path

import click

from MLTools.NanoML.commands.options import config_argument, epilog
from MLTools.NanoML.workflow.stages import NAMES

__all__ = ["accept"]


@click.command(
    short_help="Keep the results of a stage after a change of code that does not matter.",
    epilog=epilog("nanoml run analysis.yaml --dry-run", "nanoml accept skim analysis.yaml"),
)
@click.argument("stage", type=click.Choice(NAMES))
@config_argument
@click.option("--dry-run", is_flag=True, help="Only say what would be accepted.")
def accept(stage: str, config: Path, dry_run: bool) -> None:
    """Keep the results of a stage though the code behind them was changed, because you know that they are the same.

    NanoML, or your selection, was changed, and `nanoml run` would do the stage again: a faster loop, say, or a renamed
    variable. The records of the results say that they were accepted, and after which changes. What has another reason to
    be done again, such as new inputs or settings, is not touched.
    """
    from MLTools.NanoML.config.analysis import load
    from MLTools.NanoML.workflow.pipeline import accept_stage

    for line in accept_stage(load(config), stage, dry_run):
        click.echo(line)
