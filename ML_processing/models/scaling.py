"""How inputs are scaled: shifted to a centre of 0 and a width of 1, with missing values in the centre and an indicator of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ML_processing.events.inputs import Inputs, ObjectTensors, Shape

_SHARE = 0.01  # of the values must be equal to a sentinel: a single outlier is an outlier
_ISOLATION = 5.0  # widths between a sentinel and the nearest other value
_CONTINUOUS = 100  # different values that the others must have: labels, counts and grids have fewer
_SPIKE = 20  # times as frequent as a usual value is a value that is asked about


def center_and_width(values: NDArray[np.floating]) -> tuple[float, float]:
    """Centre and width of finite values, shape (N,): the median, and half of the central 68 % interval.

    For a Gaussian these are mean and standard deviation, but they are insensitive to outliers. If the width is 0 (most
    values are the same), it is the standard deviation, and 1 for a constant; no values have the centre 0 and the width 1.
    """
    if not values.size:
        return 0.0, 1.0
    low, middle, high = np.quantile(values.astype(np.float64), (0.16, 0.5, 0.84))
    tiny = np.finfo(np.float32).tiny  # a smaller width would be 0 where subnormal numbers are
    widths = ((high - low) / 2, values.std(dtype=np.float64))
    return float(middle), next((float(width) for width in widths if width >= tiny), 1.0)


def sentinels(values: NDArray[np.float64]) -> tuple[float, float]:
    """The innermost sentinels at the lower and the upper end of finite values; infinities if there are none.

    The smallest or the largest value is a sentinel if at least 1 % of the values are exactly it, if no other
    value is nearer to it than 5 widths of the others, and if the others take at least 100 different values. So
    a spike at the edge of a spectrum is not one (it is not isolated), nor is a flag, a charge, a count, an
    identifier or a point of a grid of parameters (they take few values). There may be several, as in -99 and -999.
    """
    below, above = -math.inf, math.inf
    while values.size:
        edges = [edge for edge in (values.min(), values.max()) if (values == edge).mean() >= _SHARE]
        rest = values[~np.isin(values, edges)] if edges else values[:0]
        if not rest.size:
            break
        apart = _ISOLATION * center_and_width(rest)[1]
        low = [edge for edge in edges if rest.min() - edge > apart]
        high = [edge for edge in edges if edge - rest.max() > apart]
        if not (low or high) or len(np.unique(rest)) < _CONTINUOUS:
            break
        below, above = max([below, *low]), min([above, *high])
        values = values[(values > below) & (values < above)]
    return below, above


def spikes(values: NDArray[np.floating]) -> list[float]:
    """Values among finite ones that may stand for "no value", and only the user knows: at most three, the most frequent first.

    At least 1 % of the values are exactly it, it is 20 times as frequent as half of all values are, and the others take at least 100
    different values.
    """
    found, counts = np.unique(values, return_counts=True)
    if len(found) <= _CONTINUOUS:
        return []
    usual = np.median(np.repeat(counts, np.minimum(counts, _SPIKE)))
    least = max(_SHARE * len(values), _SPIKE * usual)
    order = np.argsort(-counts, kind="stable")[:3]
    return [float(found[i]) for i in order if counts[i] >= least]


class Scaler(nn.Module):
    """Shift and scale every column to a centre of 0 and a width of 1.

    A value that is missing becomes the centre, which is 0 after scaling. Missing are values that are not finite, those that are
    `named`, and, in a column without any, those that `fit` recognized as a sentinel: a number such as -999 that stands for
    "no value". Whatever lies beyond
    10 widths is moved to 10 widths, so that no outlier can dominate a network; the limit of a network that reads inputs as they are
    is there only to keep its numbers finite.
    """

    LIMIT, FARTHEST = 10.0, 1e6
    SPAN = 4.0
    center: Tensor  # float32, (columns,), as all
    width: Tensor
    below: Tensor  # the sentinels at the two ends of a column, or infinities: values between them count
    above: Tensor
    named: Tensor  # float32, (values, columns): NaN where there are fewer

    def __init__(self, columns: int, limit: float = LIMIT, named: Mapping[int, Sequence[float]] | None = None) -> None:
        super().__init__()
        self.limit = limit
        self.has_named = {} if named is None else named
        rows = [*itertools.zip_longest(*(self.has_named.get(i, ()) for i in range(columns)), fillvalue=math.nan)]
        self.most_named = len(rows)
        self.register_buffer("named", torch.tensor(rows).reshape(len(rows), columns), persistent=False)
        self.register_buffer("center", torch.zeros(columns))
        self.register_buffer("width", torch.ones(columns))
        self.register_buffer("below", torch.full((columns,), -math.inf))
        self.register_buffer("above", torch.full((columns,), math.inf))

    def fit(self, column: int, values: NDArray[np.floating]) -> None:
        """Take the scale of one column from its values, shape (N,), of the training events alone.

        Those that are named are not finite here. `sentinels` has the rules for others. A default inside or near the spectrum, such as -1 of
        a discriminant between 0 and 1 with a width of 0.4, is kept unless it is named: it does not harm the scale.
        """
        finite = values[np.isfinite(values)].astype(np.float64)
        below, above = (-math.inf, math.inf) if column in self.has_named else sentinels(finite)
        center, width = center_and_width(finite[(finite > below) & (finite < above)])
        for buffer, value in ((self.center, center), (self.width, width), (self.below, below), (self.above, above)):
            buffer[column] = value

    def fit_parameter(self, column: int, values: Sequence[float]) -> None:
        """Take the scale of a parameter from its different values: they go from -4 to 4, however many events each has.

        A feature scatters around its centre, but a parameter is exact, and a small step of it means another signal. With the
        scale of a feature, networks took so long to tell neighbouring values apart that they gave one answer for all.
        """
        low, high = min(values), max(values)
        self.center[column] = (low + high) / 2
        self.width[column] = (high - low) / (2 * self.SPAN) or 1.0
        self.below[column], self.above[column] = -math.inf, math.inf

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Scale values (..., columns).

        Returned are the scaled values, arbitrary for a missing one, and a bool of the same shape: False for a missing value.
        """
        scaled = torch.clamp((values - self.center) / self.width, -self.limit, self.limit)
        present = (values > self.below) & (values < self.above)
        for row in range(self.most_named):
            present = present & (values != self.named[row])
        return scaled, present


