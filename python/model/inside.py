"""Models that have their selection inside: from branches of NanoAOD to a decision, columns and scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model.entries import Domain, SelectionInside, outside_of
from MLTools.NanoML.model.model import Model
from MLTools.NanoML.model.padding import Jagged
from MLTools.NanoML.rootio.lists import Array, Arrays, default

FOLD = "fold"
"""The tensor with the fold of the events, which is the same for all that run together; -1 for the mean of all networks."""

EXACT = 1 << 24
"""Integers up to this are exact in float32, which a model reads."""

NO_RESULT, TOO_MANY = 1, 2
"""Bits of `Decisions.failed`: the selection has no result for the event; it has more objects than there is room for."""

_ROWS = 512


def shapes_of(inside: SelectionInside, domain: Domain) -> dict[str, tuple[Optional[int], ...]]:
    """The outputs of a selection inside a model, also those that its networks read, and their shapes."""
    found: dict[str, tuple[Optional[int], ...]] = {"passed": (None, 1), "cuts": (None, len(inside.cuts))}
    if inside.columns:
        found["columns"] = (None, len(inside.columns))
    for each in inside.collections:
        found[f"made_{each.name}"], found[f"made_{each.name}_mask"] = (
            (None, each.size, len(each.fields)),
            (None, each.size),
        )
    for tensor in domain:
        objects = (tensor.size,) if tensor.mask else ()
        found[tensor.tensor] = (None, *objects, len(tensor.inputs))
        found.update({tensor.mask: (None, *objects)} if tensor.mask else {})
    return {**found, "failed": (None, 1)}


@dataclass(frozen=True)
class Decisions:
    """The decisions of a model with its selection inside about events.

    Attributes
    ----------
    passed
        Which events pass, bool, shape (events,); none that failed.
    failed
        0 where all is well, otherwise `NO_RESULT` and `TOO_MANY`; uint8, shape (events,).
    cuts
        By name, the events that pass this cut and all before, bool, shape (events,); none that failed.
    columns
        The selection's columns, by name, in their types, shape (events,); 0 for events that do not pass.
    collections
        The fields of the collections that it makes, by the names of their branches: awkward arrays of one list for each event,
        which is empty for those that do not pass.
    scores
        By the model's outputs, float32, shape (events, outputs); NaN for events that do not pass.
    outside
        Which inputs of the networks lie outside of the model's domain, bool, shape (events that pass, inputs).
    """

    passed: NDArray[np.bool_]
    failed: NDArray[np.uint8]
    cuts: dict[str, NDArray[np.bool_]]
    columns: dict[str, Array]
    collections: dict[str, Any]
    scores: NDArray[np.float32]
    outside: NDArray[np.bool_]


def decide(
    model: Model, columns: Arrays, fold: Optional[NDArray[np.int64]] = None, parameter: Optional[float] = None
) -> Decisions:
    """Run a model with its selection inside.

    Parameters
    ----------
    model
        The model.
    columns
        Each of `model.reads`, corrected where `model.description.inside.corrected` says so; those that have a default there may
        be missing. Numbers of events are arrays of shape (events,), lists are awkward arrays.
    fold
        The fold of each event, int64, shape (events,), see `fold_of`; None takes the mean of all networks.
    parameter
        Value of the model's parameter.

    Raises
    ------
    NanoMLError
        A branch is missing, an integer is too large to be exact, a score is not finite, or the model has no selection inside.
    """
    inside = model.description.inside
    if inside is None:
        raise NanoMLError(f"{model.path}: has no selection inside. `export: {{selection: true}}` writes one that has.")
    events = len(next(iter(columns.values())))
    missing = [name for name in model.reads if name not in columns and name not in inside.defaults]
    if missing:
        raise NanoMLError(f"{model.path}: reads {', '.join(missing)}, which are not given.")
    beside = {name: each.columns for each in model.objects for name in each.columns}
    given: dict[str, object] = {}
    for name in (name for name in model.reads if name not in columns):
        lists = next((columns[other] for other in beside.get(name, ()) if other in columns), None)
        given[name] = default(inside.defaults[name], events, lists)
    given.update((name, columns[name]) for name in model.reads if name in columns)
    failed = np.zeros(events, np.uint8)
    for tensor in model.objects:
        failed[Jagged.of(given[tensor.columns[0]]).counts > tensor.max] |= TOO_MANY
    for name, values in given.items():
        numbers = Jagged.of(values).values if getattr(values, "ndim", 1) > 1 else np.asarray(values)
        if numbers.dtype.kind in "iu" and numbers.size and int(np.abs(numbers.astype(np.int64)).max()) > EXACT:
            raise NanoMLError(f"{model.path}: {name} has numbers above {EXACT}, which are not exact in float32.")
    found = _run(model, model.tensors(given, parameter), fold, events)
    failed[found["failed"][:, 0] > 0] |= NO_RESULT
    known = failed == 0
    passed = (found["passed"][:, 0] > 0) & known
    scores = found[model.description.output_tensors[0]]
    bad = passed & ~np.isfinite(scores).all(axis=1)
    if bad.any():
        raise NanoMLError(
            f"{model.path}: {int(bad.sum())} of {events} events have a score that is NaN or infinite, for example number "
            f"{int(np.argmax(bad))}. `nanoml verify {model.path}` shows whether the model is at fault."
        )
    return Decisions(
        passed,
        failed,
        {name: known & (found["cuts"][:, number] > 0) for number, name in enumerate(inside.cuts)},
        {
            each.name: np.where(known, found["columns"][:, number], 0).astype(each.dtype)
            for number, each in enumerate(inside.columns)
        },
        dict(_collections(inside, found, known)),
        np.where(passed[:, None], scores, np.float32(np.nan)),
        outside_of(model.description.domain, found)[passed],
    )


def _collections(
    inside: SelectionInside, found: Mapping[str, NDArray[np.number]], known: NDArray[np.bool_]
) -> Mapping[str, object]:
    made = {}
    for collection in inside.collections:
        import awkward as ak  # only where there are objects

        mask = (found[f"made_{collection.name}_mask"] > 0) & known[:, None]
        for number, each in enumerate(collection.fields):
            values = found[f"made_{collection.name}"][..., number][mask].astype(each.dtype)
            made[f"{collection.name}_{each.name}"] = ak.unflatten(values, mask.sum(axis=1))
    return made


def _run(model: Model, feeds: Arrays, fold: Optional[NDArray[np.int64]], events: int) -> dict[str, NDArray[np.number]]:
    """All outputs; events of one fold run together."""
    names = [each.name for each in model.session.get_outputs()]
    folds = np.full(events, -1) if fold is None else fold
    found: dict[str, NDArray[np.number]] = {}
    for number in np.unique(folds).tolist() or [-1]:
        rows = np.flatnonzero(folds == number)
        for start in range(0, max(len(rows), 1), _ROWS):
            part = rows[start : start + _ROWS]
            feed = {name: values[part] for name, values in feeds.items()}
            feed[FOLD] = np.full((len(part), 1), number, np.float32)
            for name, values in zip(names, model.session.run(None, feed)):
                if name not in found:
                    found[name] = np.zeros((events, *values.shape[1:]), values.dtype)
                found[name][part] = values
    return found
