"""Trees of LightGBM as the operator for tree ensembles that ONNX Runtime has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

OPERATOR = "ai.onnx.ml::TreeEnsembleRegressor"
"""In version 1 of its set of operators, which every ONNX Runtime has."""

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
        """All attributes, by names with the suffix of their type, as PyTorch's exporter takes them."""
        return {
            "n_targets_i": self.outputs,
            "aggregate_function_s": "SUM",
            "post_transform_s": "NONE",
            **self.nodes,
            **self.leaves,
        }

    def _add(self, tree: int, root: Mapping[str, Any], output: int) -> None:
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
            _append(self.nodes, entry)
            if is_leaf:
                leaf = {
                    "target_treeids_i": tree,
                    "target_nodeids_i": number,
                    "target_ids_i": output,
                    "target_weights_f": float(node["leaf_value"]),
                }
                _append(self.leaves, leaf)


def _append(columns: dict[str, list[Any]], entry: Mapping[str, Any]) -> None:
    for name, value in entry.items():
        columns.setdefault(name, []).append(value)


def _numbered(root: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], int, int]]:
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
