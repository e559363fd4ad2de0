"""The description of a training: the content of training.json and of the history of each network."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from itertools import zip_longest
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from numpy.typing import NDArray

from ML_processing.events.columns import InputCollection, named_values
from ML_processing.events.data import Table
from ML_processing.events.inputs import Shape
from ML_processing.events.survey import ClassTotal, Survey, split_count
from ML_processing.metrics.measured import quantile
from ML_processing.models.discriminant import BoundDiscriminant, discriminants_of, notes_on, signal_of
from ML_processing.models.hooks import Boosted
from ML_processing.models.network import model_class
from ML_processing.models.scaling import Scaler, center_and_width, sentinels, spikes
from ML_processing.networks import TRAINING, beginning, code_behind
from ML_processing.training.data import ParameterGrid
from ML_processing.training.result import ResultEvents
from MLTools.NanoML import __version__
from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.contracts.hdf5 import ConvertedColumn, ConvertedDataset
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Discriminant
from MLTools.NanoML.model.entries import SHARES, Domain, InputRange, KnownTensor
from MLTools.NanoML.nanoaod.folds import RULE
from MLTools.NanoML.schema.plain import content_of, plain, read
from MLTools.NanoML.schema.roles import decisive

_SCHEMA = 1
_TAIL = 0.01  # of the values beyond the limit of the scaling are worth a word
_FEW = 0.001  # of the events outside of the range of an input are nothing to warn of
_LARGEST = 3e38  # float32 goes a little further
_SAMPLE = 64  # real events kept with the networks, to check an export against


@dataclass(frozen=True)
class Epoch:
    """One epoch of a network; the losses are weighted means without dropout."""

    epoch: int  # from 1
    train_loss: float
    validation_loss: float
    learning_rate: float  # at the end of the epoch
    # of the discriminant against its backgrounds in their shares; None if it is not defined
    validation_auc: float | None
    # expected, of a fit to the discriminant; None if it is not asked for or not defined
    validation_significance: float | None = None
    # standard error of the change of the validation loss since the last improvement; None if no weight is negative
    validation_error: float | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """All numbers that are defined, by their names."""
        numbers = {name: value for name, value in vars(self).items() if name != "epoch"}
        return {name: float(value) for name, value in numbers.items() if value is not None}


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The epoch whose weights are kept: the one with the smallest validation loss."""
    return min(history, key=lambda entry: entry.validation_loss)


def last_improvement(history: Sequence[Epoch]) -> Epoch:
    """The last epoch whose validation loss fell by more than its error: the best one if no weight is negative."""
    last = history[0]
    for entry in history[1:]:
        if entry.validation_loss < last.validation_loss - (entry.validation_error or 0):
            last = entry
    return last


@dataclass(frozen=True)
class Folds:
    """Number of folds and of networks, and the rule that gives the fold of an event."""

    k: int
    networks: int
    hash: str = RULE


@dataclass(frozen=True)
class EventsUsed:
    """Hash of the events, the files that they are from, and what there is of each class."""

    sha256: str  # of their content
    files: list[str]
    classes: dict[str, ClassTotal]


