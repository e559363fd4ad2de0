"""`nanoml submit`, `status`, `logs`, `resubmit`, `kill`: stages as jobs of a batch system; `work`: what a job runs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from MLTools.NanoML.commands.options import (
    PATH,
    command,
    config_argument,
    echo,
    echo_as_is,
    echo_json,
    flag,
    json_option,
    missing_option,
    option,
)
from MLTools.NanoML.config.batch import SYSTEMS, TITLES
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.stages import NAMES
from MLTools.NanoML.terminal.progress import say_once

if TYPE_CHECKING:
    from MLTools.NanoML.batch.status import Status

PAGE = "batch.md"
*_others, _last = (title for name, title in TITLES.items() if name != "local")
_place = click.argument("place", metavar="[CONFIG|DIR]", default=".", type=PATH)


@command(
    "nanoml submit pipeline examples/trilepton.yaml --on condor --dry-run",
    "nanoml submit pipeline examples/trilepton.yaml --on slurm",
    "nanoml submit tune examples/trilepton.yaml --on slurm --workers 20 --trials 200",
    "nanoml submit skim analysis.yaml --on crab",
    "nanoml status",
    under="Batch systems",
    short=f"Run stages as jobs of {', '.join(_others)} or {_last}, or here.",
)
@click.argument("what", metavar="STAGE|pipeline|tune", type=click.Choice([*NAMES, "pipeline", "tune"]))
@config_argument
@option("--on", "Where; default: what the section batch says.", type=click.Choice(tuple(SYSTEMS)))
@flag("--dry-run", "Write everything that would be submitted, for you to read, and submit nothing.")
@flag("--force", "Do everything again, even what is up to date.")
@option("--trials", "For tune: total number of trials.", type=click.IntRange(1))
@option("--workers", "For tune: number of jobs that run trials.", type=click.IntRange(1), default=4)
def submit(
    what: str, config: Path, on: Optional[str], dry_run: bool, force: bool, trials: Optional[int], workers: int
) -> None:
    """Run one stage, the whole pipeline, or a hyperparameter tuning, as jobs of a batch system.

    Only what is missing or out of date becomes jobs, as in `nanoml run`. The section batch of the configuration says how
    they run. `nanoml status` shows their progress, `nanoml resubmit` repeats what failed. CRAB only runs skims, with the
    scores of models, where the files are.
    """
    from MLTools.NanoML.batch.submission import JobRequest
    from MLTools.NanoML.batch.submit import describe
    from MLTools.NanoML.batch.submit import submit as submit_jobs
    from MLTools.NanoML.config.load import load

    request = JobRequest(what, on, dry_run, trials=trials, workers=workers)
    submission = submit_jobs(load(config), request, force)
    if submission is None:
        echo("Everything is up to date: there is nothing to submit.")
        return
    for line in describe(submission):
        echo(line)
    if dry_run:
        echo(f"Nothing has been submitted. What would be submitted is in {submission.directory}")
    else:
        echo(f"Their progress: nanoml status {config}")


@command(
    "nanoml status",
    "nanoml status analysis.yaml --wait",
    "nanoml status jobs/analysis-2",
    under="Batch systems",
    short="Show the progress of jobs, and why they failed.",
)
@_place
@flag("--wait, waits", "Show it again and again until no job is running.")
@option("--every", "Seconds between two updates.", type=click.IntRange(1), default=10)
@json_option
def status(place: Path, waits: bool, every: int, as_json: bool) -> None:
    """Show the progress of an analysis's jobs: how many tasks of each stage are done, and why others failed.

    What is done is noted, so that `nanoml run` knows of it. With --wait the exit code is 1 if something failed.
    """
    from MLTools.NanoML.batch import submit
    from MLTools.NanoML.batch.prepare import TUNE
    from MLTools.NanoML.batch.status import as_dict, observe, page
    from MLTools.NanoML.config.load import load
    from MLTools.NanoML.workflow.pipeline import described

    submission = submit.find(place)
    found = submit.wait(submission, every, _progress_of) if waits else observe(submission)
    if as_json:
        echo_json(as_dict(found))
    else:
        echo("\n".join(page(found)))
    if found.is_done and submission.what != TUNE:
        with suppress(NanoMLError):  # the configuration may have been changed since, or may be elsewhere
            described(load(Path(submission.config)))
    if waits and not found.is_done:
        raise click.exceptions.Exit(1)


def _progress_of(found: Status) -> None:
    """Print the progress of jobs if it has changed."""
    shown = (
        f"{stage} {count['done']:,} of {count['tasks']:,}"
        + (f" ({count['failed']:,} failed)" if count["failed"] else "")
        for stage, count in found.counts().items()
        if count["done"] or count["running"] or count["failed"]
    )
    if now := ", ".join(shown):
        say_once(now, now)


@command(
    "nanoml logs", "nanoml logs analysis.yaml --job skim-0003", under="Batch systems", short="Show what a job printed."
)
@_place
@option("--job, name", "The job; default: those that failed.", "JOB")
@option("--lines, most", "Number of lines.", type=click.IntRange(1), default=40)
def logs(place: Path, name: Optional[str], most: int) -> None:
    """Print the last lines of the output of jobs: those that failed, or the one that is named."""
    from MLTools.NanoML.batch import submit
    from MLTools.NanoML.batch.status import observe

    submission = submit.find(place)
    names = [name] if name else []
    if not name:
        found = observe(submission)
        names = [job.entry.name for job in found.of("failed")]
        if not names:
            echo(f"No job of {submission.name} has failed. Name one: nanoml logs --job {next(iter(found.jobs))}")
    for each in names[:5]:
        path = submit.log_of(submission, each)
        echo(f"==> {path}", style="bold")
        if path.is_file():
            echo_as_is("\n".join(path.read_text(errors="replace").splitlines()[-most:]))
        else:
            echo("It has not printed anything yet.")
    if len(names) > 5:
        echo(f"and {len(names) - 5} more: nanoml logs --job {names[5]}")


@command(
    "nanoml resubmit",
    "nanoml resubmit analysis.yaml --max-missing-files 1%",
    under="Batch systems",
    short="Submit again what is missing.",
)
@_place
@option("--on", "On another batch system.", "SYSTEM")
@missing_option
def resubmit(place: Path, on: Optional[str], max_missing_files: Optional[str]) -> None:
    """Submit again what is missing, and nothing else.

    Jobs that ran out of memory, time or disk get twice as much. Held jobs are released.
    """
    from MLTools.NanoML.batch import submit

    for line in submit.resubmit(submit.find(place), on, max_missing_files):
        echo(line)


@command("nanoml kill analysis.yaml", under="Batch systems", short="End jobs.")
@_place
def kill(place: Path) -> None:
    """End all jobs that are running or waiting. What they have done is kept."""
    from MLTools.NanoML.batch import submit

    submission = submit.find(place)
    submit.kill(submission)
    echo(f"{submission.name}: ended. nanoml status shows what is done, nanoml resubmit continues.")


@command("nanoml work jobs/skim-0000.json --result results/skim-0000.json", under="Batch systems", hidden=True)
@click.argument("job", type=PATH)
@option("--result", "The file for its result.", type=PATH, default="result.json")
@flag("--drive", "JOB is a directory of jobs: run all of them.")
def work(job: Path, result: Optional[Path], drive: bool) -> int:
    """Do the job that a file describes."""
    if drive:
        from MLTools.NanoML.batch.submission import Submission
        from MLTools.NanoML.batch.system import system_of

        submission = Submission.read(job)
        return min(system_of(submission.system).drive(submission), 1)
    from MLTools.NanoML.batch.worker import work as do

    assert result is not None
    nanoml = click.get_current_context().find_root().command
    return do(job, result, lambda arguments: nanoml.main(list(arguments), standalone_mode=False))
