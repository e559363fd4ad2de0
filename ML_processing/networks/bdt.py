"""Boosted decision trees (BDT), by LightGBM, and by ONNX Runtime in an exported model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ML_processing.events.inputs import EventTensors, Inputs, Shape
from ML_processing.models.hooks import Boosted
from ML_processing.models.layers import check_options, extended
from ML_processing.models.network import network
from ML_processing.models.quick_bdt import lightgbm
from MLTools.NanoML.errors import ConfigError, NanoMLError

Floats = NDArray[np.floating]
_Predict = Callable[[Floats], Floats]
_Translate = Callable[[], "TreeEnsemble"]


@network
class BDT(Boosted):
    """Boosted decision trees: each event is one row of numbers, and each round adds a tree for each class or target.

    The objects of collections become part of the row, in their order, up to the largest number of the conversion; what is not there is
    missing, and the trees learn to which side missing values go.

    Parameters
    ----------
    leaves
        Largest number of leaves of a tree.
    min_events
        Smallest number of training events in a leaf.
    event_share
        Share of the training events that a round sees, chosen at random, above 0 to 1.
    feature_share
        Share of the columns that a tree may use, chosen at random, above 0 to 1.
    l2
        Pull of the leaves towards 0: how many events of weight 1 it is worth.

    Raises
    ------
    ConfigError
        There is nothing to read, or an option has no meaning.
    """

    # with negative weights the second derivatives of a leaf may cancel: its step is then anything
    defaults = {"learning_rate": 0.05, "epochs": 1000, "patience": 30, "negative_weights": "reweight"}
    unused = ("descent",)

    text: Tensor  # uint8: the trees, as LightGBM writes them; empty before the training

    def __init__(
        self,
        shape: Shape,
        leaves: int = 31,
        min_events: int = 20,
        event_share: float = 1.0,
        feature_share: float = 1.0,
        l2: float = 1.0,
    ) -> None:
        super().__init__()
        check_options(leaves=leaves, min_events=min_events)
        for name, share in (("event_share", event_share), ("feature_share", feature_share)):
            if not (isinstance(share, (int, float)) and 0 < share <= 1):
                raise ConfigError(f"train.options.{name}: is {share!r}, but must be a number above 0 and at most 1.")
        if not (isinstance(l2, (int, float)) and 0 <= l2 < math.inf):
            raise ConfigError(f"train.options.l2: is {l2!r}, but must be a number of at least 0.")
        if not shape.tensors:
            raise ConfigError("train.features: there is nothing to train on. Name features or `train.objects`.")
        self.shape = shape
        self.register_buffer("text", torch.empty(0, dtype=torch.uint8))
        self._settings = {
            "num_leaves": max(leaves, 2),
            "min_data_in_leaf": min_events,
            "bagging_fraction": event_share,
            "bagging_freq": 1,
            "feature_fraction": feature_share,
            "lambda_l2": l2,
        }

    def forward(self, inputs: Inputs) -> Tensor:
        """Outputs, float32 of shape (N, outputs), of inputs as they are."""
        rows = self._rows(inputs)
        if torch.compiler.is_exporting():  # by the new exporter
            attributes = {name[:-2]: value for name, value in self.trees().attributes.items()}
            shape = (rows.shape[0], self.shape.outputs)
            return torch.onnx.ops.symbolic(OPERATOR, (rows,), attributes, dtype=rows.dtype, shape=shape, version=1)
        return _Sum.apply(rows, self.shape.outputs, self.predict, self.trees)

    def grow(
        self, training: EventTensors, others: Sequence[EventTensors], rate: float, seed: int
    ) -> Iterator[list[Tensor]]:
        """Learn by Newton steps in the loss of networks: cross entropy, or the Huber loss of standardized values."""
        learning = _Learning(self.shape.outputs, training)
        settings = {
            **self._settings,
            "learning_rate": rate,
            "seed": seed,
            "objective": "none",
            "metric": "none",
            "num_class": learning.columns,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
            "feature_pre_filter": False,
        }
        values = self._rows(training.inputs).numpy()
        if not any(len(np.unique(column[~np.isnan(column)])) > 1 for column in values.T):
            raise NanoMLError(
                "no input has two different values in the events of the training: there is nothing to learn."
            )
        rows = lightgbm.Dataset(values, np.zeros(len(training)), params=settings)
        booster = lightgbm.Booster(settings, rows)
        for number, events in enumerate(others):
            values, nothing = self._rows(events.inputs).numpy(), np.zeros(len(events))
            booster.add_valid(rows.create_valid(values, nothing, params=settings), str(number))
        self.booster = booster
        found: list[Floats] = []

        def take(values: Floats, _: lightgbm.Dataset) -> tuple[str, float, bool]:
            found.append(values)
            return "", 0.0, False

        while True:
            booster.update(fobj=learning.derivatives)
            found.clear()
            booster.eval_valid(take)
            yield [torch.from_numpy(_outputs(values, self.shape.outputs)).float() for values in found]

    def keep(self, rounds: int) -> None:
        """Write down the trees of the first rounds."""
        content = self.booster.model_to_string(num_iteration=rounds)
        self.text = torch.frombuffer(bytearray(content.encode()), dtype=torch.uint8)
        del self.booster

    @cached_property
    def booster(self) -> lightgbm.Booster:
        """The trees, for LightGBM."""
        return lightgbm.Booster(model_str=bytes(self.text.tolist()).decode())

    def predict(self, rows: Floats) -> Floats:
        """Outputs (N, outputs) of rows (N, columns) by LightGBM."""
        if not len(self.text) or not len(rows):
            return np.zeros((len(rows), self.shape.outputs))
        return _outputs(np.asarray(self.booster.predict(rows, raw_score=True, num_threads=1)), self.shape.outputs)

    def trees(self) -> TreeEnsemble:
        """The trees, for ONNX."""
        dump: dict[str, Any] = {"tree_info": [], "num_tree_per_iteration": 1}
        if len(self.text):
            dump = self.booster.dump_model()
        return TreeEnsemble.of(dump, self.shape.outputs, self.shape.outputs - dump["num_tree_per_iteration"])

    def _rows(self, inputs: Inputs) -> Tensor:
        """Columns of each event, NaN where a value is missing: features, then the fields of each object."""
        parts = [inputs.features] if self.shape.features else []
        for it in self.shape.collections:
            values, mask, _ = inputs.objects[it.name]
            there = torch.where(mask.unsqueeze(-1), values, math.nan)
            parts.append(extended(there, 1, it.max, math.nan)[:, : it.max].flatten(1))
        rows = torch.cat(parts, dim=1)
        return torch.where(rows.abs() < math.inf, rows, math.nan)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: object) -> None:
        self.text = torch.empty_like(state_dict[f"{prefix}text"])  # it has as many bytes as there are
        self.__dict__.pop("booster", None)
        super()._load_from_state_dict(state_dict, prefix, *others)


class _Sum(torch.autograd.Function):
    """The sum of the trees: computed by LightGBM, and exported as the operator of ONNX."""

    @staticmethod
    def forward(_: object, rows: Tensor, outputs: int, predict: _Predict, trees: _Translate) -> Tensor:
        if torch.onnx.is_in_onnx_export():  # only the shape counts, and the trace knows nothing but PyTorch
            return rows.new_zeros(rows.shape[0], outputs)
        return torch.from_numpy(predict(rows.numpy())).to(rows.dtype)

    @staticmethod
    def symbolic(graph: Any, rows: Any, outputs: int, predict: _Predict, trees: _Translate) -> Any:
        found = graph.op(OPERATOR, rows, **trees().attributes)
        found.setType(rows.type().with_sizes([None, outputs]))
        return found


class _Learning:
    """The loss of training events, and its derivatives with respect to what the trees give."""

    def __init__(self, outputs: int, training: EventTensors) -> None:
        weights = training.weights.double().numpy()
        self._weights = weights[:, None] / np.abs(weights).mean()
        self._estimate = training.estimate
        self._labels, self._targets = training.labels.numpy(), training.targets.double().numpy()
        # for two classes the trees give the difference of the logits
        self.columns = 1 if outputs == 2 and not self._targets.shape[1] else outputs

    def derivatives(self, values: Floats, _: lightgbm.Dataset) -> tuple[Floats, Floats]:
        """First and second derivatives, of the same shape as the values: (N,) or (N, columns)."""
        columns = values.reshape(len(self._weights), self.columns)
        if self._targets.shape[1]:
            slope = self._of_targets(columns - self._targets)
            curvature: Floats = np.ones_like(columns)
        else:
            slope, curvature = self._of_classes(_outputs(columns, max(self.columns, 2)))
        return (self._weights * slope).reshape(values.shape), (self._weights * curvature).reshape(values.shape)

    def _of_targets(self, distance: Floats) -> Floats:
        if isinstance(self._estimate, str):
            return np.clip(distance, -1, 1) if self._estimate == "huber" else distance
        return (distance > 0) - self._estimate

    def _of_classes(self, logits: Floats) -> tuple[Floats, Floats]:
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = shifted / shifted.sum(axis=1, keepdims=True)
        classes = probabilities.shape[1]
        slope = probabilities - np.eye(classes)[self._labels]
        # the classes share what a round changes: with the curvature of each alone its steps would be too long
        curvature = probabilities * (1 - probabilities) * (1.0 if classes == 2 else classes / (classes - 1))
        return slope[:, -self.columns :], curvature[:, -self.columns :]


def _outputs(values: Floats, outputs: int) -> Floats:
    """Outputs (N, outputs) from what the trees give: of two classes the first has the logit 0."""
    columns = values.reshape(len(values), -1)
    missing = outputs - columns.shape[1]
    return np.concatenate([np.zeros((len(columns), missing)), columns], axis=1) if missing else columns


OPERATOR = "ai.onnx.ml::TreeEnsembleRegressor"
"""In version 1 of its set, which every ONNX Runtime has; TreeEnsemble, of version 5, gives the same bits as fast, in a smaller file."""

_ZERO = float(np.float32(1e-35))  # LightGBM takes numbers up to here for 0


@dataclass
class TreeEnsemble:
    """Trees whose leaves are summed, each for one of the outputs, in the form of the operator.

    An event goes to the left if its value is not above the threshold. The operator compares float32 with float32, LightGBM float64
    with float64: with each threshold rounded down to float32, every float32 goes to the same side.
    """

    outputs: int
    nodes: dict[str, list[Any]] = field(default_factory=dict)  # attributes of the operator, an entry for each node
    leaves: dict[str, list[Any]] = field(default_factory=dict)  # and for each leaf

    @classmethod
    def of(cls, dump: Mapping[str, Any], outputs: int, first: int) -> TreeEnsemble:
        """Translate what `lightgbm.Booster.dump_model` returns.

        The trees take turns for the outputs from number `first` on; the others are 0.
        """
        made, each = cls(outputs), dump["num_tree_per_iteration"]
        for number, tree in enumerate(dump["tree_info"]):
            made._add(number, tree["tree_structure"], first + number % each)
        if not dump["tree_info"]:  # the operator takes no empty ensemble
            made._add(0, {"leaf_value": 0.0}, first)
        return made

    @property
    def attributes(self) -> dict[str, Any]:
        """All attributes, by names with the suffix of their type, as PyTorch's older exporter takes them."""
        return {
            "n_targets_i": self.outputs,
            "aggregate_function_s": "SUM",
            "post_transform_s": "NONE",
            **self.nodes,
            **self.leaves,
        }

    def _add(self, tree: int, root: Mapping[str, object], output: int) -> None:
        for number, (node, left, right) in enumerate(_numbered(root)):
            is_leaf = "leaf_value" in node
            entry = {
                "nodes_treeids_i": tree,
                "nodes_nodeids_i": number,
                "nodes_modes_s": "LEAF" if is_leaf else "BRANCH_LEQ",
                "nodes_featureids_i": node.get("split_feature", 0),
                "nodes_values_f": 0.0 if is_leaf else rounded_down(node["threshold"]),
                "nodes_truenodeids_i": left,
                "nodes_falsenodeids_i": right,
                "nodes_missing_value_tracks_true_i": int(not is_leaf and _missing_goes_left(node)),
            }
            for name, value in entry.items():
                self.nodes.setdefault(name, []).append(value)
            if is_leaf:
                leaf = {
                    "target_treeids_i": tree,
                    "target_nodeids_i": number,
                    "target_ids_i": output,
                    "target_weights_f": float(node["leaf_value"]),
                }
                for name, value in leaf.items():
                    self.leaves.setdefault(name, []).append(value)


def _numbered(root: Mapping[str, object]) -> Iterator[tuple[Mapping[str, Any], int, int]]:
    """All nodes from the root on, each with the numbers of its children; 0 for those of a leaf."""
    nodes: list[Mapping[str, Any]] = [root]
    for node in nodes:  # which grows meanwhile
        if "leaf_value" in node:
            yield node, 0, 0
        else:
            yield node, len(nodes), len(nodes) + 1
            nodes += [node["left_child"], node["right_child"]]


def _missing_goes_left(node: Mapping[str, Any]) -> bool:
    """Where a missing value goes; if there was none in the training, LightGBM takes 0 for it."""
    return bool(node["default_left"]) if node["missing_type"] == "NaN" else node["threshold"] >= 0


def rounded_down(threshold: float) -> float:
    """The largest float32 that LightGBM takes to be not above a threshold."""
    with np.errstate(over="ignore"):
        found = np.float32(threshold)
    is_tiny = abs(threshold) <= _ZERO
    if is_tiny:  # such numbers are all on the side of 0
        found = np.float32(_ZERO if threshold >= 0 else -_ZERO)
    is_above = threshold < 0 if is_tiny else float(found) > threshold
    return float(np.nextafter(found, np.float32(-np.inf)) if is_above else found)
