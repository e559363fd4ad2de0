"""The content of an HDF5 file, one of the pipeline's or any other."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from MLTools.NanoML.contracts.hdf5 import (
    EVENTS,
    METADATA,
    ConvertedCollection,
    ConvertedDataset,
    HDF5Metadata,
    blocks,
    open_hdf5,
    read_metadata,
)
from MLTools.NanoML.contracts.templates import KEY
from MLTools.NanoML.errors import NanoMLError, plural
from MLTools.NanoML.inspection import (
    BEFORE_CUTS,
    Inspection,
    accounting_content,
    before_cuts,
    duplicates_fact,
    finite,
    kind_of_events,
    only_file,
    show_accounting,
    sum_of_weights,
)
from MLTools.NanoML.inspection.foreign import foreign
from MLTools.NanoML.inspection.histograms import of_hdf5
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.schema.plain import plain
from MLTools.NanoML.terminal.page import Page, TableColumn, amount, count, file_size, kinematics_first, number, share
from MLTools.NanoML.terminal.progress import progress

_WIDE = 110  # characters; a wider console has room for less important columns
_MUCH_LOST = 0.1
_FIELDS_SHOWN = 10
_SUMMARY = ("min", "mean", "max", "nan", "infinite")
_WORTH_A_BAR = 2_000_000  # events; fewer are done before anyone has read it


@dataclass
class HDF5Inspection(Inspection):
    """The content of a file of `nanoml convert`."""

    kind = "hdf5"
    events: int | None  # None if they are blind
    metadata: HDF5Metadata
    weight: str | None  # the column of weights
    classes: list[ClassCounts]  # all, also those without events, then the events that belong to none
    features: dict[str, ColumnSummary]
    regions: list[RegionCounts]

    def _content(self) -> dict[str, object]:
        metadata = self.metadata
        return {
            "own": True,
            "creator": metadata.creator,
            "events": self.events,
            "selection": metadata.selection,
            "weight": self.weight,
            "classes": [{**plain(each), "weights": finite(each.weights)} for each in self.classes],
            "regions": [{**plain(each), "weights": finite(each.weights)} for each in self.regions],
            "features": [
                {**plain(column), **{key: getattr(self.features[column.name], key) for key in _SUMMARY}}
                for column in metadata.features
            ],
            "objects": [
                {
                    "name": name,
                    "max": each.max,
                    "order": each.order,
                    "fields": plain(each.fields),
                    **plain(each.truncated),
                }
                for name, each in metadata.objects.items()
            ],
            "datasets": [
                {
                    "name": dataset.name,
                    "class": dataset.class_,
                    "cross_section": dataset.cross_section,
                    "luminosity": dataset.luminosity,
                    "is_data": dataset.is_data,
                    "books": accounting_content(Accounting(dataset.accounting.files), self.events is None),
                    "missing": plain(dataset.missing),
                    "duplicates": dataset.duplicates,
                    "data_driven": plain(dataset.data_driven),
                }
                for dataset in metadata.datasets
            ],
        }

    def _show_content(self, page: Page) -> None:
        metadata = self.metadata
        page.facts(
            ("events", "blind" if self.events is None else count(self.events)),
            ("what", "events for training, one row each"),
            ("size", file_size(self.size)),
            ("made by", metadata.creator),
            ("selection", metadata.selection),
            ("also under", ", ".join(metadata.shifts) or None),
        )
        total = "sum of genWeight" if self.weight == "genWeight" else "sum of weights"
        numbers = [TableColumn("events", "number"), TableColumn(total, "number")]
        rows = [
            (
                str(each.label),
                Text("(none)", style="dim") if each.name is None else each.name,
                count(each.events),
                amount(finite(each.weights)),
            )
            for each in self.classes
        ]
        page.table("Classes", [TableColumn("label", "number"), "class", *numbers], rows)
        columns = ["name", *numbers, TableColumn("cut", "rest")]
        rows = [(it.name, count(it.events), amount(finite(it.weights)), it.cut) for it in self.regions]
        page.table("Regions", columns, rows)
        self._show_features(page)
        _show_collections(page, metadata.objects)
        for dataset in metadata.datasets:
            _show_dataset(page, dataset, self.events is None)

    def _show_features(self, page: Page) -> None:
        """Print the features; columns for NaN and infinity only if there are any."""
        wide, missing = page.width >= _WIDE, any(each.nan or each.infinite for each in self.features.values())
        columns = ["name", "type", *(["from"] if wide else [])]
        columns += [TableColumn(name, "number") for name in ("min", "mean", "max")]
        columns += [TableColumn(name, "number") for name in ("NaN", "infinite")] if missing else []
        rows = []
        for column in self.metadata.features:
            summary = self.features[column.name]
            cells = [column.name, *([column.dtype, column.source] if wide else [np.dtype(column.dtype).str[1:]])]
            cells += [number(each) for each in (summary.min, summary.mean, summary.max)]
            alarming = [Text(count(many), "yellow" if many else "") for many in (summary.nan, summary.infinite)]
            rows.append([*cells, *(alarming if missing else []), column.title])
        page.table("Features: one number per event", [*columns, TableColumn("title", "rest")], rows)


def _show_collections(page: Page, collections: Mapping[str, ConvertedCollection]) -> None:
    columns = [
        "name",
        TableColumn("stored", "number"),
        "order",
        TableColumn("in the files", "number"),
        TableColumn("cut off", "number"),
        TableColumn("fields", "rest"),
    ]
    rows, complaints = [], []
    for name, each in collections.items():
        fields = kinematics_first([column.name for column in each.fields])
        more = f" and {len(fields) - _FIELDS_SHOWN} more" if len(fields) > _FIELDS_SHOWN else ""
        is_much, lost = each.truncated.lost > _MUCH_LOST * each.truncated.objects, Text("0")
        if each.truncated.lost:
            lost = Text(share(each.truncated.lost / each.truncated.objects), style="red" if is_much else "yellow")
        if is_much:
            part = f"{100 * each.truncated.lost / each.truncated.objects:.0f} % of {name} lost"
            complaints.append(Text.assemble("  ", (part, "bold red"), f": only {each.max} per event are stored."))
        stored, order = f"{each.max} per event", each.order or "as in the file"
        rows.append(
            (name, stored, order, count(each.truncated.objects), lost, ", ".join(fields[:_FIELDS_SHOWN]) + more)
        )
    page.table("Objects", columns, rows)
    for complaint in complaints:
        page.line(complaint)


def _estimate(dataset: ConvertedDataset) -> str | None:
    """The role of its events in a class that is estimated from data, in words."""
    part = dataset.data_driven
    if part is None:
        return None
    verb = "subtracted from" if part.subtracted else "taken as"
    counted = ", ".join(f"{region.name} ({region.cut})" for region in part.into) or "no region"
    return (
        f"{part.sum_of_weights:.6g} events of {part.dataset}, {verb} {dataset.class_} in {part.region}, weighted by {part.weight}; "
        f"counted in {counted}"
    )


def _show_dataset(page: Page, dataset: ConvertedDataset, is_blind: bool) -> None:
    accounting = Accounting(dataset.accounting.files)
    others = accounting.written - accounting.selected
    number = "blind" if is_blind and dataset.is_data else count(accounting.selected)
    kept = f", {number} kept" if accounting.cutflow or accounting.duplicates else ""
    page.heading(f"Dataset {dataset.name}" if dataset.name else "Source")
    page.facts(
        ("what", kind_of_events(dataset.is_data)),
        ("class", dataset.class_),
        ("estimate", _estimate(dataset)),
        ("cross section", None if dataset.cross_section is None else f"{dataset.cross_section:g} pb"),
        ("luminosity", None if dataset.luminosity is None else f"{dataset.luminosity:g} /fb"),
        ("made from", only_file(accounting) or plural(len(accounting.files), "file")),
        ("left out", plural(len(dataset.missing), "file") if dataset.missing else None),
        ("events", f"{count(accounting.entries)}{kept}"),
        duplicates_fact(accounting, dataset.name, dataset.duplicates),
        ("under shifts alone", f"{plural(others, 'event')}, left out" if others else None),
        ("sum of weights", sum_of_weights(accounting)),
    )
    show_accounting(page, accounting, is_blind)
    rows = [(each.file, each.reason, each.date) for each in dataset.missing]
    page.table("Left out", [TableColumn("file", "rest"), TableColumn("reason", "cut"), "since"], rows)


def inspect(path: str, show_data: bool = True) -> Inspection:
    """Inspect an HDF5 file; of data after a cut only if they are to be shown.

    Raises NanoMLError if the file is damaged, of a newer schema, or its metadata do not describe it.
    """
    with open_hdf5(path) as file:
        try:
            if KEY in file.attrs:
                return of_hdf5(path)
            return _own(file, path, show_data) if _is_own(file) else foreign(file, path)
        except (NanoMLError, MemoryError):
            raise
        except Exception as problem:  # what h5py raises for a damaged file depends on the damage
            reason = str(problem).strip("'").split("\n")[0]
            raise NanoMLError(f"{path}: is damaged ({reason}). Make or fetch it again.") from problem


def _is_own(file: h5py.File) -> bool:
    described, events = file.get(METADATA), file.get(EVENTS)
    return (
        isinstance(described, h5py.Dataset)
        and described.shape == ()
        and h5py.check_string_dtype(described.dtype) is not None
        and isinstance(events, h5py.Dataset)
        and events.dtype.names is not None
    )


def without_cuts(metadata: HDF5Metadata) -> HDF5Metadata:
    """The metadata of a file with data, which may be blind, as if no event of these had been cut away."""
    datasets = (
        replace(it, accounting=before_cuts(Accounting(it.accounting.files)).recorded(), duplicates={})
        for it in metadata.datasets
    )
    return replace(metadata, objects={}, datasets=tuple(datasets))


def _own(file: h5py.File, path: str, show_data: bool) -> HDF5Inspection:
    metadata, events = read_metadata(path), file[EVENTS]
    columns = [column.name for column in metadata.features]
    flags = [region.column for region in metadata.regions]
    lacking = [name for name in ("label", *columns, *flags) if name not in events.dtype.names]
    lacking += [name for name in metadata.objects if not isinstance(file.get(name), h5py.Dataset)]
    if lacking:
        raise NanoMLError(
            f"{path}: lacks {', '.join(lacking)}, which it should have by its `{METADATA}`. "
            "Make it again with `nanoml convert`."
        )
    warnings, errors = [], []
    selected = sum(dataset.accounting.selected for dataset in metadata.datasets)
    if selected != len(events):
        errors.append(
            f"The file has {len(events):,} events, but its accounting says {selected:,}: "
            "it was changed after the conversion. Convert again."
        )
    weight = next((name for name in ("weight", "genWeight") if name in events.dtype.names), None)
    classes = {label: ClassCounts(name, label) for label, name in enumerate(metadata.classes)}
    regions = {region.column: RegionCounts(region.name, region.cut) for region in metadata.regions}
    number: int | None = len(events)
    summaries = {name: ColumnSummary() for name in columns}
    if show_data or not any(dataset.is_data for dataset in metadata.datasets):
        summaries = summarise(events, columns, weight, classes, regions)
    else:
        warnings.append(BEFORE_CUTS)
        metadata, classes, regions, number = without_cuts(metadata), {}, {}, None
    if any(finite(each.weights) is None for each in classes.values()):
        warnings.append(f"A sum of weights is not a finite number: some events have a bad {weight}.")
    found = sorted(classes.values(), key=lambda each: (each.name is None, each.label))
    return HDF5Inspection(
        path,
        os.path.getsize(path),
        warnings,
        errors,
        number,
        metadata,
        weight,
        found,
        summaries,
        list(regions.values()),
    )


@dataclass
class ColumnSummary:
    """Range and mean of a column's finite values, in its unit, None if there are none; and the number of others."""

    min: float | None = None
    mean: float | None = None
    max: float | None = None
    nan: int = 0
    infinite: int = 0
    finite: int = 0

    def add(self, values: NDArray[np.generic]) -> None:
        """Add a block of values, shape (events,)."""
        numbers = values.astype(np.float64)
        finite = numbers[np.isfinite(numbers)]
        nan = int(np.isnan(numbers).sum())
        self.nan += nan
        self.infinite += len(numbers) - len(finite) - nan
        if not len(finite):
            return
        low, high, mean = float(finite.min()), float(finite.max()), float(finite.mean())
        self.min = low if self.min is None else min(self.min, low)
        self.max = high if self.max is None else max(self.max, high)
        self.finite += len(finite)
        sofar = mean if self.mean is None else self.mean
        self.mean = sofar + (mean - sofar) * (len(finite) / self.finite)


