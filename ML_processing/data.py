"""Events for the training: HDF5 files of the conversion, read into arrays and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.folds import fold_of
from MLTools.NanoML.hdf5 import EVENTS, IDENTIFIERS, check_events_differ, open_hdf5, read_metadata

__all__ = ["Table", "read"]

_ROWS = 1 << 18  # rows read at once: bounds the memory beyond the arrays themselves


@dataclass(frozen=True)
class Table:
    """Labelled events with their event-level features.

    Attributes
    ----------
    features
        float32, shape (N, F).
    labels
        int64, shape (N,): index into `classes`.
    weights
        float32, shape (N,): physical weights, possibly negative.
    identifiers
        run, luminosityBlock and event, three arrays of shape (N,).
    columns
        Of each feature its name, dtype, title and source, as in the files' metadata.
    classes
        Names of the classes.
    selection
        The selection that computed the features, as "module:Class", or None.
    datasets
        The datasets with their books, as in the files' metadata.
    notes
        What a user should know about these events, one sentence each.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    identifiers: tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
    columns: list[dict[str, Any]]
    classes: list[str]
    selection: str | None
    datasets: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> list[str]:
        """Names of the features."""
        return [column["name"] for column in self.columns]

    def folds(self, k: int) -> NDArray[np.int64]:
        """Fold of each event among `k`, int64 of shape (N,)."""
        return fold_of(*self.identifiers, k)

    def sha256(self) -> str:
        """Hash of the events' content, whatever files and compression they came in."""
        digest = hashlib.sha256(repr((self.names, self.classes)).encode())
        for array in (self.features, self.labels, self.weights, *self.identifiers):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def summary(self) -> dict[str, dict[str, float]]:
        """Events and sum of weights of each class."""
        return {
            name: {
                "events": int((self.labels == i).sum()),
                "sum_of_weights": float(self.weights[self.labels == i].sum(dtype=np.float64)),
            }
            for i, name in enumerate(self.classes)
        }


def read(files: Sequence[Path]) -> Table:
    """Read the labelled events of HDF5 files, of one dataset each or of several, into one table.

    Events without a class (label -1: real data, for instance) are left out.

    Raises
    ------
    NanoMLError
        The files disagree on features, classes or selection, have the same events, or cannot be trained on.
    """
    if not files:
        raise NanoMLError("no HDF5 file was given. `nanoml convert` makes them.")
    metadata = [read_metadata(file) for file in files]
    for file, content in zip(files[1:], metadata[1:], strict=True):
        _check_agreement(files[0], metadata[0], file, content)
    check_events_differ(files, metadata)
    first = metadata[0]
    names = [column["name"] for column in first["features"]]
    if not names:
        raise NanoMLError(
            f"{files[0]}: has no event-level feature. Name some in `convert.features`, and convert again."
        )
    parts = [_read_file(file, names, len(first["classes"])) for file in files]
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    table = Table(
        features=joined["features"],
        labels=joined["label"],
        weights=joined["weight"],
        identifiers=(joined["run"], joined["luminosityBlock"], joined["event"]),
        columns=first["features"],
        classes=first["classes"],
        selection=first["selection"],
        datasets=[dataset for content in metadata for dataset in content["datasets"]],
    )
    _check_classes(table, files)
    table.notes.extend(_inspect_features(table))
    return table


def _check_agreement(file_a: Path, a: dict[str, Any], file_b: Path, b: dict[str, Any]) -> None:
    """Events of different files may only be joined if their columns mean the same."""
    views: dict[str, Callable[[dict[str, Any]], list[str]]] = {
        "features": lambda content: [column["name"] for column in content["features"]],
        "classes": lambda content: content["classes"],
        "selection": lambda content: [content["selection"] or "none"],
    }
    for what, view in views.items():
        in_a, in_b = view(a), view(b)
        if in_a != in_b:
            raise NanoMLError(
                f"{file_b}: its {what} are not those of {file_a}: {_difference(in_a, in_b)}. "
                "Convert all datasets with the same configuration."
            )


