"""Regions of an analysis: what can be wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from MLTools.NanoML.config.document import Keys, Problem
from MLTools.NanoML.config.schema import suggestion
from MLTools.NanoML.contracts.hdf5 import region_column
from MLTools.NanoML.errors import NanoMLError

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config


def regions(config: Config) -> Iterator[Problem]:
    """Contradictions between regions, and between them and other settings."""
    convert, train = config.convert, config.train
    parameters = {name for dataset in config.datasets.values() for name in dataset.parameters}
    columns = {*(convert.features if convert else ()), *parameters}
    seen: dict[str, str] = {}
    for name, cut in config.regions.items():
        place = ("regions", name)
        yield from expression(place, cut)
        other = seen.setdefault(name.lower(), name)
        if other != name:
            what = f'differs from "{other}" only in upper and lower case, which not every disk tells apart. Rename one'
            yield place, what
        if region_column(name) in columns:
            yield place, f"HDF5 files have a column {region_column(name)} for it, as you call another one. Rename it"
    if train is not None and train.files is None:
        for number, name in enumerate(train.regions):
            if name not in config.regions:
                hint = suggestion(name, config.regions) if config.regions else "There are no `regions`."
                yield ("train", "regions", number), f'"{name}" is not one of `regions`. {hint}'


def expression(keys: Keys, text: str) -> Iterator[Problem]:
    """What is wrong with an expression of columns in itself."""
    from MLTools.NanoML.nanoaod.formula import Formula  # takes awkward, which most configurations do without

    try:
        Formula(text)
    except NanoMLError as problem:
        yield keys, str(problem)
