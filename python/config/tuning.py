"""The section `tune`: the search for good settings of a training; and what can be wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from MLTools.NanoML.config.schema import complaints, json_schema, setting, suggestion
from MLTools.NanoML.config.training import Train

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config
    from MLTools.NanoML.config.document import Problem

METRICS = ("validation_loss", "validation_auc", "validation_significance")
_SAMPLERS = ("tpe", "random")
_PRUNERS = ("median", "hyperband", "none")
# settings of `train` that `tune.space` can name, beside options.NAME
_TUNABLE = (
    "batch_size", "learning_rate", "schedule", "warmup", "weight_decay", "clip", "epochs", "patience", "precision",
    "ema", "decorrelate", "sampler", "features",
)  # fmt: skip


@dataclass(frozen=True)
class Axis:
    """What a setting may be in the search: a value in a range, or one of several choices."""

    low: Optional[float] = setting(None, "Lower end of a range.", examples=[1e-4])
    high: Optional[float] = setting(None, "Upper end of a range.", examples=[1e-2])
    log: bool = setting(False, "True to search the logarithm: as many trials between 1 and 10 as between 10 and 100.")
    step: Optional[float] = setting(None, "Distance between values of a range.", exclusiveMinimum=0)
    choices: Any = setting(None, "A list of values, instead of a range.", examples=[[64, 128, 256]])


@dataclass(frozen=True)
class Tune:
    """The search for good settings of the training."""

    trials: int = setting(50, "How many settings are tried.", minimum=1)
    metric: str = setting(
        METRICS[0],
        "What is minimised (the loss) or maximised (the AUC, or the expected significance of a fit to the discriminant in bins).",
        enum=METRICS,
    )
    space: dict[str, Axis] = setting(
        dict,
        "What is varied: settings of `train`, or options.NAME, and their values. "
        "By default the learning rate, the weight decay, the batch size and the size of the network.",
        examples=[{"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}],
    )
    sampler: str = setting(
        _SAMPLERS[0], "How settings are chosen: tpe learns from earlier trials, random does not.", enum=_SAMPLERS
    )
    pruner: str = setting(
        _PRUNERS[0],
        "Which trials are ended early: median ends those that are worse than half of the others at the same "
        "epoch, hyperband all but the best of growing groups, none ends none.",
        enum=_PRUNERS,
    )
    seed: int = setting(1, "Seed of the choice of settings.", minimum=0, maximum=2**32 - 1)
    tracking: bool = setting(False, "True to also record each trial where `train.tracking` says.")


def searches(config: Config) -> Iterator[Problem]:
    """What is wrong with the section `tune`."""
    tune, train = config.tune, config.train
    if tune is None:
        return
    if train is None:
        yield ("tune",), 'there is no training whose settings could be searched. Add a "train" section'
    elif config.is_regression and tune.metric != METRICS[0]:
        yield ("tune", "metric"), "a regression has no AUC, and no significance. Use validation_loss"
    elif train.parameter and tune.metric == "validation_significance":
        yield ("tune", "metric"), "only one of the signals of a parametrised network can exist. Use validation_auc"
    for name, axis in tune.space.items():
        place = ("tune", "space", name)
        is_option = name.startswith("options.")
        if name not in _TUNABLE and not is_option:
            yield place, f"is not a setting that can be searched. {suggestion(name, [*_TUNABLE, 'options.NAME'])}"
            continue
        problems = list(_range(axis) if axis.choices is None else _choices(axis))
        yield from ((place, problem) for problem in problems)
        if problems or is_option:
            continue
        given = [("low", axis.low), ("high", axis.high)]
        if axis.choices is not None:
            given = [("choices", choice) for choice in axis.choices]
        for key, value in given:  # values that `train` would not accept
            yield from (((*place, key), problem) for _, problem in complaints({name: value}, json_schema(Train)))


def _range(axis: Axis) -> Iterator[str]:
    low, high = axis.low, axis.high
    if low is None or high is None:
        yield 'takes "low" and "high", as in "{low: 0.0001, high: 0.01, log: true}", or "choices"'
        return
    if low >= high:
        yield f"low, {low:g}, is not below high, {high:g}"
    elif axis.step is not None and axis.step > high - low:
        yield f"step, {axis.step:g}, is larger than the range"
    if axis.log and low <= 0:
        yield f"low, {low:g}, has no logarithm. Give one above 0, or remove log"
    if axis.log and axis.step is not None:
        yield "takes log or step, not both"


def _choices(axis: Axis) -> Iterator[str]:
    if axis.low is not None or axis.high is not None or axis.step is not None or axis.log:
        yield "takes a range (low and high) or choices, not both"
    if not isinstance(axis.choices, list) or not axis.choices:
        yield 'choices: expected a list of values, as in "choices: [64, 128]"'
        return
    for position, choice in enumerate(axis.choices):
        if choice in axis.choices[:position]:
            yield f"choices: {choice} is listed twice"
