"""`nanoml submit`: stages as jobs of a batch system."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from MLTools.NanoML.commands.options import config_argument, epilog
from MLTools.NanoML.config.batch import SYSTEMS
from MLTools.NanoML.workflow.stages import NAMES

__all__ = ["submit"]


@click.command(
    short_help="Run stages as jobs: HTCondor, Slurm, CRAB, or in the background here.",
    epilog=epilog(
        "nanoml submit pipeline examples/trilepton.yaml --on condor --dry-run",
        "nanoml submit pipeline examples/trilepton.yaml --on slurm",
        "nanoml submit tune examples/trilepton.yaml --on slurm --workers 20 --trials 200",
        "nanoml submit skim analysis.yaml --on crab",
        "nanoml status",
    ),
)
@click.argument("what", metavar="STAGE|pipeline|tune", type=click.Choice([*NAMES, "pipeline", "tune"]))
@config_argument
@click.option("--on", type=click.Choice(SYSTEMS), help="Where; default: what the section batch says.")
@click.option("--dry-run", is_flag=True, help="Write everything that would be submitted, for reading.")
@click.option("--force", is_flag=True, help="Do all of it again, also what is up to date.")
@click.option("--trials", type=click.IntRange(1), help="Of tune: trials in all.")
@click.option(
    "--workers", type=click.IntRange(1), default=4, show_default=True, help="Of tune: jobs that do trials."
)
def submit(
    what: str,
    config: Path,
    on: Optional[str],
    dry_run: bool,
    force: bool,
    trials: Optional[int],
    workers: int,
) -> None:
    """Run one stage, the whole pipeline, or a search for settings, as jobs of a batch system.

    Only what is missing or out of date becomes jobs, as in `nanoml run`. How they run is in the section batch of
    the configuration. `nanoml status` tells how they go, `nanoml resubmit` does again what failed. CRAB runs skims only,
    with the scores of models, where the files are.
    """
    from MLTools.NanoML.batch.prepare import Wish
    from MLTools.NanoML.batch.submit import described
    from MLTools.NanoML.batch.submit import submit as submit_jobs
    from MLTools.NanoML.config.analysis import load

    wish = Wish(what, on, dry_run, trials=trials, workers=workers)
    submission = submit_jobs(load(config), wish, force)
    if submission is None:
        click.echo("Everything is up to date: there is nothing to submit.")
        return
    for line in described(submission):
        click.echo(line)
    if dry_run:
        click.echo(f"Nothing has been submitted. What would be is in {submission.directory}")
    else:
        click.echo(f"How they go: nanoml status {config}")
