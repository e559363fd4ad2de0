"""Labelled events, or objects, in memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing.events.columns import Columns, Labels
from ML_processing.events.inputs import Shape
from MLTools.NanoML.contracts.hdf5 import EVENTS, IDENTIFIERS
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.folds import fold_of

__all__ = ["Table"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Table:
    """Labelled events; or objects of one collection, each with the weight and the identifiers of its event.

    Attributes
    ----------
    features
        float32, shape (N, F).
    objects
        Of each collection values, float32 of shape (N, max, fields), and mask, bool of shape (N, max): True for an
        object, False for padding.
    labels
        int64, shape (N,): index into `classes`.
    weights
        float32, shape (N,): physical weights, possibly negative.
    identifiers
        run, luminosityBlock and event, three arrays of shape (N,).
    extras
        Columns that are no inputs, float32 of shape (N,) each.
    about
        What the columns are.
    left_out
        Objects that were read as well but are of no class: how many have each value of the field that tells it.
    """

    features: Floats
    objects: dict[str, tuple[Floats, NDArray[np.bool_]]]
    labels: NDArray[np.int64]
    weights: Floats
    identifiers: tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
    extras: dict[str, Floats]
    about: Columns
    left_out: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of_rows(cls, file: Path, raw: Mapping[str, NDArray[Any]], columns: Columns) -> Table:
        """Take the labelled events of rows as they are in an HDF5 file.

        Parameters
        ----------
        file
            The file, for messages.
        raw
            Rows of the dataset `events`, and of each collection.
        columns
            Which of their columns are used.

        Raises
        ------
        NanoMLError
            A label is out of range, or a weight is not a finite number.
        """
        if columns.labels is not None:
            return cls._of_objects(file, raw[EVENTS], raw[columns.labels.collection], columns, columns.labels)
        rows = raw[EVENTS]
        labelled = _labelled(file, rows["label"], rows["event"], len(columns.classes))
        rows = rows[labelled]
        weights = _weights(file, rows)
        objects = {}
        for it in columns.collections:
            members = raw[it.name][labelled]
            mask = members["valid"].astype(np.bool_)
            values = _floats(members, it.fields, members.shape)
            values[~mask] = 0
            objects[it.name] = (values, mask)
        run, block, event = (rows[name] for name in IDENTIFIERS)
        return cls(
            _floats(rows, columns.names, rows.shape),
            objects,
            rows["label"].astype(np.int64),
            weights,
            (run, block, event),
            {name: _floats(rows, [name], rows.shape)[:, 0] for name in columns.extras},
            columns,
        )

    @classmethod
    def _of_objects(
        cls,
        file: Path,
        events: NDArray[Any],
        members: NDArray[Any],
        columns: Columns,
        labels: Labels,
    ) -> Table:
        """Take the objects that are of a class."""
        found, place = np.nonzero(members["valid"])
        values, which, counts = np.unique(
            members[labels.field][found, place], return_inverse=True, return_counts=True
        )
        known = [labels.classes.get(value, -1) for value in values.tolist()]
        label = np.array(known, np.int64)[which]
        weights = _weights(file, events)
        found, place, label = (array[label >= 0] for array in (found, place, label))
        rows, objects = events[found], members[found, place]
        column = {name: rows[name] for name in rows.dtype.names or ()}
        column |= {name: objects[field] for name, field in labels.fields.items()}
        run, block, event = (rows[name] for name in IDENTIFIERS)
        return cls(
            _floats(column, columns.names, rows.shape),
            {},
            label,
            weights[found],
            (run, block, event),
            {name: _floats(column, [name], rows.shape)[:, 0] for name in columns.extras},
            columns,
            Counter(
                {
                    value: int(count)
                    for value, count, of in zip(values.tolist(), counts, known, strict=True)
                    if of < 0
                }
            ),
        )

    @classmethod
    def join(cls, parts: Sequence[Table]) -> Table:
        """All events of tables with the same columns, at least one."""
        first = parts[0]
        if len(parts) == 1:
            return first
        return cls(
            np.concatenate([part.features for part in parts]),
            {
                name: (
                    np.concatenate([part.objects[name][0] for part in parts]),
                    np.concatenate([part.objects[name][1] for part in parts]),
                )
                for name in first.objects
            },
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.weights for part in parts]),
            (
                np.concatenate([part.identifiers[0] for part in parts]),
                np.concatenate([part.identifiers[1] for part in parts]),
                np.concatenate([part.identifiers[2] for part in parts]),
            ),
            {name: np.concatenate([part.extras[name] for part in parts]) for name in first.extras},
            first.about,
            sum((part.left_out for part in parts), Counter()),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: NDArray[Any]) -> Table:
        """Some of the events: those of a mask, or of row numbers."""
        run, block, event = self.identifiers
        return replace(
            self,
            features=self.features[rows],
            objects={name: (values[rows], mask[rows]) for name, (values, mask) in self.objects.items()},
            labels=self.labels[rows],
            weights=self.weights[rows],
            identifiers=(run[rows], block[rows], event[rows]),
            extras={name: values[rows] for name, values in self.extras.items()},
        )

    @property
    def names(self) -> list[str]:
        """Names of the features."""
        return self.about.names

    @property
    def columns(self) -> list[dict[str, Any]]:
        """Of each feature its name, dtype, title and source."""
        return self.about.features

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.about.classes

    @property
    def selection(self) -> str | None:
        """The selection that computed the columns, as "module:Class", or None."""
        return self.about.selection

    @property
    def datasets(self) -> list[dict[str, Any]]:
        """The datasets with their accounting."""
        return self.about.datasets

    @property
    def shape(self) -> Shape:
        """What a network reads of these events and gives."""
        return self.about.shape

    @property
    def nbytes(self) -> int:
        """Memory that the events take [bytes], without the extras: the same for every choice of those."""
        return sum(array.nbytes for array in self._arrays())

    def folds(self, k: int) -> NDArray[np.int64]:
        """Fold of each event among `k`, int64 of shape (N,)."""
        return fold_of(*self.identifiers, k)

    def targets(self) -> Floats:
        """What is to be estimated, float32 of shape (N, targets)."""
        columns = [self.extras[name] for name in self.about.targets]
        return np.stack(columns, axis=1) if columns else np.empty((len(self), 0), np.float32)

    def sha256(self) -> str:
        """Hash of the events' content, whatever files and compression they came in."""
        digest = hashlib.sha256(repr((self.shape, self.classes, sorted(self.extras))).encode())
        for array in (*self._arrays(), *(self.extras[name] for name in sorted(self.extras))):
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

    def _arrays(self) -> list[NDArray[Any]]:
        objects = [array for pair in self.objects.values() for array in pair]
        return [self.features, *objects, self.labels, self.weights, *self.identifiers]


def _labelled(
    file: Path, label: NDArray[Any], event: NDArray[Any], classes: int
) -> NDArray[np.bool_] | slice:
    bad = (label < -1) | (label >= classes)
    if bad.any():
        raise NanoMLError(
            f"{file}: event {event[bad][0]} has label {label[bad][0]}, but the labels of {classes} classes "
            f"are 0 to {classes - 1}, or -1 for none. Make the file again with `nanoml convert`."
        )
    use = label >= 0
    return slice(None) if use.all() else use


def _weights(file: Path, rows: NDArray[Any]) -> Floats:
    weights = rows["weight"].astype(np.float32)
    bad = ~np.isfinite(weights)
    if bad.any():
        raise NanoMLError(
            f"{file}: event {rows['event'][bad][0]} has weight {weights[bad][0]}: a weight must be a number. "
            "Check genWeight and the sum of weights of this dataset."
        )
    return weights


def _floats(
    rows: NDArray[Any] | Mapping[str, NDArray[Any]], names: Sequence[str], shape: tuple[int, ...]
) -> Floats:
    """Some fields as one more axis."""
    values = np.empty((*shape, len(names)), np.float32)
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which counts as missing
        for i, name in enumerate(names):
            values[..., i] = rows[name]
    return values
