"""CRAB: one task for each dataset, with many jobs that skim on the grid and leave their outputs on the storage of a site.

Its jobs leave nothing on this machine. What CRAB's client says is kept in the submission, so that nothing is lost when the
server does not answer.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Optional

from MLTools.NanoML.atomic import make_directory, write_text
from MLTools.NanoML.batch.crabclient import CrabClient
from MLTools.NanoML.batch.crabtask import CrabTask, CrabTaskState, JobNow, entry_of, save_tasks, tasks_of
from MLTools.NanoML.batch.prepare import JobRequest, new_submission
from MLTools.NanoML.batch.site import Place
from MLTools.NanoML.batch.submission import JOBS, JobEntry, Submission, new_directory
from MLTools.NanoML.batch.system import Poll, QueueState, System, counted
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import locked
from MLTools.NanoML.terminal.progress import say
from MLTools.NanoML.workflow.stages import Layout, import_part

__all__ = ["Crab"]

_AT_ONCE = 4
_OUTPUTS = "outputs"  # the directory of lists of outputs, in a submission
_NEW = "what was sent cannot be changed, so then: nanoml kill, nanoml submit skim --on crab"


class Crab(System):
    """CRAB, through its client."""

    title = "CRAB"
    where = "grid"
    groups = "dataset"
    pause = 120.0  # the server has nothing new before
    has_results = False
    advice: Mapping[str, str] = {
        "unreadable": "nanoml resubmit tries again; CRAB has tried several sites already",
        "configuration": f"correct it; {_NEW}",
        "error": f"nanoml logs shows why. If it is your code: correct it; {_NEW}",
        "disk": "give jobs less to do (batch.files_per_job), then: nanoml kill, nanoml submit skim --on crab",
        "package": "nanoml resubmit tries again",
        "storage": "check that you may write to batch.grid.directory and have room left there, then: nanoml resubmit",
        "rejected": "change what it says, then: nanoml resubmit, or nanoml submit skim --on crab",
        "removed": "nanoml submit skim --on crab repeats the whole dataset",
    }

    def prepare(
        self, config: Config, place: Place, request: JobRequest, force: bool, again: Optional[bool]
    ) -> Optional[Submission]:
        """Write a task for each dataset that has not been skimmed by CRAB in this way; None if there is none."""
        if request.what != "skim":
            raise NanoMLError(
                f"{config.where()}: CRAB runs skims, with the scores of models, where the files are; {request.what} runs elsewhere: "
                f"nanoml submit {request.what} --on condor, slurm or local. Before it: nanoml submit skim --on crab."
            )
        done = set() if request.dry_run else self._done(config)
        write_tasks = import_part("data_processing.crab.tasks").write_tasks
        workdir = Layout.of(config).workdir
        with new_directory(config.base / JOBS, workdir.name, request.dry_run) as (aside, final):
            tasks: list[CrabTask] = write_tasks(config, aside, final.name)
            left = [task for task in tasks if force or task.digest not in done]
            for task in tasks:
                if task not in left:
                    shutil.rmtree(aside / task.name)
            if not left:
                shutil.rmtree(aside)
                return None
            grid = config.batch.grid
            assert grid is not None
            submission = new_submission(config, place, request, aside, [entry_of(task) for task in left])
            submission.handles = {"site": grid.site, "written": {task.name: asdict(task) for task in left}}
            submission.save()
            submission.directory = final
        return submission

    def _done(self, config: Config) -> set[str]:
        """The digests of the tasks of this analysis that are done; an error if some are active."""
        found: set[str] = set()
        for path in sorted((config.base / JOBS).glob("[!.]*/submission.json")):
            before = Submission.read(path.parent)
            is_same = Path(before.config).resolve() == Path(config.document.name).resolve()
            if before.system != self.name or not is_same or before.name.endswith("-dry-run"):
                continue
            if before.state != "ended" and self.poll(before).is_active is not False:
                raise NanoMLError(
                    f"{before.name}: is active for this analysis, or may be. See nanoml status; wait for it, or end it with "
                    "nanoml kill."
                )
            for task in tasks_of(before).values():
                jobs = task.record.jobs.values()
                if jobs and all(job.state == "finished" for job in jobs):
                    found.add(task.written.digest)
        return found

    def submit(self, submission: Submission) -> None:
        """Submit the tasks, one after the other."""
        clients = {name: task.client for name, task in tasks_of(submission).items()}
        try:
            for name, client in clients.items():
                say(f"{name}: crab submit")
                client.submit()
        except NanoMLError as problem:
            submitted = sum(client.is_submitted for client in clients.values())
            if submitted:
                raise NanoMLError(
                    f"{problem} {submitted} of {len(clients)} tasks have been submitted: nanoml resubmit does the rest."
                ) from None
            for client in clients.values():
                shutil.rmtree(client.project, ignore_errors=True)
            raise

    def has_begun(self, submission: Submission) -> bool:
        """Whether CRAB has, or may have, a task of it."""
        return any(task.client.project.exists() for task in tasks_of(submission).values())

    def recover(self, submission: Submission) -> bool:
        """Keep it: `retry` submits the tasks that CRAB does not have."""
        return True

    def poll(self, submission: Submission) -> Poll:
        """Ask how all tasks are doing, and keep the answers."""
        tasks = tasks_of(submission)
        asked = {
            name: task.client for name, task in tasks.items() if task.client.is_submitted and not task.record.is_settled
        }
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = dict(zip(asked, pool.map(CrabClient.status, asked.values())))
        jobs: list[JobNow] = []
        active: list[Optional[bool]] = []
        notes: list[str] = []
        for name, task in tasks.items():
            task.record.name = task.client.name
            if not task.client.is_submitted:
                jobs.append(JobNow(task.entry(), QueueState("idle")))
                notes.append(f"{name}: has not been submitted. nanoml resubmit does it.")
                continue
            answer = answers.get(name)
            notes += task.note(answer) if answer is not None else []
            found = list(task.jobs())
            jobs += found
            goes_on = task.is_changing or any(job.state.state != "ended" for job in found)
            active.append(goes_on if answer is None or answer.server else None)
            notes += task.list_outputs() if active[-1] is False else []
        is_active = None if None in active else any(active)
        if is_active is False:
            notes += _next_steps(submission, tasks)
        submission.jobs = [job.entry for job in jobs]
        submission.state = "ended" if is_active is False else "submitted"
        save_tasks(submission, tasks)
        results = {job.entry.name: job.result for job in jobs if job.result is not None}
        return Poll({job.entry.name: job.state for job in jobs}, is_active, notes, results)

    def retry(self, submission: Submission) -> Iterator[str]:
        """Submit again what failed, and what has not been submitted."""
        with locked(Path(submission.workdir)):
            notes = self.poll(submission).notes
            tasks = tasks_of(submission)
            some = False
            for task in tasks.values():
                for line in task.retry(submission.created.split()[0]):
                    some = True
                    yield line
                    submission.state = "submitted"
                    save_tasks(submission, tasks)
        if not some:
            yield from notes
            yield f"{submission.name}: nothing of it has failed, as far as CRAB says: nothing was submitted."

    def kill(self, submission: Submission) -> None:
        """End all jobs that are running or waiting; what could be ended is ended, even if something else fails."""
        problems = []
        for name, task in tasks_of(submission).items():
            if task.client.is_submitted and any(job.state.state != "ended" for job in task.jobs()):
                try:
                    task.client.kill()
                    say(f"{name}: crab kill")
                except NanoMLError as problem:
                    problems.append(f"{name}: {problem}")
        if problems:
            raise NanoMLError("\n".join(problems))

    def log(self, submission: Submission, entry: JobEntry) -> Path:
        """Fetch the log of a job from CRAB."""
        task, number = tasks_of(submission)[entry.stage], entry.tasks[0]
        if number not in task.record.jobs:
            raise NanoMLError(f"{entry.name}: CRAB has not made its jobs yet, so there is no log.")
        return task.client.log(number)

    def describe(self, submission: Submission) -> list[str]:
        """The tasks, and where they write."""
        lines = []
        for name, task in tasks_of(submission).items():
            scores = ", ".join(task.written.scores)
            lines.append(f"{name}: {task.written.what}{f', with scores of {scores}' if scores else ''}")
        site = submission.handles["site"]
        return [*lines, f"{submission.name}: {counted(len(lines), 'task')} of CRAB, which write to {site}"]


def _next_steps(submission: Submission, tasks: Mapping[str, CrabTaskState]) -> Sequence[str]:
    """Write lists of the outputs, and say how to use them."""
    import yaml

    files: dict[str, list[str]] = {}
    for task in tasks.values():
        files.setdefault(task.written.dataset, []).extend(task.record.outputs)
    files = {dataset: names for dataset, names in files.items() if names}
    if not files:
        return []
    base, datasets = Path(submission.config).parent, {}
    for dataset, names in files.items():
        path = make_directory(submission.directory / _OUTPUTS) / f"{dataset.replace('/', '_')}.txt"
        write_text(path, "".join(f"{name}\n" for name in names))
        datasets[dataset] = {"files": os.path.relpath(path, base)}
    lines = yaml.safe_dump({"datasets": datasets}, sort_keys=False, allow_unicode=True, width=1000)
    return [
        f"The skims are at {submission.handles['site']}. To continue, copy {os.path.basename(submission.config)} without the "
        "section skim, and let its datasets read them:",
        *(f"  {line}" for line in lines.splitlines()),
    ]
