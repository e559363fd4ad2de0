"""Records of trainings in addition to their own files: MLflow, TensorBoard."""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ML_processing.training.description import Epoch, TrainingDescription
from ML_processing.training.following import Follower, FollowerError
from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.extending import settings_of
from MLTools.NanoML.extensions.tracking.settings import OfTrain, OfTune
from MLTools.NanoML.installation import how_to_install
from MLTools.NanoML.schema.plain import content_of
from MLTools.NanoML.terminal.progress import say

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
    from torch.utils.tensorboard import SummaryWriter

    from MLTools.NanoML.config.evaluation import Tune
    from MLTools.NanoML.config.training import Train

_LONGEST = 6000  # characters of a parameter, which is MLflow's limit
_AT_ONCE = 100  # parameters in one call, which is MLflow's limit
_METRICS = 1000  # metrics in one call, which is MLflow's limit
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # by default it waits minutes for a server that is down
}
_STATES = ("FINISHED", "FAILED", "KILLED")
_FILE = "mlflow.json"


class MLflowRun:
    """The run of one training; mlflow.json in its directory says which it is."""

    def __init__(self, uri: str, run: str) -> None:
        self.client, self.run = _client(uri), run  # its id
        self._broken = False

    @classmethod
    def begin(cls, directory: Path, workdir: Path, name: str, description: TrainingDescription) -> MLflowRun:
        """Make a run for the training in `directory`, or continue the one that it has.

        The work directory gives the experiment its name; the data base mlflow.db and the files are there, unless
        MLFLOW_TRACKING_URI names another place. A FollowerError says that the server or data base does not answer.
        """
        from mlflow.entities import Param

        place, uri = directory / _FILE, _uri(workdir)
        with _explained(uri):
            known = content_of(place) if place.is_file() else {}
            if known.get("fingerprint") == description.fingerprint and known.get("uri") == uri:
                found = cls(uri, known["run"])
                found.client.update_run(found.run, status="RUNNING")
                return found
            client = _client(uri)
            experiment = _experiment(client, workdir)
            run = client.create_run(experiment, tags=_tags(description), run_name=name).info.run_id
            found = cls(uri, run)
            values = [Param(key, str(value)[:_LONGEST]) for key, value in _leaves(asdict(description.config), ".")]
            for start in range(0, len(values), _AT_ONCE):
                client.log_batch(run, params=values[start : start + _AT_ONCE])
        write_json(place, {"uri": uri, "run": run, "fingerprint": description.fingerprint})
        return found

    @classmethod
    def of(cls, directory: Path) -> MLflowRun | None:
        """The run of the training in `directory`, if it has one."""
        try:
            known = content_of(directory / _FILE)
            return cls(known["uri"], known["run"])
        except FileNotFoundError:
            return None

    def last_epoch(self, fold: int) -> int:
        """The last epoch of a network that is recorded; 0 if there is none."""
        history = self.client.get_metric_history(self.run, f"fold_{fold}/validation_loss")
        return max((metric.step for metric in history), default=0)

    def log(self, fold: int, epochs: Sequence[Epoch]) -> None:
        """Record epochs of a network; if the server fails, one message says so and the training continues."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        found = [
            Metric(f"fold_{fold}/{name}", value, now, epoch.epoch)
            for epoch in epochs
            for name, value in epoch.metrics.items()
        ]
        for start in range(0, len(found), _METRICS):
            self._try(self.client.log_batch, metrics=found[start : start + _METRICS])

    def finish(self, metrics: Mapping[str, float], state: str) -> None:
        """Record the final numbers, and how the training ended."""
        for name, value in metrics.items():
            self._try(self.client.log_metric, name, value)
        self.end(state)

    def add(self, files: Sequence[Path]) -> None:
        """Record those of the files that exist."""
        for file in files:
            if file.is_file():
                self._try(self.client.log_artifact, str(file))

    def end(self, state: str) -> None:
        """Say how the training ended: FINISHED, FAILED or KILLED."""
        assert state in _STATES
        self._try(self.client.set_terminated, state)

    def _try(self, call: Callable[..., object], *given: object, **named: object) -> None:
        if self._broken:
            return
        try:
            call(self.run, *given, **named)
        except Exception as problem:
            self._broken = True
            say(f"train.tracking: MLflow does not record any more: {str(problem).splitlines()[0]}")


def _uri(workdir: Path) -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{workdir.resolve() / 'mlflow.db'}"


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as problem:  # those of MLflow and its data bases have no common base class
        reason = str(problem).split("\n")[0][:200]
        raise FollowerError(
            f"train.tracking: MLflow at {uri} cannot be used ({type(problem).__name__}: {reason}). "
            "Check MLFLOW_TRACKING_URI, or take mlflow out."
        ) from problem


def _client(uri: str) -> MlflowClient:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(uri)


def _experiment(client: MlflowClient, workdir: Path) -> str:
    """Id of the experiment of a work directory; without a server its files are there, too."""
    name = workdir.resolve().name
    found = client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    place = None if os.environ.get("MLFLOW_TRACKING_URI") else (workdir.resolve() / "mlartifacts").as_uri()
    return client.create_experiment(name, artifact_location=place)


def _tags(description: TrainingDescription) -> dict[str, str]:
    return {
        "fingerprint": description.fingerprint,
        "git": description.git or "unknown",
        "data": description.data.sha256,
        "nanoml": description.versions["nanoml"],
        "signal": description.signal,
        "score": "" if description.targets else description.discriminant.text,
    }


def _leaves(values: Mapping[str, object], separator: str, prefix: str = "") -> Iterator[tuple[str, object]]:
    """All values of nested mappings, by the names that lead to them."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, separator, f"{prefix}{name}{separator}")
        else:
            yield f"{prefix}{name}", value


