"""The statistical model as a workspace of pyhf: HistFactory in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statistical_analysis.model import FitChannel, StatisticalModel
from statistical_analysis.samples import Sample
from statistical_analysis.shapes import Shape

STRENGTH = "mu"
"""The strength of the signal."""
OURS = "nanoml"
"""The measurement of a workspace that NanoML made."""
MOST = 10.0
"""The largest normalisation that a fit may give a process, and at least the highest strength of the signal."""
_Modifier = dict[str, Any]


def workspace(model: StatisticalModel) -> dict[str, Any]:
    """Make a workspace, in the format of pyhf 0.7 (its schema 1.0.0), and check it.

    - `mu` is the strength of the signal, from zero to MOST: `with_range` widens this when its results are known.
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
            {"name": channel.name, "samples": [_sample(channel, sample) for sample in channel.samples]}
            for channel in model.channels
        ],
        "observations": [
            {"name": channel.name, "data": channel.data[channel.fitted].tolist()} for channel in model.channels
        ],
        "measurements": [{"name": OURS, "config": {"poi": STRENGTH, "parameters": _parameters(model)}}],
    }
    pyhf.schema.validate(made, "workspace.json")
    return made


def with_range(made: Mapping[str, Any], highest: float) -> dict[str, Any]:
    """A workspace in which other programs find signal strengths up to at least twice the highest that matters."""
    (measurement,) = made["measurements"]
    strength, *others = measurement["config"]["parameters"]
    wider = {**strength, "bounds": [[0.0, max(MOST, 2 * highest)]]}
    config = {**measurement["config"], "parameters": [wider, *others]}
    return {**made, "measurements": [{**measurement, "config": config}]}


def _parameters(model: StatisticalModel) -> list[dict[str, Any]]:
    free = [{"name": name, "inits": [1.0], "bounds": [[0.0, MOST]]} for name in model.free]
    return [{"name": STRENGTH, "inits": [1.0], "bounds": [[0.0, MOST]]}, *free]


def _sample(channel: FitChannel, sample: Sample) -> dict[str, Any]:
    """A process in the bins that are fitted."""
    nominal, errors = sample.nominal[channel.fitted], sample.errors[channel.fitted]
    own = {"name": f"mcstat_{channel.name}", "type": "staterror", "data": errors.tolist()}
    modifiers: list[_Modifier] = [{"name": STRENGTH, "type": "normfactor", "data": None} if sample.is_signal else own]
    if sample.free is not None:
        modifiers.append({"name": sample.free, "type": "normfactor", "data": None})
    for name, factor in sample.factors.items():
        modifiers.append(_normsys(name, factor.up, factor.down))
    for name, shape in sample.shapes.items():
        modifiers.extend(_split(name, nominal, Shape(shape.up[channel.fitted], shape.down[channel.fitted])))
    return {"name": sample.process, "data": nominal.tolist(), "modifiers": modifiers}


def _normsys(name: str, up: float, down: float) -> _Modifier:
    return {"name": name, "type": "normsys", "data": {"hi": up, "lo": down}}


def _split(name: str, nominal: NDArray[np.float64], shape: Shape) -> list[_Modifier]:
    """The change of the yield, and that of the shape at the same yield."""
    up, down = (float(each.sum() / nominal.sum()) for each in (shape.up, shape.down))
    same_yield = {"hi_data": (shape.up / up).tolist(), "lo_data": (shape.down / down).tolist()}
    return [_normsys(name, up, down), {"name": name, "type": "histosys", "data": same_yield}]
