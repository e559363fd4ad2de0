"""Jobs on clusters of Dask, as analysis facilities have them."""

from __future__ import annotations

from MLTools.NanoML.extending import Extension

EXTENSION = Extension(
    "Jobs are tasks of a Dask cluster.",
    fields={"batch": "settings:DaskSettings"},
    kinds={"systems": {"dask": "system:Dask"}},
    titles={"dask": "Dask"},
    extra="dask",
    packages="distributed>=2024.8 dask-jobqueue>=0.9",
)

PAGE = "batch.md"
