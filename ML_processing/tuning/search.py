"""The search as a whole: workers do its trials, and the best settings are tested."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optuna.trial import TrialState

from ML_processing import tracking
from ML_processing.networks import resolve_model
from ML_processing.stages import train_stage
from ML_processing.tuning.journal import Lock, held
from ML_processing.tuning.result import conclude
from ML_processing.tuning.space import Space
from ML_processing.tuning.study import Study
from ML_processing.tuning.team import Job, Team
from ML_processing.tuning.trial import Material, tracking_of, work
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.training import Tune
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import locked, usable_cores
from MLTools.NanoML.terminal.progress import Bar, progress, say
from MLTools.NanoML.workflow.stages import Analysis, Layout
from MLTools.NanoML.workflow.task import stamps

__all__ = ["Options", "plan", "tune"]

_EVERY = 0.5  # seconds between two looks at the journal


@dataclass(frozen=True)
class Options:
    """What the command line says of a search.

    Attributes
    ----------
    trials
        How many there are to be in all; None for what the configuration says.
    workers
        How many at the same time here; 0 for one per core.
    timeout
        When to stop [s]; None for never.
    join
        Only work on trials beside others.
    force
        Remove a search that is there.
    """

    trials: int | None = None
    workers: int = 0
    timeout: float | None = None
    join: bool = False
    force: bool = False


def tune(config: Config, options: Options) -> None:
    """Search for good settings, test them, and write them down.

    Everything is in the directory tuning of the work directory. A search that was interrupted goes on.

    Parameters
    ----------
    config
        The configuration.
    options
        What the command line says.

    Raises
    ------
    NanoMLError
        The space or the events do not allow a search, all trials fail, or there is another search.
    """
    start = time.time()
    config, files = _prepared(config)
    space = _space(config)
    assert config.train is not None
    assert config.tune is not None
    workdir = Layout.of(config).workdir
    search = _Search(files, space, config.tune, workdir / "tuning", options, start)
    if options.join:
        search.run()
        return
    with locked(workdir):
        if options.force:
            _remove(search.directory)
        conclude(search.run(), files, config)


def plan(config: Config, options: Options) -> list[str]:
    """What a search would do, in lines; nothing is written."""
    config, files = _prepared(config)
    space = _space(config)
    assert config.tune is not None
    assert config.train is not None
    tune_, directory = config.tune, Layout.of(config).workdir / "tuning"
    default = f"by default for the model {config.train.model}"
    where = config.where("tune", "space") if tune_.space else default
    begun = directory / "study.json"
    state = f"goes on with what is in {directory}" if begun.is_file() else f"begins in {directory}"
    if begun.is_file() and options.force:
        state = f"removes what is in {directory}, and begins anew"
    return [
        f"tune: {options.trials or tune_.trials} trials for the {_better(tune_)} {tune_.metric}, sampler {tune_.sampler}, "
        f"pruner {tune_.pruner}; {state}",
        f"events: {', '.join(str(file) for file in files)}",
        f"space ({where}):",
        *(f"  {line}" for line in space.lines()),
    ]


def _better(tune_: Tune) -> str:
    return "largest" if tune_.metric == "validation_auc" else "smallest"


def _prepared(config: Config) -> tuple[Config, list[Path]]:
    """The configuration with its defaults for a search, and the files to train on."""
    if config.train is None:
        raise NanoMLError(f"{config.where()}: has no section train: there is nothing to tune.")
    config = replace(config, tune=config.tune or Tune())
    (task,) = train_stage(Analysis(config)).tasks
    return config, [Path(stamp.path) for stamp in stamps(task)]


def _space(config: Config) -> Space:
    assert config.train is not None
    train = replace(config.train, model=resolve_model(config.train.model, config.base))
    return Space.of(config, train)


@dataclass(frozen=True)
class _Search:
    files: Sequence[Path]
    space: Space
    tune: Tune
    directory: Path
    options: Options
    start: float

    def run(self) -> Study:
        """Do the trials; what is wrong with the events is told before."""
        options, train = self.options, self.space.train
        tracking.check(tracking_of(train, self.tune))
        material = Material.read(self.files, train)
        most = options.trials or self.tune.trials
        deadline = self.start + options.timeout if options.timeout is not None else None
        data = material.table.sha256()
        job = Job(self.files, self.tune, self.space, self.directory, data, most, deadline)
        study = job.study()
        with held(Lock(self.directory / "lock")):
            tracking.prepare(tracking_of(train, self.tune), self.directory.parent)
        cores = usable_cores() if material.device.type == "cpu" else 1
        workers = min(options.workers or cores, most)
        with progress("tune", most, "trials") as bar:
            shown = _Shown(study, bar)
            if workers == 1:
                work(material, study, most, deadline, lambda _: shown.update())
                shown.update(now=True)
            del material
            _team(job, study, shown, workers, options.join)
        return study


def _team(job: Job, study: Study, shown: _Shown, workers: int, join: bool) -> None:
    """Do the trials with processes; without `join` also wait for those that others are at."""
    with Team(job, workers) as team:
        while True:
            late = job.deadline is not None and time.time() > job.deadline
            if not late and study.has_work(job.most):
                team.fill()
            team.check()
            if shown.update():
                team.got_on()
            if late or (not team.size and (join or study.is_done(job.most))):
                shown.update(now=True)
                return
            time.sleep(_EVERY)


class _Shown:
    """What the progress bar says of a search."""

    def __init__(self, study: Study, bar: Bar) -> None:
        self._study, self._bar = study, bar
        self._ended, self._epochs, self._looked = 0, 0, 0.0

    def update(self, now: bool = False) -> bool:
        """Look at the journal; whether there was any progress."""
        if not now and time.monotonic() - self._looked < _EVERY / 2:
            self._bar.advance(0)
            return False
        self._looked = time.monotonic()
        trials, best = self._study.trials(), self._study.best()
        ended = sum(it.state.is_finished() for it in trials)
        epochs = sum(len(it.intermediate_values) for it in trials)
        running = sum(it.state == TrialState.RUNNING for it in trials)
        found = f"best {best.value:.4f} (trial {best.number}), " if best is not None else ""
        self._bar.advance(ended - self._ended, f"{found}{running} under way, {epochs} epochs")
        got_on = (ended, epochs) != (self._ended, self._epochs)
        self._ended, self._epochs = ended, epochs
        return got_on


def _remove(directory: Path) -> None:
    """Remove a search, unless somebody is at it."""
    if not directory.is_dir():
        return
    with held(Lock(directory / "lock")):
        locks = [Lock(path) for path in sorted(directory.glob("trials/*/lock"))]
        try:
            if not all(lock.take(wait=False) for lock in locks):
                raise NanoMLError(
                    f"{directory}: others are at trials of this search. Wait for them, or end them."
                )
            shutil.rmtree(directory)
        finally:
            for lock in locks:
                lock.free()
    say(f"tune: removed {directory}.")
