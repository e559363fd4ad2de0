"""The scores of a model in a loop of FWLite over EDM NanoAOD.

As in::

    from DataFormats.FWLite import Events
    from MLTools.NanoML.fwlite import FWLiteModel

    model = FWLiteModel("leptons.onnx")
    for event in Events("nano_edm.root"):
        print(dict(zip(model.outputs, model.scores(event))))

Each NanoAOD branch is read where cmsRun has it: Muon_pt from the column pt of the FlatTables named Muon, HLT_IsoMu24 and
Flag_goodVertices from edm::TriggerResults.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.inside import Decisions, decide
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.rootio import versions

__all__ = ["FWLiteModel"]

TABLE, TRIGGER = "nanoaod::FlatTable", "edm::TriggerResults"

Label = tuple[str, str, str]  # module, instance, process


@dataclass(frozen=True)
class _Place:
    """Where a branch is."""

    kind: str  # class of the product
    label: Label
    column: Optional[str]  # name in the table, or of the trigger path; None for the number of objects


class FWLiteModel:
    """A model that scores the events of FWLite.

    Parameters
    ----------
    path
        The ONNX file, as `nanoml export` writes it.
    parameter
        Value of the model's parameter, if it has one.

    Attributes
    ----------
    model
        The model.
    outputs
        Its classes and discriminants, or the targets of a regression, in the order of the scores.

    Raises
    ------
    NanoMLError
        The model cannot be read, the parameter is missing, or there is no FWLite.
    """

    def __init__(self, path: str | os.PathLike[str], parameter: Optional[float] = None) -> None:
        self.model = Model(path)
        self.model.check_parameter(parameter)
        self.outputs = self.model.outputs
        try:
            from DataFormats.FWLite import Handle  # type: ignore[import-not-found]
        except ImportError:
            raise NanoMLError("there is no FWLite (DataFormats.FWLite) here: run cmsenv in a CMSSW release.") from None
        self._new_handle, self._handles = Handle, {}  # type: ignore[var-annotated]
        self._parameter = parameter
        inputs = self.model.description.inputs
        self._types = {name: dtype for each in inputs for name, dtype in zip(each.columns, each.dtypes)}
        self._places: dict[str, _Place] = {}
        self._bits: dict[tuple[Label, int], dict[str, int]] = {}

    def scores(self, event: Any) -> NDArray[np.float32]:
        """The scores of an event by the network of its fold, which has not seen it in training.

        Parameters
        ----------
        event
            An event of a loop over `DataFormats.FWLite.Events`.

        Returns
        -------
        float32, shape (outputs,); of a model of objects, shape (objects, outputs). NaN where the selection inside the model
        does not let the event pass.

        Raises
        ------
        NanoMLError
            The event lacks a column of the model, or a score is not finite.
        """
        if self.model.description.inside is not None:
            return self.decide(event).scores[0]
        columns, fold = self.columns(event), self._fold(event)
        if self.model.description.level == "event":
            return self.model.scores(columns, fold, self._parameter)[0]
        objects = len(next(each[0] for each in columns.values() if each.ndim > 1))
        return self.model.scores(columns, np.repeat(fold, objects), self._parameter)

    def decide(self, event: Any) -> Decisions:
        """The decisions on an event of a model with its selection inside; its columns are those of the tables, which are not corrected."""
        return decide(self.model, self.columns(event), self._fold(event), self._parameter)

    def columns(self, event: Any) -> dict[str, Any]:
        """The branches that the model reads, of one event: arrays of one number each, or of one list."""
        if not self._places:
            self._places = self._find(event)
        return {name: self._read(place, event, self._types.get(name)) for name, place in self._places.items()}

    def _fold(self, event: Any) -> NDArray[np.int64]:
        about = event.eventAuxiliary()
        return fold_of([about.run()], [about.luminosityBlock()], [about.event()], self.model.folds)

    def _read(self, place: _Place, event: Any, dtype: Optional[str]) -> Any:
        product = self._product(place.kind, place.label, event)
        if product is None:
            raise NanoMLError(f"{_where(event)}: has no product {':'.join(place.label)} with {place.column}.")
        if place.kind == TRIGGER:
            number = self._bits_of(place.label, product, event).get(str(place.column), -1)
            return np.array([number >= 0 and bool(product.accept(number))])  # a menu may not have it
        if place.column is None:
            return np.array([product.size()])
        number = product.columnIndex(place.column)
        if number < 0:
            raise NanoMLError(f"{_where(event)}: table {product.name()} has no column {place.column}.")
        values = np.array([product.getAnyValue(row, number) for row in range(product.size())], np.float64)
        values = values.astype(dtype or values.dtype)  # integers again, of which too large ones are refused
        if product.singleton():
            return values
        import awkward as ak  # only where there are objects

        return ak.unflatten(values, [len(values)])

    def _find(self, event: Any) -> dict[str, _Place]:
        """The places of all branches that the model reads, as this event has them."""
        found: dict[str, list[_Place]] = {}
        for name, place in (*self._columns_of_tables(event), *self._trigger_bits(event)):
            found.setdefault(name, []).append(place)
        places, inside = {}, self.model.description.inside
        for wanted in self.model.reads:
            actual = versions.resolve(wanted, found)
            if actual is None and inside is not None and wanted in inside.defaults:
                kind = next((it for it in versions.TRIGGERS if wanted.startswith(it)), "")
                if any(name.startswith(kind) for name in found):
                    continue  # there are results of a trigger, which lacks the path
            if actual is None:
                raise NanoMLError(
                    f"{self.model.path}: {_where(event)} has no column {wanted}, which the model reads. FWLite finds the tables "
                    "and trigger bits of EDM NanoAOD; MiniAOD has no tables, and no file has the columns of a selection."
                )
            first, *more = found[actual]
            if more and first.kind == TABLE:
                labels = " and ".join(":".join(place.label) for place in found[actual])
                raise NanoMLError(f"{self.model.path}: column {wanted} is in several tables: {labels}.")
            places[wanted] = first
        return places

    def _columns_of_tables(self, event: Any) -> Iterator[tuple[str, _Place]]:
        # without a process, FWLite takes the product of the last one
        for label in sorted({(module, instance, "") for module, instance, _ in _labels(event, TABLE)}):
            table = self._product(TABLE, label, event)
            if table is None:  # of runs or luminosity blocks
                continue
            collection = str(table.name())
            for number in range(table.nColumns()):
                column = str(table.columnName(number))
                yield "_".join(filter(None, (collection, column))), _Place(TABLE, label, column)
            if not table.singleton() and not table.extension():
                yield f"n{collection}", _Place(TABLE, label, None)

    def _trigger_bits(self, event: Any) -> Iterator[tuple[str, _Place]]:
        # in the order of the processes' names; NanoAOD gives the plain name to the first, too
        for label in sorted(_labels(event, TRIGGER)):
            results = self._product(TRIGGER, label, event)
            if results is not None:
                for name in self._bits_of(label, results, event):
                    yield name, _Place(TRIGGER, label, name)

    def _bits_of(self, label: Label, results: Any, event: Any) -> dict[str, int]:
        """Numbers of the paths in the menu of this run, by their names in NanoAOD."""
        key = label, int(event.eventAuxiliary().run())
        if key not in self._bits:
            names = [str(name) for name in results.getTriggerNames()]
            names = names or [str(name) for name in event.object().triggerNames(results).triggerNames()]
            self._bits[key] = {_without_version(name): number for number, name in enumerate(names)}
        return self._bits[key]

    def _product(self, kind: str, label: Label, event: Any) -> Any:
        """A product of the event; None if there is none."""
        if label not in self._handles:
            self._handles[label] = self._new_handle(kind)
        handle = self._handles[label]
        event.getByLabel(label, handle)
        return handle.product() if handle.isValid() else None


def _labels(event: Any, kind: str) -> list[Label]:
    """The products of a class in the file."""
    return [
        (str(each.moduleLabel()), str(each.productInstanceName()), str(each.processName()))
        for each in event.object().getBranchDescriptions()
        if str(each.className()) == kind
    ]


def _without_version(path: str) -> str:
    """The name of a trigger path in NanoAOD: HLT_IsoMu24 of HLT_IsoMu24_v13."""
    return re.sub(r"_v[0-9]+\Z", "", path) if path.startswith(("HLT", "L1")) else path


def _where(event: Any) -> str:
    about = event.eventAuxiliary()
    return f"event {about.run()}:{about.luminosityBlock()}:{about.event()}"
