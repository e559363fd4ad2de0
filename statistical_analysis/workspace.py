"""The statistical model as a workspace of pyhf: HistFactory in JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statistical_analysis.model import FitChannel, StatisticalModel
from statistical_analysis.samples import Sample
from statistical_analysis.shapes import Shape

STRENGTH = "mu"
"""The strength of the signal."""
MOST = 10.0
"""The largest normalisation that a fit may give a process."""
NEXT_TO_NOTHING = 1e-12
"""Events of the first background in a bin without any: the likelihood has no derivatives where nothing at all is expected."""
_Modifier = dict[str, Any]


def workspace(model: StatisticalModel) -> dict[str, Any]:
    """Make a workspace, in the format of pyhf 0.7 (its schema 1.0.0), and check it.

    - `mu` is the strength of the signal.
    - A log-normal uncertainty is a `normsys` with its factors.
    - A shape is split into the change of the yield, a `normsys`, and the rest, a `histosys`, under one name, as Combine splits it. At
      +1 and -1 sigma their product is the shape.
    - Statistical errors are a `staterror` for each channel: a parameter for each bin, with a Gaussian constraint by the errors of all
      backgrounds together (Barlow-Beeston light). The signal has none: the error would not follow its strength, and with the
      relative error of both the background would be known too well where there is much signal. Combine gives each process its own
      where `model.EFFECTIVE_EVENTS` effective background events are expected or fewer; the model has a remark on each of these bins.
    - A free normalisation is a `normfactor`.

    Raises
    ------
    pyhf.exceptions.InvalidSpecification
        It does not agree with the schema, which is a mistake of this module.
    """
    import pyhf  # takes a second

    made = {
        "version": "1.0.0",
        "channels": [
            {"name": channel.name, "samples": [_sample(channel, sample) for sample in _with_something(channel)]}
            for channel in model.channels
        ],
        "observations": [{"name": channel.name, "data": channel.data.tolist()} for channel in model.channels],
        "measurements": [{"name": "nanoml", "config": {"poi": STRENGTH, "parameters": _parameters(model)}}],
    }
    pyhf.schema.validate(made, "workspace.json")
    return made


def _with_something(channel: FitChannel) -> list[Sample]:
    """The processes, the first background with next to nothing in bins without any background."""
    found = list(channel.samples)
    first = next(number for number, each in enumerate(found) if not each.is_signal)
    floor = np.where(channel.expected(0) == 0, NEXT_TO_NOTHING, 0.0)
    shapes = {name: Shape(each.up + floor, each.down + floor) for name, each in found[first].shapes.items()}
    found[first] = replace(found[first], nominal=found[first].nominal + floor, shapes=shapes)
    return found


def _parameters(model: StatisticalModel) -> list[dict[str, Any]]:
    free = [{"name": name, "inits": [1.0], "bounds": [[0.0, MOST]]} for name in model.free]
    return [{"name": STRENGTH, "inits": [1.0], "bounds": [[0.0, _highest_strength(model)]]}, *free]


def _highest_strength(model: StatisticalModel) -> float:
    """Twenty times the statistical error of the strength, roughly, so that no limit is beyond it; at least MOST."""
    precision = 0.0
    for channel in model.channels:
        background = channel.expected(0)
        precision += float(np.sum((channel.expected(1) - background) ** 2 / (background + 1)))
    return max(MOST, 20 / precision**0.5) if precision else MOST


def _sample(channel: FitChannel, sample: Sample) -> dict[str, Any]:
    errors = {"name": f"mcstat_{channel.name}", "type": "staterror", "data": sample.errors.tolist()}
    modifiers: list[_Modifier] = [
        {"name": STRENGTH, "type": "normfactor", "data": None} if sample.is_signal else errors
    ]
    if sample.free is not None:
        modifiers.append({"name": sample.free, "type": "normfactor", "data": None})
    for name, factor in sample.factors.items():
        modifiers.append(_normsys(name, factor.up, factor.down))
    for name, shape in sample.shapes.items():
        modifiers.extend(_split(name, sample.nominal, shape))
    return {"name": sample.process, "data": sample.nominal.tolist(), "modifiers": modifiers}


def _normsys(name: str, up: float, down: float) -> _Modifier:
    return {"name": name, "type": "normsys", "data": {"hi": up, "lo": down}}


def _split(name: str, nominal: NDArray[np.float64], shape: Shape) -> list[_Modifier]:
    """The change of the yield, and that of the shape at the same yield."""
    up, down = (float(each.sum() / nominal.sum()) for each in (shape.up, shape.down))
    same_yield = {"hi_data": (shape.up / up).tolist(), "lo_data": (shape.down / down).tolist()}
    return [_normsys(name, up, down), {"name": name, "type": "histosys", "data": same_yield}]