class Scaling(nn.Module):
    """Scale the event-level features and the fields of every collection, each column by itself.

    Behind them come the indicators: for each column of `shape.missing` 1 where its value is missing, and else 0.
    """

    def __init__(self, shape: Shape, limit: float = Scaler.LIMIT) -> None:
        super().__init__()
        self.shape = shape
        self.features = Scaler(len(shape.features), limit, shape.named_in(shape.features))
        self.objects = nn.ModuleList(
            Scaler(len(it.fields), limit, shape.named_in(it.columns)) for it in shape.collections
        )
        self._missing = [
            shape.missing_in(names) for names in (shape.features, *(it.columns for it in shape.collections))
        ]
        self._vectors = [_vector_fields(it.fields) for it in shape.collections]

    def fit(
        self, features: NDArray[np.float32], objects: Mapping[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]
    ) -> None:
        """Take the scales from the training events; `Scaler.fit` has the rules.

        `features` are float32 (N, features), not finite if missing. `objects` are by collection the values (N, max, fields) and
        the mask (N, max); only objects count, not padding.
        """
        for column in range(len(self.shape.features)):
            self.features.fit(column, features[:, column])
        for it, scaler in zip(self.shape.collections, self.objects, strict=True):
            assert isinstance(scaler, Scaler)
            values, mask = objects[it.name]
            for column in range(len(it.fields)):
                scaler.fit(column, values[:, :, column][mask])

    def fit_parameter(self, values: Sequence[float]) -> None:
        """Take the scale of the parameter, the last feature, as `Scaler.fit_parameter` does."""
        self.features.fit_parameter(len(self.shape.features) - 1, values)

    def of_parameter(self, values: Sequence[float]) -> Tensor:
        """Values of the parameter as the network sees them, float32 of shape (values,)."""
        rows = torch.zeros(len(values), len(self.shape.features))
        rows[:, -1] = torch.tensor(values)
        return self.features(rows)[0][:, -1]

    @property
    def sentinels(self) -> dict[str, list[float]]:
        """Values that count as missing, by column, as in {"Jet_btag": [-1.0]}; columns without one are left out."""
        names = [self.shape.features, *(it.columns for it in self.shape.collections)]
        found = {}
        for columns, scaler in zip(names, [self.features, *self.objects], strict=True):
            for name, ends in zip(columns, zip(scaler.below.tolist(), scaler.above.tolist(), strict=True), strict=True):
                if values := [end for end in ends if math.isfinite(end)]:
                    found[name] = values
        return found

    def forward(self, inputs: Inputs) -> Inputs:
        """Scaled inputs: padding and missing values are 0, indicators follow, and the objects' `vectors` are filled."""
        scaled, present = self.features(inputs.features)
        features = _with_indicators(torch.where(present, scaled, 0.0), ~present, self._missing[0])
        objects = {}
        of_collections = zip(self.shape.collections, self.objects, self._vectors, self._missing[1:], strict=True)
        for it, scaler, fields, missing in of_collections:
            values, mask, _ = inputs.objects[it.name]
            scaled, present = scaler(values)
            there = mask.unsqueeze(-1)
            absent, present = ~present & there, present & there
            vectors = _vectors(torch.where(present, values, 0.0), fields) if fields else None
            scaled = _with_indicators(torch.where(present, scaled, 0.0), absent, missing)
            objects[it.name] = ObjectTensors(scaled, mask, vectors)
        return Inputs(features, objects)


