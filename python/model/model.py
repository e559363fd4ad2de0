"""A model that can be run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import ConfigError, NanoMLError, explain_os_error
from MLTools.NanoML.model.description import Description
from MLTools.NanoML.model.file import (
    KEY,
    check_hash,
    metadata_text,
    network_files,
    parse_onnx,
    refuse_external_data,
    start_session,
)
from MLTools.NanoML.model.padding import Jagged, padded

if TYPE_CHECKING:
    from MLTools.NanoML.rootio.lists import Arrays

_ROWS, _OBJECTS = 512, 2048
"""Rows, and objects in them, that are computed at once: the layers of the networks fit into the caches then."""

Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ScoreColumn:
    """A column that scoring makes."""

    name: str
    dtype: str
    title: str
    collection: Optional[str] = None  # for which objects it has a number each; None for one number per event


class Model:
    """A model, ready to run with ONNX Runtime on one thread.

    Parameters
    ----------
    path
        The ONNX file, as `nanoml export` writes it.

    Attributes
    ----------
    path
        The file.
    sha256
        Its hash.
    description
        How it describes itself: the content of its metadata.
    name
        Name of the model; its scores are branches NAME_CLASS and NAME_DISCRIMINANT.
    outputs
        Its classes and discriminants, or the targets of a regression, and the outputs of further heads, in their order.
    folds
        Number of networks in it; for each event there is one that has not seen it in training.
    columns
        Columns of `features` that it reads: numbers of the event or, in a model of objects, of the object.
    objects
        Collections that it reads.
    selection_columns
        Columns that a selection makes, and the selection.
    reads
        All columns and branches that `scores` needs.

    Raises
    ------
    NanoMLError
        There is no such file, it is damaged, does not describe itself, is of a newer schema, or its JSON twin
        belongs to another file.

    Examples
    --------
    >>> model = Model("data/leptons.onnx")
    >>> model.name, model.folds, model.outputs
    ('leptons', 5, ['signal', 'WZ', 'ZG', 'discriminant'])
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if not os.path.isfile(self.path):
            raise NanoMLError(f"{self.path}: no such file. `nanoml export` makes a model.")
        content = self._read()
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._whole: Any = None
        try:
            graph = parse_onnx(content)
            text = {entry.key: entry.value for entry in graph.metadata_props}.get(KEY)
        except (ImportError, ValueError):  # without onnx, or ONNX Runtime knows better what is wrong
            graph, self._whole = None, start_session(self.path, content)
            text = metadata_text(self._whole, self.path)
        if text is None:
            raise NanoMLError(
                f"{self.path}: does not describe itself (no `{KEY}` metadata): it is not a model of `nanoml export`."
            )
        self.description = description = Description.of_text(text, self.path)
        self.name, self.outputs, self.folds = description.name, description.output_columns, description.folds
        self.columns, self.objects = description.columns, description.objects
        self.selection_columns, self.reads = description.selection_columns, description.reads
        check_hash(self.path, content, self.sha256)
        self._networks: list[Any] = []
        if graph is not None:
            refuse_external_data(self.path, graph)
        if graph is not None and description.inside is None:
            parts = network_files(graph, self.description.output_tensors[1], self.folds) or []
            self._networks = [start_session(self.path, part) for part in parts]
        if not self._networks and self._whole is None:  # to find now what is wrong with the file
            self._whole = start_session(self.path, content)

    def _read(self) -> bytes:
        try:
            return Path(self.path).read_bytes()
        except OSError as problem:
            raise explain_os_error(problem, self.path, "read") from None

    @property
    def session(self) -> Any:
        """The session of ONNX Runtime that computes all networks together."""
        if self._whole is None:
            content = self._read()
            if hashlib.sha256(content).hexdigest() != self.sha256:
                raise NanoMLError(f"{self.path}: was replaced while it was in use: run this again.")
            self._whole = start_session(self.path, content)
        return self._whole

    def score_columns(self, parameter: Optional[float], ending: str = "") -> list[ScoreColumn]:
        """The columns of its outputs at a value of its parameter, with this ending of their names, and last the folds of the events."""
        description, collection = self.description, self.description.collection
        prefix = f"{collection}_" if collection else ""
        what = "probability of class" if description.kind == "classes" else "estimate of"
        titles = {each: f"{what} {each}" for each in description.outputs}
        titles.update({each.name: each.formula(description.outputs) for each in description.discriminants})
        titles.update({name: head.meaning(name) for head in description.heads for name in head.outputs})
        at = f" at {description.parameter.column} = {parameter:g}" if description.parameter else ""
        fold = "fold of the event: the network that scored it has not seen this fold in training"
        return [
            *(
                ScoreColumn(f"{prefix}{self.name}_{each}{ending}", "float32", f"{title} by {self.name}{at}", collection)
                for each, title in titles.items()
            ),
            ScoreColumn(f"{self.name}_fold", "int32", fold),
        ]

    def check_parameter(self, value: Optional[float]) -> None:
        """Make sure that there is a value for the model's parameter, and only if it has one.

        Raises ConfigError if it is missing, not finite, or the model has no parameter, or knows only other values.
        """
        parameter = self.description.parameter
        if parameter is None and value is not None:
            raise ConfigError(f"{self.path}: the model has no parameter.")
        if parameter is not None and (value is None or not np.isfinite(value)):
            trained = ", ".join(f"{one:g}" for one in parameter.values)
            raise ConfigError(
                f"{self.path}: the model has the parameter {parameter.column}, trained at {trained}: "
                f"give a number, as in --parameter {parameter.column}={(parameter.values or (1.0,))[0]:g}."
            )
        if parameter is not None and parameter.only and np.float32(value) not in np.array(parameter.values, np.float32):
            trained = ", ".join(f"{one:g}" for one in parameter.values)
            raise ConfigError(
                f"{self.path}: {parameter.column} = {value:g} is not among the values that these trees were trained at: {trained}. Trees "
                "do not interpolate between them: use one of these, or a network, such as `train.model: tabular`."
            )

    def tensors(self, columns: Arrays, parameter: Optional[float] = None) -> Tensors:
        """The tensors that the model reads.

        Parameters
        ----------
        columns
            Each of `reads`. Numbers of events: arrays of shape (events,) and any number type. Lists of numbers:
            awkward arrays, or `Jagged`. In a model of objects, numbers of events are repeated for each object.
        parameter
            Value of the model's parameter.

        Returns
        -------
        By their names, float32: `features`, shape (events or objects, columns); of each collection the values, shape
        (events, max, columns), and the mask, shape (events, max).

        Raises
        ------
        NanoMLError
            Branches of one collection have different numbers of objects.
        """
        self.check_parameter(parameter)
        jagged = dict(self._jagged(columns))
        found: Tensors = {}
        if self.description.features is not None:
            found[self.description.features.tensor] = self._features(columns, jagged, parameter)
        for tensor in self.objects:
            counts = self._counts(jagged, tensor.branches)
            key = jagged[tensor.order_branch].values if tensor.order_branch else None
            found[tensor.tensor], found[tensor.mask] = padded(
                [jagged[name].values for name in tensor.columns], counts, tensor.max, key, tensor.descending
            )
        return found

    def _jagged(self, columns: Arrays) -> Iterator[tuple[str, Jagged]]:
        wanted = self.columns if self.description.level == "object" else []
        for name in [*wanted, *(branch for tensor in self.objects for branch in tensor.branches)]:
            array = columns[name]
            if isinstance(array, Jagged):
                yield name, array
            elif getattr(array, "ndim", 1) > 1:
                yield name, Jagged.of(array)

    def _features(
        self, columns: Arrays, jagged: Mapping[str, Jagged], parameter: Optional[float]
    ) -> NDArray[np.float32]:
        repeat = None
        if self.description.level == "object":
            repeat = self._counts(jagged, [name for name in self.columns if name in jagged])
        parts = []
        for name in self.columns:
            if name in jagged and repeat is not None:
                parts.append(jagged[name].values)
            else:
                values = np.asarray(columns[name])
                parts.append(values if repeat is None else np.repeat(values, repeat))
        rows = len(parts[0]) if parts else len(next(iter(columns.values())))
        if parameter is not None:
            parts.append(np.full(rows, parameter))
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which counts as missing
            return np.stack([part.astype(np.float32, copy=False) for part in parts], axis=1)

    def _counts(self, jagged: Mapping[str, Jagged], names: Sequence[str]) -> NDArray[np.int64]:
        """Numbers of objects, the same in all branches of a collection."""
        if not names:
            raise NanoMLError(f"{self.path}: none of {', '.join(self.columns)} has a number for each object.")
        counts = jagged[names[0]].counts
        for name in names[1:]:
            if not np.array_equal(jagged[name].counts, counts):
                raise NanoMLError(
                    f"{self.path}: {name} and {names[0]} have different numbers of objects: they are not of one collection."
                )
        return counts

    def scores(
        self, columns: Arrays, fold: Optional[NDArray[np.int64]] = None, parameter: Optional[float] = None
    ) -> NDArray[np.float32]:
        """Class probabilities and discriminants, or values of a regression's targets.

        Parameters
        ----------
        columns, parameter
            As in `tensors`.
        fold
            Fold of each row of the result, int64, shape (rows,): it is scored by the network that tests on that fold
            and has not seen it. None takes the mean of all networks.

        Returns
        -------
        float32, shape (rows, outputs). The rows are events or, in a model of objects, the objects of all events.

        Raises
        ------
        NanoMLError
            A score is not finite, or the model has its selection inside: then `decide` of `MLTools.NanoML.model.inside` runs it.
        """
        if self.description.inside is not None:
            raise NanoMLError(
                f"{self.path}: has the selection {self.description.inside.name} inside, and is run by `nanoml score`, in cmsRun, or in "
                "Python by `decide` of MLTools.NanoML.model.inside. Here, take the model without it, which lies beside this one."
            )
        return self.scores_of(self.tensors(columns, parameter), fold)

    def scores_of(self, feeds: Tensors, fold: Optional[NDArray[np.int64]] = None) -> NDArray[np.float32]:
        """As `scores`, of the `tensors` of events."""
        found = self.run(feeds, fold)
        if not np.isfinite(found).all():
            bad = ~np.isfinite(found).all(axis=1)
            raise NanoMLError(
                f"{self.path}: {int(bad.sum())} of {len(found)} {self.description.level}s have a score that is NaN or infinite, "
                f"for example number {int(np.argmax(bad))}. `nanoml verify {self.path}` shows whether the model is at fault."
            )
        return found

    def run(self, feeds: Tensors, fold: Optional[NDArray[np.int64]] = None) -> NDArray[np.float32]:
        """Run the network on tensors, batch by batch; as `scores`, but without a check of the result."""
        rows = len(next(iter(feeds.values())))
        found = np.full((rows, len(self.outputs)), np.nan, np.float32)
        if fold is None or not self._networks:
            for part in self._batches(rows):
                found[part] = self._together(feeds, part, fold)
            return found
        for number, network in enumerate(self._networks):
            members = np.flatnonzero(fold == number)
            for part in self._batches(len(members)):
                chosen = members[part]
                (scores,) = network.run(None, {name: values.take(chosen, axis=0) for name, values in feeds.items()})
                found[chosen] = scores[:, 0]
        return found

    def _together(self, feeds: Tensors, part: slice, fold: Optional[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Run all networks on some of the rows."""
        mean, each = self.description.output_tensors
        wanted = mean if fold is None else each
        scores: NDArray[np.float32]
        (scores,) = self.session.run([wanted], {name: values[part] for name, values in feeds.items()})
        return scores if fold is None else scores[np.arange(len(scores)), fold[part]]

    def _batches(self, rows: int) -> Iterator[slice]:
        """Ranges of rows, never empty ones, on which some networks crash ONNX Runtime 1.17 and 1.20."""
        most = max(8, min(_ROWS, _OBJECTS // max(1, sum(tensor.max for tensor in self.objects))))
        for start in range(0, rows, most):
            yield slice(start, start + most)
