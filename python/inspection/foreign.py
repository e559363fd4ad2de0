"""The content of an HDF5 file that the conversion did not write."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import h5py

from MLTools.NanoML.inspection import Inspection
from MLTools.NanoML.schema.plain import plain
from MLTools.NanoML.terminal.page import Page, TableColumn, count, file_size


@dataclass(frozen=True)
class Dataset:
    """A dataset of any HDF5 file."""

    name: str
    shape: list[int] | None  # None if it is empty
    dtype: str
    fields: dict[str, str]  # the types of the fields of a compound


@dataclass
class ForeignInspection(Inspection):
    """The content of an HDF5 file of another origin."""

    kind = "hdf5"
    datasets: list[Dataset] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)

    def _content(self) -> dict[str, object]:
        return {"own": False, "datasets": plain(self.datasets), "attributes": self.attributes}

    def _show_content(self, page: Page) -> None:
        page.facts(("what", "HDF5, not written by nanoml convert"), ("size", file_size(self.size)))
        columns = [TableColumn("name", "rest"), "shape", "type", TableColumn("fields", "rest")]
        width = len(columns) if any(each.fields for each in self.datasets) else 3
        rows = []
        for each in self.datasets:
            shape = "empty" if each.shape is None else " x ".join(map(count, each.shape)) or "single"
            fields = ", ".join(f"{name} {dtype}" for name, dtype in each.fields.items())
            rows.append((each.name, shape, each.dtype, fields)[:width])
        page.table("Datasets", columns[:width], rows)
        page.table(
            "Attributes",
            ["name", TableColumn("value", "cut")],
            [(name, " ".join(text.split())) for name, text in self.attributes.items()],
        )


def foreign(file: h5py.File, path: str) -> ForeignInspection:
    """Inspect an open HDF5 file."""
    found = ForeignInspection(path, os.path.getsize(path), [], [])

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            fields = {name: _type_name(item.dtype[name]) for name in item.dtype.names or ()}
            shape = None if item.shape is None else list(item.shape)
            found.datasets.append(Dataset(_text(name), shape, _type_name(item.dtype), fields))

    file.visititems(visit)
    found.attributes = {_text(name): str(file.attrs[name]) for name in file.attrs}
    return found


def _text(name: str | bytes) -> str:
    """A name; h5py gives one that is not in UTF-8 as bytes."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def _type_name(dtype: Any) -> str:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return f"{_type_name(base)}[{', '.join(map(str, shape))}]"
    if h5py.check_string_dtype(dtype) is not None:
        return "string"
    content = h5py.check_vlen_dtype(dtype)
    if content is not None:
        return f"list of {_type_name(content)}"
    if h5py.check_ref_dtype(dtype) is not None:
        return "reference"
    return "compound" if dtype.names else str(dtype)
