"""Expected events in bins, and how well a fit measures the strengths of signals in them; for arrays of NumPy and tensors of PyTorch.

The data of such a fit are what is expected with a signal of strength one (Asimov data), so the likelihood is largest where all parameters
have their values before the fit. There its second derivatives follow from the first derivatives of the expected events alone:

    I_jk = sum over bins of d_j d_k / (n + v) + 1 for a nuisance parameter with itself.

n are the expected events, d_j their derivatives by parameter j, and v the variance of the simulated background. The parameters of the
statistical errors (Barlow-Beeston light, with a Gaussian constraint) are at their best for all values of the others: that is the v.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional

STRENGTH = "mu"
"""The strength of the signal, if there is one alone."""
# of the polynomial that interpolates a factor between -1 and 1 sigma (code 4 of HistFactory): its slope at 0 has 1, ln and ln^2 of it
_SLOPE = (15 / 16, -7 / 16, 1 / 16)


@dataclass(frozen=True)
class Sides:
    """A number, or expected events (..., bins), at +1 and at -1 sigma of a nuisance parameter."""

    up: Any
    down: Any


@dataclass(frozen=True)
class Counts:
    """The expected events of a process in the bins of a channel, and what changes them.

    Attributes
    ----------
    strength
        The strength of the signal that it is; None for a background.
    nominal, variances
        Events, and the squares of their statistical errors, which do not count for the signal; of shape (bins,).
    shapes, factors
        Events under variations, and log-normal uncertainties of the yield (numbers `up` and `down`), by nuisance parameter.
    free
        The parameter by which the fit normalises the process, if it does.
    """

    strength: Optional[str]
    nominal: Any
    variances: Any
    shapes: Mapping[str, Sides]
    factors: Mapping[str, Any]
    free: Optional[str]


LEAST_LEFT = 0.01
"""The share of each bin of a process that is taken in a variation that leaves less than nothing."""


def positive(values: Any) -> tuple[Any, float]:
    """Contents with negative bins set to zero and the others scaled to the same positive sum, and by how much."""
    found = (values + abs(values)) / 2
    scale = values.sum() / found.sum() if (values < 0).any() else 1.0
    return scale * found, scale


def split(nominal: Any, up: Any, down: Any) -> tuple[Any, Any, Any, Any]:
    """A variation (..., bins) as Combine splits it: the factors of the yield up and down, (..., 1), and the shapes at the same yield."""
    more, less = (each.sum(-1)[..., None] / nominal.sum() for each in (up, down))
    return more, less, up / more, down / less


def _factor_slope(up: Any, down: Any, log: Callable[[Any], Any]) -> Any:
    """The derivative of a factor by its nuisance parameter, at 0."""
    return sum(part * (up * log(up) ** power - down * log(down) ** power) for power, part in enumerate(_SLOPE))


def _slopes(sample: Counts, xp: Any) -> tuple[list[str], Any]:
    """The derivatives of the events of a process by its parameters, (parameters, bins), and the names of these."""
    nominal = sample.nominal
    names = [it for it in (sample.strength, sample.free) if it is not None]
    rows = [
        *(nominal for _ in names),
        *(nominal * _factor_slope(it.up, it.down, math.log) for it in sample.factors.values()),
    ]
    parts = [xp.stack(rows)] if rows else []
    if sample.shapes:
        up, down = (xp.stack([getattr(it, side) for it in sample.shapes.values()]) for side in ("up", "down"))
        more, less, higher, lower = split(nominal, up, down)
        parts.append(nominal * _factor_slope(more, less, xp.log) + (higher - lower) / 2)
    return [*names, *sample.factors, *sample.shapes], xp.concatenate(parts) if parts else None


def information(channels: Iterable[Sequence[Counts]], xp: Any) -> tuple[list[str], Any]:
    """Names of the parameters, strengths of signals first, and their Fisher information: half the second derivatives of -2 ln L.

    It is that of all parameters but those of statistical errors, of shape (parameters, parameters); its inverse is their covariance.

    Parameters
    ----------
    channels
        The processes of each channel. A bin in which nothing is expected does not count.
    xp
        The module of the arrays: numpy or torch.
    """
    every = [[(sample, *_slopes(sample, xp)) for sample in samples] for samples in channels]
    found = [it for samples in every for it in samples]
    strengths = [sample.strength for sample, *_ in found if sample.strength is not None] or [STRENGTH]
    names = list(dict.fromkeys([*strengths, *(name for _, mine, _ in found for name in mine)]))
    free = {*strengths, *(sample.free for sample, *_ in found)}
    unit = xp.eye(len(names), dtype=found[0][0].nominal.dtype)
    total = unit * xp.asarray([0.0 if name in free else 1.0 for name in names], dtype=unit.dtype)
    for samples in every:
        spread: Any = 0.0
        slopes: Any = 0.0
        for sample, mine, rows in samples:
            spread = spread + sample.nominal + (sample.variances if sample.strength is None else 0.0)
            if rows is not None:
                slopes = slopes + unit[[names.index(name) for name in mine]].T @ rows
        if samples:
            known = xp.where(spread > 0, spread, xp.ones_like(spread))
            total = total + (slopes * (spread > 0) / known) @ slopes.T
    return names, total


def strength_error(channels: Iterable[Sequence[Counts]], xp: Any) -> Any:
    """The expected uncertainty of the signal strength; of several the geometric mean, each with the others free. All are one."""
    channels = [*channels]
    count = len({it.strength for samples in channels for it in samples} - {None}) or 1
    return xp.diagonal(xp.linalg.inv(information(channels, xp)[1]))[:count].prod() ** (0.5 / count)