@dataclass
class ClassCounts:
    """Number of events with one label, and the sum of their weights."""

    name: str | None  # of the class; None for events that belong to none
    label: int
    events: int = 0
    weights: float = 0.0


@dataclass
class RegionCounts:
    """Number of events in a region, and the sum of their weights."""

    name: str
    cut: str
    events: int = 0
    weights: float = 0.0


def summarise(
    events: Any,
    columns: Sequence[str],
    weight: str | None,
    classes: dict[int, ClassCounts],
    regions: Mapping[str, RegionCounts],
) -> dict[str, ColumnSummary]:
    """Read the dataset `events` once, for summaries of columns, and to count the events of each label and region.

    `weight` is the column of weights; None counts each event as 1. `regions` are by their columns.
    """
    summaries = {name: ColumnSummary() for name in columns}
    with progress("inspect", len(events)) if len(events) >= _WORTH_A_BAR else nullcontext() as bar:
        for _, block in blocks(events):
            for name, summary in summaries.items():
                summary.add(block[name])
            labels, positions = np.unique(block["label"], return_inverse=True)
            weights = np.ones(len(block)) if weight is None else block[weight].astype(np.float64)
            for label, many, total in zip(labels, np.bincount(positions), np.bincount(positions, weights)):
                counts = classes.setdefault(int(label), ClassCounts(None, int(label)))
                counts.events += int(many)
                counts.weights += float(total)
            for column, region in regions.items():
                region.events += int(np.count_nonzero(block[column]))
                region.weights += float(weights[block[column]].sum())
            if bar is not None:
                bar.advance(len(block))
    return summaries
