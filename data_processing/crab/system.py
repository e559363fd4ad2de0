"""CRAB: one task for each dataset, with many jobs that skim on the grid and leave their outputs on the storage of a site.

Its jobs leave nothing on this machine. What CRAB's client says is kept in the submission, so that nothing is lost when the
server does not answer.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from data_processing.crab.client import REFUSED, CrabProject, JobNow
from MLTools.NanoML.atomic import make_directory, write_text
from MLTools.NanoML.batch.submission import JOBS, JobEntry, Submission, new_directory, submissions_in
from MLTools.NanoML.batch.system import Client, Poll, QueueState, System
from MLTools.NanoML.errors import NanoMLError, in_words, plural
from MLTools.NanoML.extending import Resources
from MLTools.NanoML.parallel import locked
from MLTools.NanoML.terminal.progress import say
from MLTools.NanoML.workflow.layout import Layout

if TYPE_CHECKING:
    from MLTools.NanoML.batch.submission import JobRequest
    from MLTools.NanoML.batch.system import Place
    from MLTools.NanoML.config.analysis import Config

_AT_ONCE = 4  # questions to the server
_MOST_MEMORY = 5000  # MB that CRAB gives to a job of one core that is submitted again
_MOST_TIME = 47 * 3600  # seconds: what sites allow
_NEW = "what was sent cannot be changed, so then: nanoml kill, nanoml submit skim --on crab"


class Crab(System):
    """CRAB, through its client."""

    where = "grid"
    groups = "dataset"
    pause = 120.0  # the server has nothing new before
    has_results = False
    client = Client(
        "crab",
        "source /cvmfs/cms.cern.ch/common/crab-setup.sh, after cmsenv",
        needs=("CVMFS", "CMSSW", "NanoML in the area", "nanoAOD-tools", "certificate", "proxy"),
        options=("dasgoclient", "ONNX Runtime"),
    )
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

    def prepare(self, config: Config, place: Place, request: JobRequest, force: bool) -> Optional[Submission]:
        """Write a task for each dataset that has not been skimmed by CRAB in this way; None if there is none."""
        if request.what != "skim":
            raise NanoMLError(
                f"{config.where()}: CRAB runs skims, with the scores of models, where the files are; {request.what} runs elsewhere: "
                f"nanoml submit {request.what} --on condor, slurm or local. Before it: nanoml submit skim --on crab."
            )
        # needs awkward: the doctor, who asks which packages are missing, imports this module
        from data_processing.crab.tasks import write_tasks
        from MLTools.NanoML.batch.prepare import new_submission

        done = set() if request.dry_run else self._done(config)
        with new_directory(config.base / JOBS, Layout.of(config).workdir.name, request.dry_run) as (aside, final):
            tasks = write_tasks(config, aside, final.name)
            left = [task for task in tasks if force or task.digest not in done]
            if not left:
                shutil.rmtree(aside)
                return None
            for task in tasks:
                if task not in left:
                    shutil.rmtree(aside / task.name)
            grid = config.batch.grid
            assert grid is not None
            submission = new_submission(config, place, request, aside, [task.entry() for task in left])
            submission.handles = {"site": grid.site, "written": {task.name: asdict(task) for task in left}}
            submission.save()
            submission.directory = final
        return submission

    def _done(self, config: Config) -> set[str]:
        """The digests of the tasks of this analysis that are done; an error if some are active."""
        found: set[str] = set()
        for before in submissions_in(config.base / JOBS, Path(config.document.name)):
            if before.system != self.name:
                continue
            if before.state != "ended" and self.poll(before).is_active is not False:
                raise NanoMLError(
                    f"{before.name}: is active for this analysis, or may be. See nanoml status; wait for it, or end it with "
                    "nanoml kill."
                )
            found.update(it.written.digest for it in CrabProject.all_of(before).values() if it.is_done)
        return found

    def submit(self, submission: Submission) -> None:
        """Submit the tasks, one after the other."""
        projects = CrabProject.all_of(submission)
        try:
            for name, project in projects.items():
                say(f"{name}: crab submit")
                project.submit()
        except NanoMLError as problem:
            submitted = sum(project.is_submitted for project in projects.values())
            if submitted:
                raise NanoMLError(
                    f"{problem} {submitted} of {len(projects)} tasks have been submitted: nanoml resubmit does the rest."
                ) from None
            for project in projects.values():
                shutil.rmtree(project.path, ignore_errors=True)
            raise

    def has_begun(self, submission: Submission) -> bool:
        """Whether CRAB has, or may have, a task of it."""
        return any(project.path.exists() for project in CrabProject.all_of(submission).values())

    def recover(self, submission: Submission) -> bool:
        """Keep it: `retry` submits the tasks that CRAB does not have."""
        return True

    def poll(self, submission: Submission) -> Poll:
        """Ask how all tasks are doing, and keep the answers."""
        projects = CrabProject.all_of(submission)
        asked = [name for name, project in projects.items() if project.is_submitted and not project.is_settled]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = dict(zip(asked, pool.map(lambda name: projects[name].ask(), asked)))
        jobs: list[JobNow] = []
        active: list[Optional[bool]] = []
        notes: list[str] = []
        for name, project in projects.items():
            project.record.name = project.name
            if not project.is_submitted:
                jobs.append(JobNow(project.written.entry(), QueueState("idle")))
                notes.append(f"{name}: has not been submitted. nanoml resubmit does it.")
                continue
            has_answered, said = answers.get(name, (True, []))
            jobs += project.jobs()
            active.append(project.is_active if has_answered else None)
            notes += [*said, *(project.list_outputs() if active[-1] is False else [])]
        is_active = None if None in active else any(active)
        if is_active is False:
            notes += _next_steps(submission, projects)
        submission.jobs = [job.entry for job in jobs]
        submission.state = "ended" if is_active is False else "submitted"
        _save(submission, projects)
        results = {job.entry.name: job.result for job in jobs if job.result is not None}
        return Poll({job.entry.name: job.state for job in jobs}, is_active, notes, results)

    def retry(self, submission: Submission) -> Iterator[str]:
        """Submit again what failed, and what has not been submitted."""
        with locked(Path(submission.workdir)):
            notes = self.poll(submission).notes
            projects = CrabProject.all_of(submission)
            some = False
            for project in projects.values():
                for line in _again(project, submission.created.split()[0]):
                    some = True
                    yield line
                    submission.state = "submitted"
                    _save(submission, projects)
        if not some:
            yield from notes
            yield f"{submission.name}: CRAB reports no failed job: nothing was submitted."

    def kill(self, submission: Submission) -> None:
        """End all jobs that are running or waiting; what could be ended is ended, even if something else fails."""
        problems = []
        for name, project in CrabProject.all_of(submission).items():
            if project.is_submitted and any(job.state.state != "ended" for job in project.jobs()):
                try:
                    project.kill()
                    say(f"{name}: crab kill")
                except NanoMLError as problem:
                    problems.append(f"{name}: {problem}")
        if problems:
            raise NanoMLError("\n".join(problems))

    def log(self, submission: Submission, entry: JobEntry) -> Path:
        """Fetch the log of a job from CRAB."""
        project, number = CrabProject.all_of(submission)[entry.stage], entry.tasks[0]
        if number not in project.record.jobs:
            raise NanoMLError(f"{entry.name}: CRAB has not made its jobs yet, so there is no log.")
        return project.log(number)

    def describe(self, submission: Submission) -> list[str]:
        """The tasks, and where they write."""
        lines = []
        for name, project in CrabProject.all_of(submission).items():
            scores = ", ".join(project.written.scores)
            lines.append(f"{name}: {project.written.what}{f', with scores of {scores}' if scores else ''}")
        site = submission.handles["site"]
        return [*lines, f"{submission.name}: {plural(len(lines), 'task')} of CRAB, which write to {site}"]


def _again(project: CrabProject, since: str) -> Iterator[str]:
    """Submit again what failed, or the whole task; say in lines what was done."""
    name, record = project.written.name, project.record
    if not project.recover(since):
        project.submit()
        yield f"{name}: submitted"
        return
    if record.server == REFUSED:
        os.replace(project.path, f"{project.path}.refused-{time.time():.0f}")
        record.server = record.refusal = ""
        project.submit()
        yield f"{name}: submitted again"
        return
    failed = {number: job for number, job in record.jobs.items() if job.state == "failed"}
    failed = {number: job for number, job in failed.items() if record.again.get(number, [-1])[0] != job.tries}
    if failed:
        asked = Resources(**{**asdict(project.written.entry().resources), **record.asked})
        more, words = _more(asked, {job.problem.kind for job in failed.values()})
        project.resubmit(list(failed), more)
        yield f"{name}: {plural(len(failed), 'job')} again{words}"
    killed = sum(job.state == "killed" for job in record.jobs.values())
    if killed:
        yield (
            f"{name}: {plural(killed, 'killed job')}, which CRAB does not submit again. When no job is active, nanoml submit "
            "skim --on crab repeats the whole task."
        )


def _more(asked: Resources, kinds: Collection[str]) -> tuple[dict[str, int], str]:
    """More memory [MB] and time [s], if jobs failed for lack of it, and in words."""
    more, words = {}, ""
    for kind, most in (("memory", _MOST_MEMORY), ("time", _MOST_TIME)):
        if kind in kinds:
            before: int = getattr(asked, kind)
            more[kind] = now = min(2 * before, most)
            if before < most:
                words += f", {replace(asked, **{kind: now}).changes_since(asked)}"
            else:
                limit = f"{now} MB" if kind == "memory" else in_words(now)
                words += f", {kind} {limit}, which is all that CRAB gives: if they fail again, give jobs less to do"
    return more, words


def _save(submission: Submission, projects: Mapping[str, CrabProject]) -> None:
    submission.handles["tasks"] = {name: asdict(project.record) for name, project in projects.items()}
    submission.save()


def _next_steps(submission: Submission, projects: Mapping[str, CrabProject]) -> Sequence[str]:
    """Write lists of the outputs, and say how to use them."""
    import yaml

    files: dict[str, list[str]] = {}
    for project in projects.values():
        if project.record.outputs:
            files.setdefault(project.written.dataset, []).extend(project.record.outputs)
    if not files:
        return []
    base, datasets = Path(submission.config).parent, {}
    for dataset, names in files.items():
        path = make_directory(submission.directory / "outputs") / f"{dataset.replace('/', '_')}.txt"
        write_text(path, "".join(f"{name}\n" for name in names))
        datasets[dataset] = {"files": os.path.relpath(path, base)}
    lines = yaml.safe_dump({"datasets": datasets}, sort_keys=False, allow_unicode=True, width=1000)
    return [
        f"The skims are at {submission.handles['site']}. To continue, copy {os.path.basename(submission.config)} without the "
        "section skim, and let its datasets read them:",
        *(f"  {line}" for line in lines.splitlines()),
    ]