def _difference(in_a: list[str], in_b: list[str]) -> str:
    missing = [name for name in in_a if name not in in_b]
    extra = [name for name in in_b if name not in in_a]
    texts = [f"{word} {', '.join(names)}" for word, names in (("without", missing), ("with", extra)) if names]
    return " and ".join(texts) or f"another order ({', '.join(in_b)})"


def _read_file(file: Path, names: list[str], classes: int) -> dict[str, NDArray[Any]]:
    """Columns of one file's labelled events."""
    with open_hdf5(file) as h5:
        events = h5[EVENTS]
        wanted = [*IDENTIFIERS, "label", "weight", *names]
        missing = [name for name in wanted if name not in events.dtype.names]
        if missing:
            raise NanoMLError(
                f"{file}: `{EVENTS}` has no field {missing[0]}. Make the file again with `nanoml convert`."
            )
        columns = events.fields(wanted)
        chunks = [
            _labelled(file, columns[start : start + _ROWS], names, classes)
            for start in range(0, max(len(events), 1), _ROWS)
        ]
    return {key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]}


def _labelled(file: Path, rows: NDArray[Any], names: list[str], classes: int) -> dict[str, NDArray[Any]]:
    label = rows["label"]
    bad = (label < -1) | (label >= classes)
    if bad.any():
        raise NanoMLError(
            f"{file}: event {rows['event'][bad][0]} has label {label[bad][0]}, but the labels of {classes} classes "
            f"are 0 to {classes - 1}, or -1 for none. Make the file again with `nanoml convert`."
        )
    rows = rows[label >= 0]
    bad = ~np.isfinite(rows["weight"])
    if bad.any():
        raise NanoMLError(
            f"{file}: event {rows['event'][bad][0]} has weight {rows['weight'][bad][0]}: a weight must be a number. "
            "Check genWeight and the sum of weights of this dataset."
        )
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which counts as missing
        features = np.stack([rows[name].astype(np.float32) for name in names], axis=1)
    content: dict[str, NDArray[Any]] = {
        "features": features,
        "label": rows["label"].astype(np.int64),
        "weight": rows["weight"].astype(np.float32),
    }
    return {**content, **{name: rows[name] for name in IDENTIFIERS}}


def _check_classes(table: Table, files: Sequence[Path]) -> None:
    if len(table.classes) < 2:
        raise NanoMLError(
            f"{files[0]}: a training needs two classes or more; these files have {table.classes}."
        )
    counts = np.bincount(table.labels, minlength=len(table.classes))
    for name, count in zip(table.classes, counts, strict=True):
        if not count:
            datasets = [dataset["name"] for dataset in table.datasets if dataset["class"] == name]
            where = (
                f"its datasets here: {', '.join(datasets)}"
                if datasets
                else "no file here is of a dataset of this class"
            )
            raise NanoMLError(
                f'class "{name}" has no event ({where}). Give its files too, check its selection, '
                "or take the class out of the configuration."
            )


def _inspect_features(table: Table) -> list[str]:
    """Sentences about features that are worth a look; an unusable one is an error."""
    notes = []
    for name, column in zip(table.names, table.features.T, strict=True):
        finite = np.isfinite(column)
        missing = len(column) - int(finite.sum())
        if missing == len(column):
            raise NanoMLError(
                f'feature "{name}" is not a finite number in any event. Take it out of `convert.features`, '
                "or correct how it is computed."
            )
        if missing:
            notes.append(
                f"Feature {name} is not a finite number in {missing:,} of {len(column):,} events "
                f"({100 * missing / len(column):.2g} %): these count as missing and take the median."
            )
        if column[finite].min() == column[finite].max():
            notes.append(
                f"Feature {name} has the same value, {column[finite][0]:g}, in every event: it cannot help."
            )
    return notes
