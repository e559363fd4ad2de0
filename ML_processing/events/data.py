"""Labelled events, or objects, in memory: a table made of rows of the HDF5 files of the conversion."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing.events.columns import ObjectLabels, TrainingColumns
from ML_processing.events.inputs import Shape
from MLTools.NanoML.contracts.hdf5 import EVENTS
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.folds import fold_of, mixed
from MLTools.NanoML.rootio.versions import IDENTIFIERS

Floats = NDArray[np.float32]

OUTPUTS = "<outputs>"
"""The name, among the rows of an HDF5 file, of outputs of networks that are kept elsewhere."""


@dataclass(frozen=True)
class Table:
    """Labelled events; or objects of one collection, each with the weight and the identifiers of its event."""

    features: Floats  # (N, F)
    # values (N, max, fields), and mask (N, max): True for an object, False for padding
    objects: dict[str, tuple[Floats, NDArray[np.bool_]]]
    labels: NDArray[np.int64]  # (N,): index into `classes`
    weights: Floats  # (N,): physical weights, possibly negative
    identifiers: tuple[NDArray[Any], NDArray[Any], NDArray[Any]]  # run, luminosityBlock, event, (N,) each
    extras: dict[str, Floats]  # columns that are not inputs, (N,) each
    about: TrainingColumns
    # objects of no class, by the value that gives the class
    left_out: Counter[int] = field(default_factory=Counter)
    # (N, outputs): what the networks that have not seen the events give for them as they are in the files, if that is known
    outputs: Floats | None = None

    @classmethod
    def of_rows(cls, file: Path, raw: Mapping[str, NDArray[Any]], columns: TrainingColumns) -> Table:
        """Take the labelled events, or objects, of rows as they are in an HDF5 file, by the names of their datasets.

        If only events of some regions, or a share of all, are used, others are left out.
        A NanoMLError, which names the file, says that a label is out of range, or a weight is not a finite number.
        """
        if columns.within:
            inside = np.any([raw[EVENTS][region.column] for region in columns.within], axis=0)
            raw = {name: rows[inside] for name, rows in raw.items()}
        if columns.share < 1:
            run, block, event = (raw[EVENTS][name] for name in IDENTIFIERS)
            inside = mixed(event, run, block) < np.uint64(columns.share * 2.0**64)
            raw = {name: rows[inside] for name, rows in raw.items()}
        if columns.left_out is not None:
            inside = raw[EVENTS][columns.parameter] != np.float32(columns.left_out)
            raw = {name: rows[inside] for name, rows in raw.items()}
        events, labels, left_out, named = raw[EVENTS], columns.labels, Counter[int](), columns.named
        outputs = raw.get(OUTPUTS)
        objects: dict[str, tuple[Floats, NDArray[np.bool_]]] = {}
        if labels is None:
            label = events["label"] if columns.is_labelled else np.zeros(len(events), np.int64)
            labelled = _labelled(file, label, events["event"], len(columns.classes))
            outputs = None if outputs is None else outputs[labelled]
            rows, label = events[labelled], label[labelled].astype(np.int64)
            weights = _weights(file, rows)
            column = {name: rows[name] for name in (*columns.names, *columns.extras)}
            for it in columns.collections:
                members = raw[it.name][labelled]
                mask = members["valid"].astype(np.bool_)
                of_fields = {
                    field: named[key] for field, key in zip(it.fields, it.shape.columns, strict=True) if key in named
                }
                values = as_floats(members, it.fields, members.shape, of_fields)
                values[~mask] = 0
                objects[it.name] = (values, mask)
        else:
            found, place, label, left_out = _of_a_class(raw[labels.collection], labels)
            outputs = None if outputs is None else outputs[found, place]
            rows, members = events[found], raw[labels.collection][found, place]
            weights = _weights(file, events)[found]
            column = {name: rows[name] for name in rows.dtype.names or ()}
            column |= {name: members[field] for name, field in labels.fields.items()}
        run, block, event = (rows[name] for name in IDENTIFIERS)
        return cls(
            as_floats(column, columns.names, rows.shape, named),
            objects,
            label,
            weights,
            (run, block, event),
            {name: as_floats(column, [name], rows.shape, named)[:, 0] for name in columns.extras},
            columns,
            left_out,
            outputs,
        )

    @classmethod
    def join(cls, parts: Sequence[Table]) -> Table:
        """All events of tables with the same columns, at least one."""
        first = parts[0]
        if len(parts) == 1:
            return first
        arrays = zip(*(part._carried() for part in parts), strict=True)
        left_out = sum((part.left_out for part in parts), Counter())
        return replace(first._with([np.concatenate(each) for each in arrays]), left_out=left_out)

    def _with(self, arrays: Iterable[NDArray[Any]]) -> Table:
        """The same with other arrays, in the order of `_carried`."""
        coming = iter(arrays)
        return replace(
            self,
            features=next(coming),
            objects={name: (next(coming), next(coming)) for name in self.objects},
            labels=next(coming),
            weights=next(coming),
            identifiers=(next(coming), next(coming), next(coming)),
            extras={name: next(coming) for name in self.extras},
            outputs=next(coming, None),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: NDArray[np.generic]) -> Table:
        """Some of the events: those of a mask, or of row numbers."""
        return self._with(array[rows] for array in self._carried())

    def taking(self, columns: TrainingColumns) -> Table:
        """The same events as if they had been read with these columns, whose features are among those that there are."""
        if columns == self.about:
            return self
        places = np.array([self.names.index(name) for name in columns.names], np.intp)
        known = {**dict(zip(self.names, self.features.T, strict=True)), **self.extras}
        extras = {name: known[name] for name in columns.extras}
        return replace(self, features=self.features.take(places, axis=1), extras=extras, about=columns)

    @property
    def names(self) -> list[str]:
        """Names of the features."""
        return self.about.names

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.about.classes

    @property
    def shape(self) -> Shape:
        """The inputs and outputs of a network for these events."""
        return self.about.shape

    @property
    def nbytes(self) -> int:
        """Memory that the events take [bytes], without the extras: the same whichever of these are read."""
        return sum(array.nbytes for array in self._arrays())

    def folds(self, k: int) -> NDArray[np.int64]:
        """Fold of each event among `k`, int64 of shape (N,)."""
        return fold_of(*self.identifiers, k)

    def hashes(self) -> NDArray[np.uint64]:
        """A number of each event that is as good as random, uint64 of shape (N,)."""
        # not the low bits, which decide the fold
        run, block, event = self.identifiers
        return mixed(event, run, block)

    def targets(self) -> Floats:
        """The values to be estimated, float32 of shape (N, targets)."""
        columns = [self.extras[name] for name in self.about.targets or self.about.estimates]
        return np.stack(columns, axis=1) if columns else np.empty((len(self), 0), np.float32)

    def column(self, name: str) -> Floats:
        """A feature, or another column, float32 of shape (N,)."""
        return self.features[:, self.names.index(name)] if name in self.names else self.extras[name]

    def inputs(self) -> Iterator[tuple[str, Floats]]:
        """Values of all inputs by their full names; of collections the objects, without padding."""
        yield from zip(self.names, self.features.T, strict=True)
        for it in self.about.collections:
            values, mask = self.objects[it.name]
            for i, name in enumerate(it.shape.columns):
                yield name, values[..., i][mask]

    def flattened(self) -> Floats:
        """Inputs as columns (N, columns): features, then the fields of each object, NaN if there is no object."""
        parts = [self.features]
        for values, mask in self.objects.values():
            parts.append(np.where(mask[:, :, None], values, np.float32(np.nan)).reshape(len(self), -1))
        return np.concatenate(parts, axis=1)

    def sha256(self) -> str:
        """Hash of the events' content, whatever files and compression they came in."""
        # the name that the class had in the first trainings
        shape = repr(self.shape).replace("CollectionShape(", "Collection(")
        head = f"({shape}, {self.classes!r}, {sorted(self.extras)!r})"
        digest = hashlib.sha256(head.encode())
        for array in (*self._arrays(), *(self.extras[name] for name in sorted(self.extras))):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def _arrays(self) -> list[NDArray[np.generic]]:
        objects = [array for pair in self.objects.values() for array in pair]
        return [self.features, *objects, self.labels, self.weights, *self.identifiers]

    def _carried(self) -> list[NDArray[np.generic]]:
        return [*self._arrays(), *self.extras.values(), *([] if self.outputs is None else [self.outputs])]


