from __future__ import annotations

from typing import Any

import pytest

from ML_processing.verdict import verdict


def content(network: float | None, baseline: float, on_training: float | None) -> dict[str, Any]:
    difference = None if network is None else network - baseline
    auc = {
        "network": network,
        "network_error": 0.005,
        "baseline": baseline,
        "baseline_error": 0.005,
        "difference": difference,
        "difference_error": 0.002,
    }
    return {"auc": auc, "auc_on_training_events": on_training}


@pytest.mark.parametrize(
    ("network", "baseline", "says"),
    [
        (0.90, 0.93, "The network is worse"),
        (0.93, 0.90, "The network is better"),
        (0.931, 0.930, "They agree"),
    ],
)
def test_comparison(network: float, baseline: float, says: str) -> None:
    texts = verdict(content(network, baseline, network))
    assert texts[0].startswith(
        f"AUC of the network {network:.3f} ± 0.005, of boosted decision trees {baseline:.3f} ± 0.005."
    )
    assert says in texts[0]


def test_overtraining() -> None:
    assert "overtraining is small" in verdict(content(0.93, 0.93, 0.94))[1]
    assert (
        "0.060 more than on the others: it has learned some events by heart"
        in verdict(content(0.93, 0.93, 0.99))[1]
    )


def test_not_defined() -> None:
    assert verdict(content(None, 0.9, None)) == [
        "No AUC is defined: the weights of the signal or of the background have no positive sum."
    ]
    assert verdict(content(0.9, 0.9, None))[1] == "No AUC is defined for the events of the training."
