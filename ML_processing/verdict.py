"""What the numbers of an evaluation say, in plain words."""

from __future__ import annotations

from typing import Any

from ML_processing.metrics import Measured
from ML_processing.plots import number

__all__ = ["verdict"]

_MATTERS = 0.005  # a difference in AUC that a physicist would care about, however small its error
_GAP = 0.01  # the same, for training events against others


def verdict(content: dict[str, Any]) -> list[str]:
    """Sentences on whether the network learned, and whether it learned by heart.

    Parameters
    ----------
    content
        Content of metrics.json.
    """
    found = content["auc"]
    if found["network"] is None:
        return ["No AUC is defined: the weights of the signal or of the background have no positive sum."]
    return [_comparison(found), _overtraining(content["auc_on_training_events"], found)]


def _comparison(found: dict[str, float]) -> str:
    ours, theirs = (number(Measured(found[of], found[f"{of}_error"])) for of in ("network", "baseline"))
    threshold = max(2 * found["difference_error"], _MATTERS)
    if found["difference"] < -threshold:
        text = (
            "The network is worse: it has not learned all there is to learn. Look at the loss below; try another "
            "train.learning_rate, a smaller train.batch_size or more train.epochs."
        )
    elif found["difference"] > threshold:
        text = "The network is better."
    else:
        text = "They agree: the network has learned what trees can learn from these features."
    return f"AUC of the network {ours}, of boosted decision trees {theirs}. {text}"


def _overtraining(on_training: float | None, found: dict[str, float]) -> str:
    if on_training is None:
        return "No AUC is defined for the events of the training."
    gap = on_training - found["network"]
    if gap > max(3 * found["network_error"], _GAP):
        text = (
            f"{gap:.3f} more than on the others: it has learned some events by heart. More events would help, or a "
            "larger train.dropout, or smaller train.hidden. The numbers here remain right: they are of other events."
        )
    else:
        text = "close to that on the others: overtraining is small, if there is any."
    return f"On the events that it was trained on the network's AUC is {on_training:.3f}, {text}"