class Unscaled(nn.Module):
    """In the place of `Scaling`, for a core that reads inputs as they are, with padding; what is missing is not finite."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.named = shape.named_in(shape.features)
        self.named_of = {it.name: shape.named_in(it.columns) for it in shape.collections}

    def fit(
        self, features: NDArray[np.float32], objects: Mapping[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]
    ) -> None:
        """Take nothing from the training events."""

    def fit_parameter(self, values: Sequence[float]) -> None:
        """Take nothing from the values of the parameter."""

    def of_parameter(self, values: Sequence[float]) -> Tensor:
        """Values of the parameter, float32 of shape (values,)."""
        return torch.tensor(values, dtype=torch.float32)

    def forward(self, inputs: Inputs) -> Inputs:
        """The inputs, with NaN for values that are named."""
        objects = {
            name: it._replace(values=_without(it.values, self.named_of[name])) for name, it in inputs.objects.items()
        }
        return Inputs(_without(inputs.features, self.named), objects)


def _with_indicators(scaled: Tensor, missing: Tensor, columns: list[int]) -> Tensor:
    """Scaled values (..., columns), and behind them whether those of some columns are missing."""
    return torch.cat([scaled, missing.to(scaled.dtype)[..., columns]], dim=-1) if columns else scaled


def _without(values: Tensor, named: Mapping[int, Sequence[float]]) -> Tensor:
    """Values (..., columns), with NaN for those that are named, by the number of their column."""
    for column, each in named.items():
        for value in each:
            is_column = torch.arange(values.shape[-1]) == column
            values = torch.where((values == value) & is_column, math.nan, values)
    return values


def _vector_fields(fields: tuple[str, ...]) -> list[int]:
    """Indices of pt, eta, phi and mass; mass may be absent, and without one of the others there are none."""
    if not {"pt", "eta", "phi"} <= set(fields):
        return []
    return [fields.index(name) for name in ("pt", "eta", "phi", "mass") if name in fields]


def _vectors(values: Tensor, fields: list[int]) -> Tensor:
    parts = [values[..., field : field + 1] for field in fields]
    if len(parts) == 3:
        parts.append(torch.zeros_like(parts[0]))
    return torch.cat(parts, dim=-1)