def _of_a_class(
    members: NDArray[Any], labels: ObjectLabels
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Counter[int]]:
    """Event, place and class of the objects that belong to one; and how many others there are, by their value."""
    found, place = np.nonzero(members["valid"])
    values, which, counts = np.unique(members[labels.field][found, place], return_inverse=True, return_counts=True)
    known = [labels.classes.get(value, -1) for value in values.tolist()]
    numbers = zip(values.tolist(), counts.tolist(), known, strict=True)
    label = np.array(known, np.int64)[which]
    use = label >= 0
    return found[use], place[use], label[use], Counter({value: count for value, count, number in numbers if number < 0})


def _labelled(file: Path, label: NDArray[Any], event: NDArray[np.generic], classes: int) -> NDArray[np.bool_] | slice:
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


def as_floats(
    rows: NDArray[Any] | Mapping[str, NDArray[np.generic]],
    names: Sequence[str],
    shape: tuple[int, ...],
    named: Mapping[str, Sequence[float]],
) -> Floats:
    """Some fields as one more axis, NaN for the values that are named as missing."""
    values = np.empty((*shape, len(names)), np.float32)
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which counts as missing
        for i, name in enumerate(names):
            values[..., i] = rows[name]
            dtype = rows[name].dtype
            for missing in named.get(name, ()):
                stored = dtype.type(missing) if dtype.kind == "f" else missing  # half precision has rounded it
                values[values[..., i] == np.float32(stored), i] = np.nan
    return values
