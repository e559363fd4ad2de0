"""The way back: columns of HDF5 files, as scores of other programs, as branches beside the ROOT files that they came from."""

from __future__ import annotations

from MLTools.NanoML.extending import Extension

EXTENSION = Extension(
    "Columns of an HDF5 file as branches of the ROOT files that it was made from.",
    kinds={"commands": {"attach": "command:attach"}},
    needs=("data_processing",),
)

PAGE = "hdf5.md"
