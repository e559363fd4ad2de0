"""What is trained and exported: a network behind the scaling of its inputs, and the networks of all folds as one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ML_processing.events.inputs import Inputs, ObjectTensors, Shape
from ML_processing.models.boosted import Boosted
from ML_processing.models.hooks import first, sizes_of_heads
from MLTools.NanoML.model import CLASSES, TARGETS, Discriminant
from MLTools.NanoML.model.discriminant import SMALLEST, coefficients


class Network(nn.Module):
    """A network that reads inputs as they are in the files: their scaling, and a core behind it.

    The core goes from scaled `Inputs` to outputs, float32 (N, shape.outputs), or to those of several heads; `models.hooks.Hooks` says
    what else it may have. Targets have a scale, too: `target_center` and `target_width`, float32 (targets,), which are 0 and 1 for
    a classification without.

    Attributes
    ----------
    has_scale, has_target_scale
        Whether the scales of inputs and of targets are known, and do not follow from the training events.
    others
        The number of outputs of each head, if there are several, without the one by which the network is judged; "targets" comes first.
    """

    target_center: Tensor
    target_width: Tensor

    def __init__(self, shape: Shape, core: nn.Module, is_own: bool = False, is_raw: bool = False) -> None:
        super().__init__()
        self.shape = shape
        limit = Scaler.FARTHEST if is_raw else Scaler.LIMIT
        self.scaling = Unscaled() if isinstance(core, Boosted) else Scaling(shape, limit)
        self.has_scale = self.has_target_scale = is_raw
        self.core = core
        size = shape.targets or shape.outputs
        self.register_buffer("target_center", torch.zeros(size))
        self.register_buffer("target_width", torch.ones(size))
        self.others = self._heads(is_own)

    def _heads(self, is_own: bool) -> dict[str, int]:
        """The heads beside the first; a NanoMLError if a user's core does not give what it should."""
        known = {CLASSES: self.shape.outputs, TARGETS: self.shape.targets or self.shape.outputs}
        sizes = sizes_of_heads(self.core, self.scaling(_example(self.shape)), known, is_own)
        main = CLASSES if CLASSES in sizes else TARGETS
        return {name: sizes[name] for name in sorted(sizes, key=lambda name: name != TARGETS) if name != main}

    def fit(
        self,
        features: NDArray[np.float32],
        objects: Mapping[str, tuple[NDArray[np.float32], NDArray[np.bool_]]],
        targets: NDArray[np.float32] | None = None,
    ) -> None:
        """Take the scales of the inputs (see `Scaling.fit`) and of targets (N, targets) from the training events, if need be."""
        if not self.has_scale:
            self.scaling.fit(features, objects)
        if targets is None or self.has_target_scale:
            return
        for i, column in enumerate(targets.T):
            center, width = center_and_width(column[np.isfinite(column)])
            self.target_center[i] = center
            self.target_width[i] = width

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, or regression outputs on the scale of `standardize`, float32 of shape (N, outputs)."""
        return first(self.core(self.scaling(inputs)))

    def standardize(self, targets: Tensor) -> Tensor:
        """Targets (N, outputs) of a regression, shifted and scaled to a centre of 0 and a width of 1."""
        return (targets - self.target_center) / self.target_width

    def outputs(self, inputs: Inputs) -> Tensor:
        """Logits, or estimates on the scale of the targets, float32 of shape (N, outputs), and behind them those of `others`."""
        found = self.core(self.scaling(inputs))
        if isinstance(found, Tensor):
            return found * self.target_width + self.target_center
        if TARGETS in found:
            found = {**found, TARGETS: found[TARGETS] * self.target_width + self.target_center}
        return torch.cat([first(found), *(found[name] for name in self.others)], dim=1)


def scores_of(outputs: Tensor, classes: int) -> Tensor:
    """Outputs (N, M) of a network with probabilities instead of the logits of its first columns, one for each class."""
    return torch.cat([torch.softmax(outputs[:, :classes], dim=1), outputs[:, classes:]], dim=1)


def _example(shape: Shape) -> Inputs:
    """Two events for trying a network."""
    objects = {
        it.name: (torch.zeros(2, it.max, len(it.fields)), torch.ones(2, it.max).bool()) for it in shape.collections
    }
    return Inputs(torch.zeros(2, len(shape.features)), {name: ObjectTensors(*it) for name, it in objects.items()})


class Ensemble(nn.Module):
    """The networks of all folds as one module on tensors: what is exported.

    The task is "classification" for probabilities, "regression" for values. A classification into `classes` may have
    `discriminants`, which follow from the probabilities.
    """

    above: Tensor  # float32, (outputs, discriminants): how the probabilities enter the numerators
    below: Tensor  # and the denominators

    def __init__(
        self,
        networks: Sequence[Network],
        shape: Shape,
        task: Literal["classification", "regression"],
        discriminants: Sequence[Discriminant] = (),
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.shape = shape
        self.task = task
        self.has_discriminants = bool(discriminants)
        self.has_others = any(each.others for each in networks)
        if discriminants:
            above, below = coefficients(discriminants, classes)
            self.register_buffer("above", torch.from_numpy(above))
            self.register_buffer("below", torch.from_numpy(below))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Class probabilities and discriminants, or estimates, and other heads, from float32 tensors as in `shape.tensors`.

        Returned are those of the mean over the networks, shape (N, outputs + discriminants + others), and those of each network,
        shape (N, networks, ...). The discriminants of the mean follow from the mean probabilities.
        """
        inputs = Inputs.of_tensors(self.shape, tensors)
        parts = [self._outputs(network, inputs) for network in self.networks]
        each = torch.stack(parts, dim=1)
        if not self.has_discriminants:
            return each.mean(dim=1), each
        # joined network by network, so that the part of one network can be cut out of the exported graph
        return self._complete(each.mean(dim=1)), torch.stack([self._complete(part) for part in parts], dim=1)

    def _complete(self, outputs: Tensor) -> Tensor:
        """Probabilities (N, outputs), behind them the discriminants, and then the other heads."""
        probabilities, others = outputs, []
        if self.has_others:
            probabilities, others = outputs[:, : self.shape.outputs], [outputs[:, self.shape.outputs :]]
        discriminants = (probabilities @ self.above) / (probabilities @ self.below).clamp(min=SMALLEST)
        return torch.cat([probabilities, discriminants, *others], dim=1)

    def _outputs(self, network: nn.Module, inputs: Inputs) -> Tensor:
        assert isinstance(network, Network)
        if self.task == "regression":
            return network.outputs(inputs)
        if self.has_others:
            return scores_of(network.outputs(inputs), self.shape.outputs)
        return torch.softmax(network(inputs), dim=1)