@dataclass(frozen=True, kw_only=True)
class TrainingDescription:
    """All that is needed to rebuild the networks of a training and to explain it: the content of training.json."""

    complete: bool = False  # all networks are trained
    fingerprint: str = ""  # the same for trainings that give the same networks
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    git: str | None = None  # commit of the code; None outside a git repository
    device: str = "cpu"
    config: Train = field(default_factory=Train)
    level: str = "event"  # "event", or "object" if the objects of `collection` are classified
    collection: str | None = None
    features: tuple[ConvertedColumn, ...] = ()
    collections: tuple[InputCollection, ...] = ()
    targets: tuple[str, ...] = ()  # of a regression
    estimates: tuple[str, ...] = ()  # the targets of a network that also tells classes
    parameter: Optional[ParameterGrid] = None
    classes: list[str]
    signal: str  # one of the classes
    discriminants: tuple[Discriminant, ...] = ()  # none for a regression, and by default for two classes
    selection: str | None = None
    folds: Folds
    data: EventsUsed = field(default_factory=lambda: EventsUsed("", [], {}))
    datasets: tuple[ConvertedDataset, ...] = ()
    notes: list[str] = field(default_factory=list)  # what the user should know about the events
    sample: dict[str, list[Any]]  # a few real events, by the names of the tensors
    # inputs whose values may be missing, for each of which the networks read an indicator
    missing: tuple[str, ...] = ()
    domain: Domain = ()  # the values of each input
    metrics: dict[str, Any] | None = None  # on events not trained on: auc and auc_error, and rmse by target

    @property
    def shape(self) -> Shape:
        """The inputs and outputs of the networks."""
        outputs = len(self.targets) or len(self.classes)
        features, collections = (it.name for it in self.features), (it.shape for it in self.collections)
        named = named_values(self.features, self.collections)
        return Shape(tuple(features), tuple(collections), outputs, len(self.estimates), self.missing, named)

    @property
    def signal_index(self) -> int:
        """Index of the signal among the classes."""
        return self.classes.index(self.signal)

    @property
    def discriminant(self) -> BoundDiscriminant:
        """By which a classification is judged: the first discriminant, or the probability of the signal."""
        if self.discriminants:
            return BoundDiscriminant(self.discriminants[0], self.classes)
        return BoundDiscriminant.probability(self.signal, self.classes)

    def to_json(self) -> dict[str, Any]:
        """The content of training.json."""
        content = {"schema": _SCHEMA, **asdict(self)}
        content["collections"] = [
            {**asdict(it.shape), "columns": [asdict(each) for each in it.columns]} for it in self.collections
        ]
        content["datasets"] = plain(self.datasets)
        if self.metrics is None:
            del content["metrics"]
        return content

    def write(self, directory: Path) -> None:
        """Write training.json."""
        write_json(training_file(directory), self.to_json())

    @classmethod
    def read(cls, directory: Path) -> TrainingDescription:
        """Read training.json; a NanoMLError if there is none, it is damaged, or of another version."""
        return read(cls, training_file(directory), f"Remove {directory} and run `nanoml train` again.", _SCHEMA)


def training_file(directory: Path) -> Path:
    """Path of training.json."""
    return directory / "training.json"


def read_json(path: Path) -> Any:
    """The content of a file of a training; a NanoMLError if there is none, or it is damaged."""
    try:
        return content_of(path)
    except FileNotFoundError:
        raise NanoMLError(f"{path}: no such file. `nanoml train` makes it.") from None
    except ValueError:
        raise damaged(path) from None


def damaged(path: Path) -> NanoMLError:
    """The error that a file of a training is damaged."""
    return NanoMLError(f"{path}: is damaged. Remove {path.parent} and run `nanoml train` again.")


def describe(
    table: Table, survey: Survey, files: Sequence[Path], config: Train, device: torch.device
) -> TrainingDescription:
    """The description of a training that begins with events in memory, and the counts of all."""
    about, sha256, classes = table.about, table.sha256(), survey.summary()
    parameter = ParameterGrid.of(survey)
    discriminants = discriminants_of(config, survey)
    missing, found = _missing(table, survey, config)
    filled = table if parameter is None else replace(table, features=parameter.filled(table))
    notes = [*survey.notes(), *found, *notes_on(discriminants, config, survey)]
    data: list[object] = [sha256, {name: asdict(it) for name, it in classes.items()}]
    if config.target is not None:
        data.append(ResultEvents.read(config, {*about.classes, *(it.name for it in discriminants)}).sha256())
    if len(table) < survey.counts.sum():
        notes.append(
            f"The events do not fit into train.memory ({config.memory} MB): scaling, validation and report use "
            f"{len(table):,} of {int(survey.counts.sum()):,}; the networks are trained on all."
        )
    return TrainingDescription(
        fingerprint=_fingerprint(config, data),
        created=now(),
        versions=versions(),
        git=git_state(),
        device=str(device),
        config=config,
        level="object" if about.labels else "event",
        collection=about.labels.collection if about.labels else None,
        features=about.features,
        collections=about.collections,
        targets=about.targets,
        estimates=about.estimates,
        parameter=parameter,
        classes=about.classes,
        signal=signal_of(config, about.classes),
        discriminants=discriminants,
        selection=about.selection,
        folds=Folds(*split_count(config.folds)),
        data=EventsUsed(sha256, [str(file) for file in files], classes),
        datasets=about.datasets,
        notes=notes,
        missing=missing,
        domain=tuple(_domain(filled)),
        sample=_sample(filled, config.seed),
    )