_NEEDS = {"mlflow": ("mlflow", "sqlalchemy", "alembic"), "tensorboard": ("tensorboard",)}


class Tracker(Follower):
    """Records trainings where `train.tracking` says."""

    def __init__(self, train: Train) -> None:
        super().__init__(train)
        self.names = settings_of(train, OfTrain).tracking

    def _run(self, directory: Path) -> MLflowRun | None:
        return MLflowRun.of(directory) if "mlflow" in self.names else None

    def check(self) -> None:
        """Make sure that the packages are installed; a ConfigError if one is missing."""
        for tracker in self.names:
            for package in _NEEDS[tracker]:
                if importlib.util.find_spec(package) is None:
                    raise ConfigError(
                        f"train.tracking: {tracker} needs the Python package {package}, which is missing. "
                        f"Install it: {how_to_install(tracker)}."
                    )

    def prepare(self, workdir: Path) -> None:
        """Make the experiment; a FollowerError says that MLflow does not answer."""
        if "mlflow" in self.names:
            uri = _uri(workdir)
            with _explained(uri):
                _experiment(_client(uri), workdir)

    def begin(self, directory: Path, workdir: Path, name: str, description: TrainingDescription) -> None:
        """Begin the records of a training or continue those that it has; the errors are those of `MLflowRun.begin`."""
        if "mlflow" in self.names:
            MLflowRun.begin(directory, workdir, name, description)

    @contextmanager
    def epochs(self, directory: Path, fold: int) -> Iterator[Callable[[list[Epoch]], object]]:
        """Record the epochs of one network."""
        board = _tensorboard(directory / "tensorboard" / f"fold_{fold}") if "tensorboard" in self.names else None
        run = self._run(directory)
        last = run.last_epoch(fold) if run else 0

        def record(epochs: list[Epoch]) -> None:
            if board is not None:
                for epoch in epochs:
                    for name, value in epoch.metrics.items():
                        board.add_scalar(name, value, epoch.epoch)
                board.flush()
            if run is not None:
                run.log(fold, [epoch for epoch in epochs if epoch.epoch > last])

        try:
            yield record
        finally:
            if board is not None:
                board.close()

    def finish(self, directory: Path, metrics: Mapping[str, object], state: str = "FINISHED") -> None:
        """Record the final numbers and the files of a training, and how it ended."""
        run = self._run(directory)
        if run is not None:
            names = ("training.json", "environment.json", "network_*.pt", "history_*.json", "weights_*.json", "loss.*")
            run.add([path for name in names for path in sorted(directory.glob(name))])
            numbers = {name: float(it) for name, it in _leaves(metrics, "/") if isinstance(it, (int, float))}
            run.finish(numbers, state)

    def end(self, directory: Path, state: str) -> None:
        """Record how a training ended."""
        run = self._run(directory)
        if run is not None:
            run.end(state)

    def add(self, directory: Path, files: Sequence[Path]) -> None:
        """Record those of the files that exist."""
        run = self._run(directory)
        if run is not None:
            run.add(files)

    def beside(self, tune: Tune | None) -> Train:
        """Repeats are not recorded, nor are trials unless `tune.tracking` says so."""
        is_recorded = tune is not None and settings_of(tune, OfTune).tracking
        nowhere: dict[str, Any] = {"tracking": []}  # a field that only extensions know
        return self.train if is_recorded else replace(self.train, **nowhere)


def _tensorboard(directory: Path) -> SummaryWriter:
    """Event files of one network; older ones are removed, since an interrupted training reports its epochs again."""
    from torch.utils.tensorboard import SummaryWriter

    for outdated in directory.glob("events.out.tfevents.*"):
        outdated.unlink()
    return SummaryWriter(str(directory))
