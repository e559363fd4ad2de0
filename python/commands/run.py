"""`nanoml run`: the whole pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

import click

from MLTools.NanoML.commands.options import config_argument, epilog, json_option, loaded, missing_option
from MLTools.NanoML.workflow.stages import NAMES

__all__ = ["run"]


@click.command(
    short_help="Run all stages of an analysis that are out of date.",
    epilog=epilog("nanoml run examples/trilepton.yaml", "nanoml run analysis.yaml --from train --dry-run"),
)
@config_argument
@click.option("--from", "first", type=click.Choice(NAMES), help="First stage; default: skim.")
@click.option("--to", "last", type=click.Choice(NAMES), help="Last stage; default: score.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done, and why.")
@click.option("--force", is_flag=True, help="Do all of it again, also what is up to date.")
@missing_option
@json_option
def run(
    config: Path,
    first: Optional[str],
    last: Optional[str],
    dry_run: bool,
    force: bool,
    max_missing_files: Optional[str],
    as_json: bool,
) -> None:
    """Run the stages skim, convert, shuffle, train, evaluate, export, score of an analysis.

    Only what is missing or out of date is done: after a change of the inputs, of a section of the
    configuration, or of the code. It may be interrupted at any moment; the same command goes on.
    """
    from MLTools.NanoML.workflow.pipeline import between, execute, planned

    if as_json and not dry_run:
        raise click.UsageError("--json prints the plan: use it with --dry-run.")
    analysis, names = loaded(config, max_missing_files=max_missing_files), between(first, last)
    if not dry_run:
        execute(analysis, names, force)
        return
    todo = planned(analysis, names, force)
    if as_json:
        click.echo(
            json.dumps(
                [
                    {"stage": each.stage.name, "tasks": len(each.stage.tasks), "to_do": dict(each.reasons)}
                    for each in todo
                ],
                indent=1,
            )
        )
        return
    for each in todo:
        click.echo("\n".join(each.lines()))
