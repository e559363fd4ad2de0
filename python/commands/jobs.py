"""`nanoml status`, `logs`, `resubmit` and `kill`: jobs that were submitted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional, TypeVar

import click

from MLTools.NanoML.commands.options import epilog, json_option, missing_option

__all__ = ["kill", "logs", "resubmit", "status"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _place(function: _Command) -> _Command:
    return click.argument("place", metavar="[CONFIG|DIR]", default=".", type=click.Path(path_type=Path))(
        function
    )


@click.command(
    short_help="How jobs go, and why they failed.",
    epilog=epilog("nanoml status", "nanoml status analysis.yaml --wait", "nanoml status jobs/analysis-2"),
)
@_place
@click.option("--wait", "waits", is_flag=True, help="Show it again and again until no job is at work.")
@click.option(
    "--every", type=click.IntRange(1), default=10, show_default=True, help="Seconds between two looks."
)
@json_option
def status(place: Path, waits: bool, every: int, as_json: bool) -> None:
    """Tell how the jobs of an analysis go: how many tasks of each stage are done, and why others failed.

    What is done is noted, so that `nanoml run` takes it as done. With --wait the exit code is 1 if something failed.
    """
    from MLTools.NanoML.batch import submit
    from MLTools.NanoML.batch.page import lines
    from MLTools.NanoML.batch.status import as_dict, observe

    submission = submit.find(place)
    found = submit.wait(submission, every, _shower()) if waits else observe(submission)
    click.echo(json.dumps(as_dict(found), indent=1) if as_json else "\n".join(lines(found)))
    if waits and not found.is_done:
        raise click.exceptions.Exit(1)


def _shower() -> Callable[[Any], None]:
    """Shows how far jobs are, where that has changed."""
    from MLTools.NanoML.terminal.progress import say

    before = ""

    def show(found: Any) -> None:
        nonlocal before
        counts = found.counts()
        now = ", ".join(
            f"{stage} {count['done']:,} of {count['tasks']:,}"
            + (f" ({count['failed']:,} failed)" if count["failed"] else "")
            for stage, count in counts.items()
            if count["done"] or count["running"] or count["failed"]
        )
        if now and now != before:
            say(now)
            before = now

    return show


@click.command(
    short_help="What a job printed.",
    epilog=epilog("nanoml logs", "nanoml logs analysis.yaml --job skim-0003"),
)
@_place
@click.option("--job", "name", metavar="JOB", help="Of this job; default: of those that failed.")
@click.option("--lines", "most", type=click.IntRange(1), default=40, show_default=True, help="Last lines.")
def logs(place: Path, name: Optional[str], most: int) -> None:
    """Print the end of what jobs printed: those that failed, or the one that is named."""
    from MLTools.NanoML.batch import submit
    from MLTools.NanoML.batch.status import observe

    submission = submit.find(place)
    names = [name] if name else []
    if not name:
        found = observe(submission)
        names = [job.entry.name for job in found.of("failed")]
        if not names:
            click.echo(
                f"No job of {submission.name} has failed. Name one: nanoml logs --job {next(iter(found.jobs))}"
            )
    for each in names[:5]:
        path = submit.log_of(submission, each)
        click.secho(f"==> {path}", bold=True)
        if path.is_file():
            click.echo("\n".join(path.read_text(errors="replace").splitlines()[-most:]))
        else:
            click.echo("It has not printed anything yet.")
    if len(names) > 5:
        click.echo(f"and {len(names) - 5} more: nanoml logs --job {names[5]}")


@click.command(
    short_help="Submit again what is missing.",
    epilog=epilog("nanoml resubmit", "nanoml resubmit analysis.yaml --max-missing-files 1%"),
)
@_place
@click.option("--on", metavar="SYSTEM", help="On another batch system.")
@missing_option
def resubmit(place: Path, on: Optional[str], max_missing_files: Optional[str]) -> None:
    """Submit again what is missing, and nothing else.

    Jobs that lacked memory, time or disk get twice as much. Held jobs are released.
    """
    from MLTools.NanoML.batch import submit

    for line in submit.resubmit(submit.find(place), on, max_missing_files):
        click.echo(line)


@click.command(short_help="End jobs.", epilog=epilog("nanoml kill analysis.yaml"))
@_place
def kill(place: Path) -> None:
    """End all jobs that are at work or waiting. What they have done is kept."""
    from MLTools.NanoML.batch import submit

    submission = submit.find(place)
    submit.kill(submission)
    click.echo(f"{submission.name}: ended. nanoml status says what is done, nanoml resubmit goes on.")
