"""The study of a search: its trials, which workers take one after the other, and hold while they work on them."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import platform
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from ML_processing.networks import beginning
from ML_processing.tuning.space import Space
from MLTools.NanoML.atomic import make_directory, write_json
from MLTools.NanoML.config.evaluation import METRICS
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.plain import content_of, plain
from MLTools.NanoML.schema.roles import decisive
from MLTools.NanoML.workflow.records import short

if TYPE_CHECKING:
    from MLTools.NanoML.config.evaluation import Tune

_NAME = "nanoml"
_ATTEMPTS = 3  # a trial whose process dies this often without any progress has failed

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Study:
    """A search, in the directory that all its workers share; `study` is what Optuna knows of it."""

    directory: Path
    space: Space
    tune: Tune
    study: optuna.Study

    @classmethod
    def open(cls, directory: Path, space: Space, tune: Tune, data: str) -> Study:
        """Begin the search in a directory, or join the one that is there; `data` is the hash of the events.

        A NanoMLError says that there is another search.
        """
        settings = _settings(space, tune, data)
        with Lock(make_directory(directory) / "lock"):
            place = directory / "study.json"
            if place.is_file():
                _check_same(directory, content_of(place)["settings"], settings)
                return cls(directory, space, tune, _load(directory, tune, space.train.epochs))
            (directory / "journal.log").unlink(missing_ok=True)
            study = _load(directory, tune, space.train.epochs)
            own = space.own()
            if own:
                study.enqueue_trial(own)
            write_json(place, {"schema": 1, "settings": settings})
        return cls(directory, space, tune, study)

    @property
    def larger_is_better(self) -> bool:
        """Whether the metric is to be large."""
        return self.tune.metric != METRICS[0]

    @property
    def metric(self) -> str:
        """The metric, in words."""
        return self.tune.metric if self.space.train.target is None else "expected uncertainty"

    def trials(self) -> list[FrozenTrial]:
        """All trials that have begun, in order."""
        return [it for it in self.study.get_trials(deepcopy=False) if it.state != TrialState.WAITING]

    def best(self) -> FrozenTrial | None:
        """The best of the trials that ended well, the first of equal ones."""
        complete = [it for it in self.trials() if it.state == TrialState.COMPLETE]
        sign = -1 if self.larger_is_better else 1
        return min(complete, key=lambda it: (sign * (it.value or 0.0), it.number), default=None)

    def trial_directory(self, number: int) -> Path:
        """Where the settings, the history and the checkpoint of a trial are."""
        return self.directory / "trials" / f"{number:04d}"

    def next(self, most: int) -> HeldTrial | None:
        """Take a trial: one whose process died, or a new one; None if `most` trials have begun."""
        with Lock(self.directory / "lock"):
            begun = self.trials()
            for trial in begun:
                if trial.state == TrialState.RUNNING:
                    lock = self._trial_lock(trial.number)
                    again = self._again(trial.number, lock) if lock.take(wait=False) else None
                    if again is not None:
                        return again
            if len(begun) >= most:
                return None
            with _seeded(self.study, self.tune, len(begun)):
                taken = self.study.ask()
                lock = self._trial_lock(taken.number)
                lock.take()
                return HeldTrial(self, taken, lock)

    def _again(self, number: int, lock: Lock) -> HeldTrial | None:
        """Continue a trial whose process is gone, unless that happens too often at the same place."""
        trial = next(it for it in self.trials() if it.number == number)
        if trial.state != TrialState.RUNNING:  # it has ended meanwhile
            lock.free()
            return None
        epochs = len(trial.intermediate_values)
        before = trial.user_attrs.get("attempts", {"count": 1, "epochs": 0})
        count = before["count"] + 1 if epochs <= before["epochs"] else 1
        with _seeded(self.study, self.tune, number):
            taken = HeldTrial(self, optuna.Trial(self.study, trial._trial_id), lock)
            taken.note(attempts={"count": count, "epochs": epochs})
            if count <= _ATTEMPTS:
                return taken
            taken.end(TrialState.FAIL, reason=f"its process died {_ATTEMPTS} times, maybe for lack of memory")
        lock.free()
        return None

    def has_work(self, most: int) -> bool:
        """Whether there is a trial to begin or to continue."""
        begun = self.trials()
        return len(begun) < most or any(it.state == TrialState.RUNNING and not self._is_held(it.number) for it in begun)

    def is_done(self, most: int) -> bool:
        """Whether all trials have ended."""
        begun = self.trials()
        return len(begun) >= most and all(it.state.is_finished() for it in begun)

    def _trial_lock(self, number: int) -> Lock:
        return Lock(make_directory(self.trial_directory(number)) / "lock")

    def _is_held(self, number: int) -> bool:
        lock = self._trial_lock(number)
        taken = lock.take(wait=False)
        lock.free()
        return not taken


class HeldTrial:
    """A trial that this process works on; its lock tells the others that it is taken."""

    def __init__(self, study: Study, trial: optuna.Trial, lock: Lock) -> None:
        self._study, self._trial, self._lock = study, trial, lock
        self._start = time.monotonic()
        # the choices of an earlier process stay
        distributions = study.space.distributions
        self.values: dict[str, object] = {
            name: _suggest(trial, name, distribution) for name, distribution in distributions.items()
        }
        self._reported = dict(study.study._storage.get_trial(trial._trial_id).intermediate_values)
        self.note(host=platform.node())

    @property
    def number(self) -> int:
        """Its number, from 0."""
        return self._trial.number

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return self._study.trial_directory(self.number)

    @property
    def seconds(self) -> float:
        """How long this process and earlier ones worked on it, as far as those could record it."""
        return round(self._trial.user_attrs.get("seconds", 0.0) + time.monotonic() - self._start, 3)

    def note(self, **facts: object) -> None:
        """Add facts to its record."""
        for name, fact in facts.items():
            self._trial.set_user_attr(name, fact)

    def report(self, values: Mapping[int, float]) -> None:
        """Report the metric of epochs; a TrialPruned of Optuna says that it is not worth continuing."""
        for epoch, value in values.items():
            if epoch not in self._reported:  # otherwise an earlier process did
                self._reported[epoch] = value
                self._trial.report(value, epoch)
        if values and self._trial.should_prune():
            raise optuna.TrialPruned

    def end(self, state: TrialState, value: float | None = None, reason: str = "") -> None:
        """Record how it ended: with the value of the metric, pruned because others are better, or failed for a reason."""
        if reason:
            self.note(reason=reason)
        self._study.study.tell(self.number, value, state)

    def put_back(self) -> None:
        """Let another process continue it, as after Ctrl-C."""
        self.note(attempts={"count": 0, "epochs": len(self._reported)}, seconds=self.seconds)

    def release(self) -> None:
        """Release it for others, if it has not ended."""
        self._lock.free()


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> object:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def _settings(space: Space, tune: Tune, data: str) -> dict[str, object]:
    """All that the trials of a search depend on; `data` is the hash of the events."""
    train = decisive(replace(space.train, processes=1))  # as each trial has it
    assert isinstance(train, dict)
    if space.train.target is not None:
        train["target"] = decisive(space.train.target)
    if space.train.start is not None:
        train["init"] = beginning(space.train)
    return {
        "train": train,
        "space": {name: plain(axis) for name, axis in space.axes.items()},
        **{name: getattr(tune, name) for name in ("metric", "sampler", "pruner", "seed")},
        "data": data,
    }


def _check_same(directory: Path, before: Mapping[str, object], now: Mapping[str, object]) -> None:
    now = json.loads(json.dumps(now))
    for key in dict.fromkeys([*now, *before]):
        mine, theirs = now.get(key), before.get(key)
        if mine == theirs:
            continue
        if isinstance(mine, dict) and isinstance(theirs, dict):
            name = next(it for it in dict.fromkeys([*mine, *theirs]) if mine.get(it) != theirs.get(it))
            key, mine, theirs = f"{key}.{name}", mine.get(name), theirs.get(name)
        what = "other events" if key == "data" else f"{key} {short(theirs)}, which now is {short(mine)}"
        raise NanoMLError(
            f"{directory}: holds a search with {what}. Continue that one, or start again with --force, "
            "which removes its trials."
        )


def _load(directory: Path, tune: Tune, epochs: int) -> optuna.Study:
    with quiet():
        return optuna.create_study(
            storage=journal(directory / "journal.log"),
            study_name=_NAME,
            direction="minimize" if tune.metric == METRICS[0] else "maximize",
            pruner=_pruner(tune, epochs),
            load_if_exists=True,
        )


def _pruner(tune: Tune, epochs: int) -> optuna.pruners.BasePruner:
    if tune.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=5)
    if tune.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=min(5, epochs), max_resource=epochs)
    return optuna.pruners.NopPruner()


@contextmanager
def _seeded(study: optuna.Study, tune: Tune, number: int) -> Iterator[None]:
    """Give each trial its own seed: workers with the same seed would choose the same settings."""
    text = f"trial {number} of {tune.seed}".encode()
    seed = int.from_bytes(hashlib.sha256(text).digest()[:4], "little")
    with quiet():
        if tune.sampler == "random":
            study.sampler = optuna.samplers.RandomSampler(seed=seed)
        else:
            study.sampler = optuna.samplers.TPESampler(seed=seed)
        yield


class Lock:
    """A lock on a file that is released when its process ends, however that happens; the file stays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def __enter__(self) -> None:
        self.take()

    def __exit__(self, *problem: object) -> None:
        self.free()

    def take(self, wait: bool = True) -> bool:
        """Take it; False if another process has it. A NanoMLError says that this file system has no locks."""
        self.free()  # a signal may have ended the block before it could free the lock
        self._file = file = open(self.path, "ab")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as problem:
            self.free()
            if problem.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise NanoMLError(
                f"{self.path}: this file system has no locks ({problem.strerror}), so workers cannot share a search: "
                "choose another workdir."
            ) from None
        return True

    def free(self) -> None:
        """Release it."""
        if self._file is not None:
            self._file.close()
            self._file = None


class _JournalLock(JournalFileOpenLock):
    """A process that was killed leaves no lock behind, and no half of a line."""

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal
        self._lock = Lock(journal.with_suffix(".lock"))

    def acquire(self) -> bool:
        self._lock.take()
        _cut_off_half_a_line(self._journal)
        return True

    def release(self) -> None:
        self._lock.free()


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings: Optuna calls some of its parts experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _cut_off_half_a_line(path: Path) -> None:
    with open(path, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        if end == 0:
            return
        file.seek(end - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def journal(path: Path) -> JournalStorage:
    """Open the journal; it is created if it does not exist."""
    with quiet():
        return JournalStorage(JournalFileBackend(str(path), lock_obj=_JournalLock(path)))
