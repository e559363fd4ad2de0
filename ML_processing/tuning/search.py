"""The search as a whole: workers do its trials, and the best settings are tested."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from optuna.trial import TrialState

from ML_processing.networks import resolved
from ML_processing.stages import target_of, train_stage, training_files
from ML_processing.training.following import beside, followers
from ML_processing.tuning.space import Space
from ML_processing.tuning.study import Lock, Study
from ML_processing.tuning.trial import TrialData, work
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.evaluation import METRICS, Tune
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.parallel import begin_worker, locked, usable_cores
from MLTools.NanoML.terminal.progress import Bar, heed_signal, progress, say
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.task import stamp_of

_EVERY = 0.5  # seconds between two readings of the journal
_PATIENCE = 10.0  # seconds for a worker to put its trial back
_DEATHS = 3  # of each worker without any progress in between, before the search gives up


@dataclass(frozen=True)
class SearchOptions:
    """Options of the command line."""

    trials: int | None = None  # in total; None for what the configuration says
    workers: int = 0  # at the same time here; 0 for one per core
    timeout: float | None = None  # when to stop [s]; None for never
    join: bool = False  # only help other processes with their trials
    force: bool = False  # remove a search that is there


def tune(config: Config, options: SearchOptions) -> None:
    """Search for good settings, test them, and write them down.

    Everything is in the directory `tuning` of the work directory. An interrupted search continues. A NanoMLError says that
    the space or the events do not allow a search, that all trials fail, or that there is another search.
    """
    start = time.time()
    config, settings, space, files = _prepared(config)
    workdir = Layout.of(config).workdir
    directory = workdir / "tuning"
    if options.join:
        _run(files, space, settings, directory, options, start)
        return
    with locked(workdir):
        if options.force:
            _remove(directory)
        study = _run(files, space, settings, directory, options, start)
        from ML_processing.tuning.result import conclude  # matplotlib takes a second, and the workers do not need it

        conclude(study, files, config)


def plan(config: Config, options: SearchOptions) -> list[str]:
    """The plan of a search, in lines; nothing is written."""
    config, settings, space, files = _prepared(config)
    directory = Layout.of(config).workdir / "tuning"
    where = config.where("tune", "space") if settings.space else f"by default for the model {space.train.model}"
    better = "smallest" if settings.metric == METRICS[0] else "largest"
    metric = settings.metric if space.train.target is None else "expected uncertainty of the validation"
    begun = directory / "study.json"
    state = f"continues what is in {directory}" if begun.is_file() else f"begins in {directory}"
    if begun.is_file() and options.force:
        state = f"removes what is in {directory}, and starts again"
    return [
        f"tune: {options.trials or settings.trials} trials for the {better} {metric}, sampler {settings.sampler}, "
        f"pruner {settings.pruner}; {state}",
        f"events: {', '.join(str(file) for file in files)}",
        f"space ({where}):",
        *(f"  {line}" for line in space.lines()),
    ]


def _prepared(config: Config) -> tuple[Config, Tune, Space, list[Path]]:
    """The configuration with its defaults for a search, its section `tune`, the space, and the files to train on."""
    if config.train is None:
        raise NanoMLError(f"{config.where()}: has no section train: there is nothing to tune.")
    settings = config.tune or Tune()
    train = replace(resolved(config.train, config.base), target=target_of(config, None))
    config = replace(config, tune=settings)
    tasks = train_stage(Analysis(config)).tasks
    if len(tasks) > 1:
        say("tune: the eras share their settings, so one network of all their events is tuned.")
    trainings = zip(tasks, config.trainings, strict=True)
    files = [Path(stamp_of(str(it), task).path) for task, era in trainings for it in training_files(config, era)]
    return config, settings, Space.of(config, train), files


@dataclass(frozen=True)
class _SearchJob:
    """The work of a worker, which is sent to its process: `data` is the hash of the events, `deadline` as time.time()."""

    files: Sequence[Path]
    tune: Tune
    space: Space
    directory: Path
    data: str
    most: int
    deadline: float | None

    def study(self) -> Study:
        """The search, joined."""
        return Study.open(self.directory, self.space, self.tune, self.data)


class _Workers:
    """Processes that do trials in parallel, and are replaced when they are killed."""

    def __init__(self, job: _SearchJob, size: int) -> None:
        self._job, self._size = job, size
        self._context = multiprocessing.get_context("spawn")
        self._members: list[tuple[SpawnProcess, Connection]] = []
        self._deaths = 0

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *problem: object) -> None:
        for process, _ in self._members:
            process.terminate()  # puts its trial back
        for process, _ in self._members:
            process.join(_PATIENCE)
            process.kill()  # nothing is lost: another continues its trial
            process.join()

    def work(self, study: Study, status: _Status, join: bool) -> None:
        """Do the trials; without `join` also wait for those that others work on."""
        while True:
            late = self._job.deadline is not None and time.time() > self._job.deadline
            if not late and study.has_work(self._job.most):
                while len(self._members) < self._size:
                    mine, theirs = self._context.Pipe(duplex=False)
                    process = self._context.Process(target=_member, args=(self._job, theirs))
                    process.start()
                    theirs.close()
                    self._members.append((process, mine))
            self._check()
            if status.update():
                self._deaths = 0  # with progress it is worth replacing workers that are killed
            if late or (not self._members and (join or study.is_done(self._job.most))):
                status.update(now=True)
                return
            time.sleep(_EVERY)

    def _check(self) -> None:
        """Forget those that have ended; raises NanoMLError if one could not continue, or they are killed repeatedly."""
        for process, pipe in list(self._members):
            if not process.is_alive():
                process.join()
                self._members.remove((process, pipe))
                if process.exitcode != 0:
                    self._explain(process, pipe)

    def _explain(self, process: SpawnProcess, pipe: Connection) -> None:
        try:
            kind, text = pipe.recv()
        except EOFError:
            kind, text = "", ""
        if text:
            raise ConfigError(text) if kind == "ConfigError" else NanoMLError(text)
        number = process.exitcode or 0
        if number > 0:
            raise NanoMLError(f"tune: a worker ended with {number}, see above. Run the same command again to continue.")
        self._deaths += 1
        if self._deaths > _DEATHS * self._size:
            raise NanoMLError(
                "tune: workers are killed again and again, maybe for lack of memory: use fewer --workers, or lower "
                "train.memory. Run the same command again to continue."
            )
        say(f"tune: a worker was killed ({signal.Signals(-number).name}); another continues its trial.")


def _member(job: _SearchJob, pipe: Connection) -> None:
    begin_worker()
    heed_signal(signal.SIGTERM, KeyboardInterrupt)
    try:
        data = TrialData.read(job.files, job.space)
        work(data, job.study(), job.most, job.deadline, lambda _: None)
    except KeyboardInterrupt:
        raise SystemExit(0) from None
    except NanoMLError as problem:
        pipe.send((type(problem).__name__, str(problem)))
        raise SystemExit(1) from None


def _run(
    files: Sequence[Path], space: Space, settings: Tune, directory: Path, options: SearchOptions, start: float
) -> Study:
    """Do the trials; errors in the events are reported before."""
    all_followers = followers(beside(space.train, settings))
    for it in all_followers:
        it.check()
    data = TrialData.read(files, space)
    data.expected(space.train, settings)  # what is wrong with the metric is known before the first trial
    most = options.trials or settings.trials
    deadline = start + options.timeout if options.timeout is not None else None
    job = _SearchJob(files, settings, space, directory, data.table.sha256(), most, deadline)
    study = job.study()
    with Lock(directory / "lock"):
        for it in all_followers:
            it.prepare(directory.parent)
    cores = usable_cores() if data.device.type == "cpu" else 1
    workers = min(options.workers or cores, most)
    with progress("tune", most, "trials") as bar:
        status = _Status(study, bar)
        if workers == 1:
            work(data, study, most, deadline, lambda _: status.update())
            status.update(now=True)
        del data
        with _Workers(job, workers) as members:
            members.work(study, status, options.join)
    return study


class _Status:
    """The text that the progress bar shows of a search."""

    def __init__(self, study: Study, bar: Bar) -> None:
        self._study, self._bar = study, bar
        self._ended, self._epochs, self._read_at = 0, 0, 0.0

    def update(self, now: bool = False) -> bool:
        """Read the journal; whether there was any progress."""
        if not now and time.monotonic() - self._read_at < _EVERY / 2:
            self._bar.advance(0)
            return False
        self._read_at = time.monotonic()
        trials, best = self._study.trials(), self._study.best()
        ended = sum(it.state.is_finished() for it in trials)
        epochs = sum(len(it.intermediate_values) for it in trials)
        running = sum(it.state == TrialState.RUNNING for it in trials)
        found = f"best {best.value:.4f} (trial {best.number}), " if best is not None else ""
        self._bar.advance(ended - self._ended, f"{found}{running} under way, {epochs} epochs")
        progressed = (ended, epochs) != (self._ended, self._epochs)
        self._ended, self._epochs = ended, epochs
        return progressed


def _remove(directory: Path) -> None:
    """Remove a search, unless somebody works on it."""
    if not directory.is_dir():
        return
    with Lock(directory / "lock"):
        locks = [Lock(path) for path in sorted(directory.glob("trials/*/lock"))]
        try:
            if not all(lock.take(wait=False) for lock in locks):
                raise NanoMLError(
                    f"{directory}: other processes are working on trials of this search. Wait for them, or end them."
                )
            shutil.rmtree(directory)
        finally:
            for lock in locks:
                lock.free()
    say(f"tune: removed {directory}.")