def _missing(table: Table, survey: Survey, config: Train) -> tuple[tuple[str, ...], list[str]]:
    """The inputs that get an indicator, since values of theirs are missing; and what the user should know, or be asked about."""
    notes, apart = [], []
    reads_raw = config.scaling == "none" or issubclass(model_class(config.model), Boosted)
    for name, values in table.inputs():
        if name in table.about.named or name == table.about.parameter:
            continue
        finite = values[np.isfinite(values)].astype(np.float64)
        below, above = sentinels(finite)
        ends = [end for end in (below, above) if np.isfinite(end)]
        apart += [name] if ends else []
        notes += [f"Feature {name} is {it:g} where it has no value, as this lies far from all others." for it in ends]
        usual = finite[(finite > below) & (finite < above)]
        center, width = center_and_width(usual)
        tail = float((np.abs(usual - center) > Scaler.LIMIT * width).mean()) if usual.size else 0.0
        if not reads_raw and tail >= _TAIL and len(np.unique(usual)) > 2:
            notes.append(
                f"Feature {name} has a heavy tail: {100 * tail:.2g} % of its values are more than {Scaler.LIMIT:g} widths from the "
                "median, and networks cannot tell them apart. Its logarithm would keep them: compute it in the selection."
            )
        notes += [
            f"Feature {name} is exactly {it:g} in {100 * (usual == it).mean():.2g} %: if this stands for a missing value, name it by "
            f'"missing: {{{name}: {it:g}}}" in `convert`, and if not, by "missing: {{{name}: []}}".'
            for it in spikes(usual)
        ]
    if config.start is not None:  # these weights know no other inputs
        path = Path(config.start.file).parent
        return (TrainingDescription.read(path).missing if training_file(path).is_file() else ()), notes
    return (() if reads_raw else tuple(dict.fromkeys([*survey.incomplete(), *apart]))), notes


def _fingerprint(config: Train, data: list[object]) -> str:
    """Hash of all that decides what a training gives."""
    settings = decisive(config)
    assert isinstance(settings, dict)
    if config.decorrelate is None:  # the discriminants follow from what the networks give
        del settings["discriminants"]
    place, _, name = config.model.rpartition(":")
    if place:  # a user's own network: its code counts, wherever it is
        settings["model"] = name
    settings.update(
        init=beginning(config), share=config.share, left_out=config.left_out, target=decisive(config.target)
    )
    code = code_behind(config.model, *TRAINING)
    return hashlib.sha256(json.dumps([settings, data, code], sort_keys=True).encode()).hexdigest()


def _domain(table: Table) -> Iterator[KnownTensor]:
    """The values of the inputs of each tensor."""
    if table.names:
        columns = zip(table.names, table.features.T, strict=True)
        yield KnownTensor("features", None, 0, tuple(_range(table, *it, np.arange(len(table))) for it in columns))
    for it in table.about.collections:
        values, mask = table.objects[it.name]
        columns = zip(it.shape.columns, values[mask].T, strict=True)
        row = np.nonzero(mask)[0]
        yield KnownTensor(it.name, f"{it.name}_mask", it.max, tuple(_range(table, *each, row) for each in columns))


