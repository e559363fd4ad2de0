"""HDF5 files of made-up events, as the conversion writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from MLTools.NanoML.contracts.hdf5 import (
    EVENTS,
    PARAMETER,
    RESERVED,
    ConvertedCollection,
    ConvertedColumn,
    ConvertedDataset,
    ConvertedRegion,
    ConvertedWeight,
    HDF5Metadata,
    Truncated,
    write_metadata,
)
from MLTools.NanoML.nanoaod.fileaccounting import NOMINAL, FileAccounting, RecordedAccounting, WeightSums
from MLTools.NanoML.trilepton import Trilepton
from services.trainings import event_rows

CLASSES = ["signal", "WZ", "ZG"]
Writer = Callable[..., Path]


@pytest.fixture(scope="session")
def write() -> Writer:
    """Write an HDF5 file as the conversion does; collections are rows with the field `valid`, sorted by pt."""

    def write(
        path: Path,
        rows: NDArray[Any],
        classes: Sequence[str] = CLASSES,
        class_: str | None = None,
        selection: str | None = None,
        objects: dict[str, NDArray[Any]] | None = None,
        parameter: str | None = None,
        regions: Mapping[str, str] = MappingProxyType({}),
        weights: Mapping[str, WeightSums] = MappingProxyType({}),
        is_data: bool = False,
        cross_section: float | None = None,
        **options: Any,
    ) -> Path:
        objects, parts = objects or {}, tuple(ConvertedRegion(name, cut) for name, cut in regions.items())
        given = tuple(
            ConvertedWeight(
                name, {key: it for key, it in sums.columns.items() if key != NOMINAL}, sums.keeps_yield, sums.combine
            )
            for name, sums in weights.items()
        )
        varied = [column for weight in given for column in weight.variations.values()]
        others = (*RESERVED, "valid", *varied, *(region.column for region in parts))

        def columns(values: NDArray[Any]) -> tuple[ConvertedColumn, ...]:
            names = [name for name in values.dtype.names or () if name not in others]
            made = {name: "selection" for name in Trilepton.columns if selection} | {parameter: PARAMETER}
            types = [values.dtype[name].name for name in names]
            found = zip(names, types, strict=True)
            return tuple(ConvertedColumn(name, it, name, made.get(name, "branch")) for name, it in found)

        kept = {name: Truncated(int(it["valid"].sum()), 0) for name, it in objects.items()}
        collections = {
            it: ConvertedCollection(of.shape[1], "-pt", None, columns(of), kept[it]) for it, of in objects.items()
        }
        count, given_ = len(rows), [*weights.values()]
        source = FileAccounting(f"{path.stem}.root", count, count, 1.0, "Runs", False, weights=given_)
        accounting = RecordedAccounting([source] if weights else [], len(rows), len(rows), 0, 1.0, [])
        luminosity = None if cross_section is None else 1.0
        dataset = ConvertedDataset(path.stem, class_, -1, cross_section, luminosity, {}, is_data, accounting)
        with h5py.File(path, "w") as file:
            for name, content in {EVENTS: rows, **objects}.items():
                file.create_dataset(name, data=content, chunks=True, **options)
            content = HDF5Metadata("NanoML", list(classes), columns(rows), collections, selection, {}, (dataset,))
            write_metadata(file, replace(content, regions=parts, weights=given))
        return path

    return write


def toy_in(directory: Path, write: Writer) -> Callable[..., Path]:
    """Write 600 events of two classes that a line separates well, but not perfectly."""

    def toy(
        name: str = "toy.h5",
        count: int = 600,
        negative: float = 0.0,
        objects: dict[str, NDArray[Any]] | None = None,
        parameter: str | None = None,
        regions: Mapping[str, str] = MappingProxyType({}),
        weights: Mapping[str, WeightSums] = MappingProxyType({}),
        cross_section: float | None = None,
        **changes: Any,
    ) -> Path:
        random = np.random.default_rng(1)
        label = np.arange(count) % 2
        columns = {"x": random.normal(label, 1.0).astype("f4"), "y": random.normal(-label, 1.0).astype("f4")}
        weight = np.where(random.random(count) < negative, -1.0, 1.0)
        rows = event_rows({**columns, **changes}, label, weight)
        classes = ["signal", "other"]
        given = {"objects": objects, "parameter": parameter, "regions": regions, "weights": weights}
        return write(directory / name, rows, classes=classes, cross_section=cross_section, **given)

    return toy


@pytest.fixture(scope="session")
def toys(write: Writer) -> Callable[[Path], Callable[..., Path]]:
    """Write files as `toy_in` does, into any directory."""
    return lambda directory: toy_in(directory, write)


@pytest.fixture
def toy(tmp_path: Path, write: Writer) -> Callable[..., Path]:
    """Write a file as `toy_in` does, into the directory of the test."""
    return toy_in(tmp_path, write)
