"""MLflow: one run for each training, with the metrics of the networks as fold_I/NAME."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.terminal.progress import say

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from ML_processing.training.description import Epoch, TrainingDescription

_LONGEST = 6000  # characters of a parameter, which is MLflow's limit
_AT_ONCE = 100  # parameters in one call, which is MLflow's limit
_METRICS = 1000  # metrics in one call, which is MLflow's limit
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # by default it waits minutes for a server that is down
}
_STATES = ("FINISHED", "FAILED", "KILLED")
_FILE = "mlflow.json"


class TrackingError(NanoMLError):
    """The tracking server or data base cannot be used."""


class MLflowRun:
    """The run of one training; mlflow.json in its directory says which it is."""

    def __init__(self, uri: str, run: str) -> None:
        self.client, self.run = _client(uri), run  # its id
        self._broken = False

    @classmethod
    def begin(cls, directory: Path, workdir: Path, name: str, description: TrainingDescription) -> MLflowRun:
        """Make a run for the training in `directory`, or continue the one that it has.

        The work directory gives the experiment its name; the data base mlflow.db and the files are there, unless
        MLFLOW_TRACKING_URI names another place. A TrackingError says that the server or data base does not answer.
        """
        from mlflow.entities import Param

        place, uri = directory / _FILE, _uri(workdir)
        with _explained(uri):
            known = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
            if known.get("fingerprint") == description.fingerprint and known.get("uri") == uri:
                found = cls(uri, known["run"])
                found.client.update_run(found.run, status="RUNNING")
                return found
            client = _client(uri)
            experiment = _experiment(client, workdir)
            run = client.create_run(experiment, tags=_tags(description), run_name=name).info.run_id
            found = cls(uri, run)
            values = [Param(key, text[:_LONGEST]) for key, text in _flat("", asdict(description.config)).items()]
            for start in range(0, len(values), _AT_ONCE):
                client.log_batch(run, params=values[start : start + _AT_ONCE])
        write_json(place, {"uri": uri, "run": run, "fingerprint": description.fingerprint})
        return found

    @classmethod
    def of(cls, directory: Path) -> MLflowRun | None:
        """The run of the training in `directory`, if it has one."""
        try:
            known = json.loads((directory / _FILE).read_text(encoding="utf-8"))
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

    def _try(self, call: Callable[..., object], *given: Any, **named: Any) -> None:
        if self._broken:
            return
        try:
            call(self.run, *given, **named)
        except Exception as problem:
            self._broken = True
            say(f"train.tracking: MLflow does not record any more: {str(problem).splitlines()[0]}")


def prepare(workdir: Path) -> None:
    """Make the data base and the experiment of a work directory, before several processes need them.

    A TrackingError says that the tracking server or data base does not answer.
    """
    uri = _uri(workdir)
    with _explained(uri):
        _experiment(_client(uri), workdir)


def _uri(workdir: Path) -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{workdir.resolve() / 'mlflow.db'}"


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as problem:  # those of MLflow and its data bases have no common base class
        reason = str(problem).split("\n")[0][:200]
        raise TrackingError(
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


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found |= _flat(f"{prefix}{key}.", value)
        else:
            found[f"{prefix}{key}"] = str(value)
    return found
