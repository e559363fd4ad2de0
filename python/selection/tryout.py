"""Runs a selection on a few events without writing anything, for tests and notebooks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Optional

import awkward as ak
import numpy as np

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.accounting import event_weights, weights_in
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch, flat_branch
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection.selected import Selected
from MLTools.NanoML.selection.selection import Selection

__all__ = ["on_events", "on_file"]


def on_file(selection: Selection, path: str | os.PathLike[str], most: Optional[int] = None) -> Selected:
    """Run a selection on the events of a file.

    Parameters
    ----------
    selection
        The selection: `ThreeLeptons()`.
    path
        Path or URL of a NanoAOD file.
    most
        Read only the first `most` events; all are in memory at once.

    Returns
    -------
    `rows`, the positions of the events that passed; `columns`, the columns for them; and `cutflow`.

    Raises
    ------
    NanoMLError
        The file cannot be read or lacks branches, or the selection made a mistake.

    Examples
    --------
    >>> from MLTools.NanoML.trilepton import Trilepton
    >>> found = on_file(Trilepton(), "examples/nano/WZTo3LNu/WZTo3LNu_0.root", most=100)
    >>> [(step.cut, step.events) for step in found.cutflow.steps]
    [('all', 100), ('three good leptons', 29), ('Z candidate', 29), ('W lepton', 7), ('Z muon identification', 7)]
    """
    with RootFile(path) as file:
        bound = selection.bind(file.branches, file.path)
        return bound.apply(file.read(bound.branches, 0, most), weights_in(file, 0, most))


def on_events(selection: Selection, events: Mapping[str, Sequence[object]]) -> Selected:
    """Run a selection on events made by hand.

    Parameters
    ----------
    selection
        The selection.
    events
        Branch name to one value for each event: a number, or a list of numbers for its objects, as in
        `{"Muon_pt": [[50.0, 20.0], []], "MET_pt": [30.0, 40.0]}`.

    Returns
    -------
    As `on_file`. All events have the weight 1, unless there is a genWeight.

    Raises
    ------
    NanoMLError
        Branches are missing or differ in length, or the selection made a mistake.

    Examples
    --------
    >>> from MLTools.NanoML.selection import Column, Selection
    >>> class Boosted(Selection):
    ...     branches = ("MET_pt",)
    ...     columns = {"met": Column("f4", "MET [GeV]")}
    ...     def select(self, events, cutflow):
    ...         events = cutflow.cut("MET", events.MET.pt > 35, events)
    ...         return events, {"met": events.MET.pt}
    >>> on_events(Boosted(), {"MET_pt": [30.0, 40.0]}).columns["met"].tolist()
    [40.0]
    """
    arrays = {name: _array(values) for name, values in events.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise NanoMLError(f"events made by hand: each branch has one entry for each event, but they differ: {counts}.")
    branches = {name: flat_branch(name, "") for name in arrays}
    for name in (name for name, array in arrays.items() if array.ndim > 1):
        branches[name] = Branch(name, "", "jagged", "", versions.collection_of(name, None, arrays), "")
    weights = event_weights(arrays, next(iter(lengths.values())))
    return selection.bind(branches, "events made by hand").apply(arrays, weights)


def _array(values: Sequence[object]) -> ak.Array:
    """An array of numbers, in double precision if its type is unknown because there are no objects."""
    array = ak.Array(values)
    return ak.values_astype(array, np.float64) if "unknown" in str(array.type) else array