def _range(table: Table, name: str, values: NDArray[np.float32], row: NDArray[np.int64]) -> InputRange:
    """The range of an input, of which each value is of a row.

    It follows from numbers of events, as networks learn where there are some, and is that of all classes together. It reaches
    to the smallest and largest value, but in no class further than twice as far from the median as the quantiles of `SHARES`.
    """
    counts, total = (np.bincount(table.labels, each, len(table.classes)) for each in (None, np.abs(table.weights)))
    named, is_finite = table.about.named.get(name, ()), np.isfinite(values)
    below, above = (-np.inf, np.inf) if named else sentinels(values[is_finite].astype(np.float64))
    usual = is_finite & (values > below) & (values < above)
    x, row, low, high = values[usual].astype(np.float64), row[usual], 0.0, 0.0
    quantiles: NDArray[np.float64] = np.empty(0)
    label = table.labels[row]
    if x.size:
        of_class = [np.quantile(x[label == i], SHARES) for i in np.unique(label)]
        middle = np.median(x)
        quantiles = quantile(
            x, np.abs(table.weights[row]) / np.maximum(total, np.finfo(np.float32).tiny)[label], SHARES
        )
        low = max(x.min(), min(2 * each[0] - each[2] for each in of_class))
        high = min(x.max(), max(2 * each[-1] - each[2] for each in of_class))
        # half precision rounds, and so do eras of NanoAOD
        low -= max(0.01 * (middle - low), 0.001 * abs(low))
        high += max(0.01 * (high - middle), 0.001 * abs(high))
    outside = np.bincount(table.labels[np.unique(row[(x < low) | (x > high)])], minlength=len(counts))
    found, of = outside[counts > 0], counts[counts > 0]
    # another event lies below the smallest of n, or above the largest, with a probability of 2 / n
    most = ((2 * found + 2 + 3 * np.sqrt(found + 2)) / of).max()
    return InputRange(
        name,
        low=_rounded(max(low, -_LARGEST)),
        high=_rounded(min(high, _LARGEST)),
        missing=tuple(map(float, (*named, *np.unique(values[is_finite & ~usual])))),
        may_be_missing=not is_finite.all(),
        quantiles=tuple(_rounded(each) for each in quantiles if np.isfinite(each)),  # none without any weight
        outside=_rounded((found / of).max()),
        limit=_rounded(min(1.0, max(_FEW, most))),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _sample(table: Table, seed: int) -> dict[str, list[object]]:
    """A few real events, of all classes in turn, by the names of the tensors that hold them.

    Events without a missing value come first; if there are too few, a missing value is given as 0.
    """
    shuffled = np.random.default_rng(seed).permutation(len(table))[: 100 * _SAMPLE * len(table.classes)]
    missing = ~np.isfinite(table.features[shuffled]).all(axis=1)
    for values, _ in table.objects.values():
        missing |= ~np.isfinite(values[shuffled]).all(axis=(1, 2))
    shuffled = shuffled[np.argsort(missing, kind="stable")]
    of_class = [shuffled[table.labels[shuffled] == i][:_SAMPLE] for i in range(len(table.classes))]
    rows = [row for turn in zip_longest(*of_class) for row in turn if row is not None][:_SAMPLE]
    tensors = {"features": table.features} if table.names else {}
    for name, (values, mask) in table.objects.items():
        tensors |= {name: values, f"{name}_mask": mask.astype(np.float32)}
    return {
        name: np.where(np.isfinite(values[rows]), values[rows], np.float32(0)).tolist()
        for name, values in tensors.items()
    }


def versions() -> dict[str, str]:
    """Versions of NanoML and of the packages that its results depend on."""
    return {
        "nanoml": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def git_state() -> str | None:
    """Commit of this code, with "-dirty" if files differ from it; None outside a git repository."""
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    command = ["git", "-C", str(Path(__file__).parent), *describe]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def now() -> str:
    """The time, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