_SHARE = 0.01  # of the values must be equal to a sentinel: a single outlier is an outlier
_ISOLATION = 5.0  # widths between a sentinel and the nearest other value
_CONTINUOUS = 100  # different values that the others must have: labels, counts and grids have fewer


class Scaler(nn.Module):
    """Shift and scale every column to a centre of 0 and a width of 1.

    A value that is missing becomes the centre, which is 0 after scaling. Missing are values that are not finite, and
    those that `fit` recognized as a sentinel: a number such as -999 that stands for "no value". Whatever lies beyond
    10 widths is moved to 10 widths, so that no outlier can dominate a network; the limit of a network that reads inputs as they are
    is there only to keep its numbers finite.
    """

    LIMIT, FARTHEST = 10.0, 1e6
    SPAN = 4.0
    center: Tensor  # float32, (columns,), as all
    width: Tensor
    below: Tensor  # the sentinels at the two ends of a column, or infinities: values between them count
    above: Tensor

    def __init__(self, columns: int, limit: float = LIMIT) -> None:
        super().__init__()
        self.limit = limit
        self.register_buffer("center", torch.zeros(columns))
        self.register_buffer("width", torch.ones(columns))
        self.register_buffer("below", torch.full((columns,), -math.inf))
        self.register_buffer("above", torch.full((columns,), math.inf))

    def fit(self, column: int, values: NDArray[np.floating]) -> None:
        """Take the scale of one column from its values, shape (N,), of the training events alone.

        The smallest or the largest value is a sentinel if at least 1 % of the values are exactly it, if no other
        value is nearer to it than 5 widths of the others, and if the others take at least 100 different values. So
        a spike at the edge of a spectrum is not one (it is not isolated), nor is a flag, a charge, a count, an
        identifier or a point of a grid of parameters (they take few values). A default inside or near the spectrum,
        such as -1 of a discriminant between 0 and 1 with a width of 0.4, is kept: it does not harm the scale. There
        may be several sentinels, as in -99 and -999.

        The network cannot see that a value is missing; if that matters, add a count or a flag as a feature.
        """
        finite = values[np.isfinite(values)].astype(np.float64)
        below, above = _sentinels(finite)
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
        return scaled, (values > self.below) & (values < self.above)


class Scaling(nn.Module):
    """Scale the event-level features and the fields of every collection, each column by itself."""

    def __init__(self, shape: Shape, limit: float = Scaler.LIMIT) -> None:
        super().__init__()
        self.shape = shape
        self.features = Scaler(len(shape.features), limit)
        self.objects = nn.ModuleList(Scaler(len(it.fields), limit) for it in shape.collections)
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
        scaled: Tensor = self.features(rows)[0][:, -1]
        return scaled

    @property
    def sentinels(self) -> dict[str, list[float]]:
        """Values that count as missing, by column, as in {"Jet_btag": [-1.0]}; columns without one are left out."""
        names = [list(self.shape.features)] + [
            [f"{it.name}_{field}" for field in it.fields] for it in self.shape.collections
        ]
        found = {}
        for columns, scaler in zip(names, [self.features, *self.objects], strict=True):
            for name, ends in zip(columns, zip(scaler.below.tolist(), scaler.above.tolist(), strict=True), strict=True):
                if values := [end for end in ends if math.isfinite(end)]:
                    found[name] = values
        return found

    def forward(self, inputs: Inputs) -> Inputs:
        """Scaled inputs: padding and missing values are 0, and the objects' `vectors` are filled."""
        scaled, present = self.features(inputs.features)
        features = torch.where(present, scaled, 0.0)
        objects = {}
        for it, scaler, fields in zip(self.shape.collections, self.objects, self._vectors, strict=True):
            values, mask, _ = inputs.objects[it.name]
            scaled, present = scaler(values)
            present = present & mask.unsqueeze(-1)
            vectors = _vectors(torch.where(present, values, 0.0), fields) if fields else None
            objects[it.name] = ObjectTensors(torch.where(present, scaled, 0.0), mask, vectors)
        return Inputs(features, objects)


class Unscaled(nn.Module):
    """In the place of `Scaling`, for a core that reads inputs as they are, with missing values and padding."""

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
        """The inputs."""
        return inputs


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


def _sentinels(values: NDArray[np.float64]) -> tuple[float, float]:
    """The innermost sentinels at the lower and the upper end of finite values; infinities if there are none."""
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
