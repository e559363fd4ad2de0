"""Histograms of an analysis as objects of the package hist, for all tools that know the Unified Histogram Interface (UHI)."""

from __future__ import annotations

import os
from typing import Any, Union

import numpy as np

from MLTools.NanoML.contracts.templates import DATA, KEY, Templates
from MLTools.NanoML.errors import NanoMLError, listed
from MLTools.NanoML.schema.plain import DAMAGE, build, parsed

__all__ = ["histogram"]


def histogram(path: Union[str, os.PathLike[str]], name: str, channel: str) -> Any:
    """A `hist.Hist` of histograms.root with all processes and variations: its axes are `process`, `variation`, and its own.

    Contents have variances. A process that a variation does not change has its nominal events there; blind data are NaN.

    Examples
    --------
    >>> mass = histogram("examples/wz/histograms/histograms.root", "ZCand_mass", "SR_2018")
    >>> up = mass[{"process": "background", "variation": "jesUp"}]
    """
    import hist
    import uproot

    try:
        with uproot.open(path) as file:
            described = build(Templates, parsed(str(file[KEY]))).histogram(name)
            known = [it.name for it in described.channels]
            if channel not in known:
                raise NanoMLError(f'{path}: "{channel}" is not a channel of {name}. Known: {listed(known)}.')
            found = {key.partition(";")[0]: it for key, it in file[f"{name}/{channel}"].items()}
    except DAMAGE:
        raise NanoMLError(f"{path}: is not a histograms.root of `nanoml histogram`, or is damaged.") from None
    processes = [it for it in found if it in (*described.origins, DATA) or not it.endswith(("Up", "Down"))]
    # that of the longest name, which may begin with that of another
    of = {
        it: max((each for each in processes if it.startswith(f"{each}_")), key=len)
        for it in found.keys() - {*processes}
    }
    variations = ["nominal", *sorted({it[len(process) + 1 :] for it, process in of.items()})]
    categories = [hist.axis.StrCategory(processes, name="process"), hist.axis.StrCategory(variations, name="variation")]
    axes = [hist.axis.Variable(it.edges, name=it.quantity, label=it.title or it.quantity) for it in described.axes]
    made = hist.Hist(*categories, *axes, storage=hist.storage.Weight(), name=name, label="Events")
    events: Any = made.view(flow=True)
    for row, process in enumerate(processes):
        for column, variation in enumerate(variations):
            template = found.get(f"{process}_{variation}", found[process])
            events[row, column] = np.stack([template.values(flow=True), template.variances(flow=True)], axis=-1)
    return made
