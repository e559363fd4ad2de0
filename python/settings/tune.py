"""The section `tune`: the search for good settings of the training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

__all__ = ["METRICS", "PRUNERS", "SAMPLERS", "TUNABLE", "Axis", "Tune"]


TUNABLE = (
    "batch_size", "learning_rate", "schedule", "warmup", "weight_decay", "clip", "epochs", "patience", "precision",
)  # fmt: skip
"""Settings of `train` that `tune.space` can name, beside options.NAME."""


METRICS = ("validation_loss", "validation_auc")
"""What `tune.metric` can name."""


SAMPLERS = ("tpe", "random")
"""What `tune.sampler` can name."""


PRUNERS = ("median", "hyperband", "none")
"""What `tune.pruner` can name."""


@dataclass(frozen=True)
class Axis:
    """What a setting may be in the search: a range, or one of some choices."""

    low: Optional[float] = field(default=None, metadata={"doc": "Lower end of a range.", "examples": [1e-4]})
    high: Optional[float] = field(default=None, metadata={"doc": "Upper end of a range.", "examples": [1e-2]})
    log: bool = field(
        default=False,
        metadata={"doc": "True to search the logarithm: as many trials from 1 to 10 as from 10 to 100."},
    )
    step: Optional[float] = field(
        default=None, metadata={"doc": "Distance between values of a range.", "exclusiveMinimum": 0}
    )
    choices: Any = field(
        default=None,
        metadata={"doc": "A list of values, instead of a range.", "examples": [[64, 128, 256]]},
    )


@dataclass(frozen=True)
class Tune:
    """The search for good settings of the training."""

    trials: int = field(default=50, metadata={"doc": "How many settings are tried.", "minimum": 1})
    metric: str = field(
        default=METRICS[0],
        metadata={"doc": "What is to be as small (the loss) or large (the AUC) as can be.", "enum": METRICS},
    )
    space: dict[str, Axis] = field(
        default_factory=dict,
        metadata={
            "doc": "What is varied: a setting of `train`, or options.NAME, and what it may be. "
            "By default the learning rate, the weight decay, the batch size and the size of the network.",
            "examples": [{"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}],
        },
    )
    sampler: str = field(
        default=SAMPLERS[0],
        metadata={
            "doc": "How settings are chosen: tpe learns from the trials before, random does not.",
            "enum": SAMPLERS,
        },
    )
    pruner: str = field(
        default=PRUNERS[0],
        metadata={
            "doc": "Which trials are ended early: median those that are worse than half of the others at the same "
            "epoch, hyperband all but the best of growing groups, none none.",
            "enum": PRUNERS,
        },
    )
    seed: int = field(
        default=1, metadata={"doc": "Seed of the choice of settings.", "minimum": 0, "maximum": 2**32 - 1}
    )
    tracking: bool = field(
        default=False, metadata={"doc": "True to record each trial, too, where `train.tracking` says."}
    )
