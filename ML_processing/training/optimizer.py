"""The optimizer of a network, and the average of its weights over the steps."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ML_processing.models.hooks import Hook, hook, own_code
from MLTools.NanoML.errors import NanoMLError, listed

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train

_MOST = 8  # names in a message


def make_optimizer(core: nn.Module, config: Train) -> Optimizer:
    """AdamW on all parameters, or what the class of the network says of groups and optimizer.

    A NanoMLError says that a parameter that is to be learnt would be left out, or the optimizer cannot be used.
    """
    if not any(parameter.requires_grad for parameter in core.parameters()):
        raise NanoMLError("train.init.frozen: nothing is left to train: all parameters of the network are frozen.")
    groups, own = _groups(core), hook(core, "optimizer")
    if own is None:
        fused = all(parameter.is_floating_point() for parameter in core.parameters())
        with own_code(core, "parameter_groups"):
            return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused)
    optimizer = own(groups, config.learning_rate)
    if not isinstance(optimizer, Optimizer):
        raise own.error(f"returns a {type(optimizer).__name__}, but must return an optimizer of PyTorch.")
    if inspect.signature(optimizer.step).parameters["closure"].default is inspect.Parameter.empty:
        raise own.error(
            f"returns {type(optimizer).__name__}, which computes the loss several times in a step: take another."
        )
    _check_all(core, optimizer.param_groups, own)
    return optimizer


def _groups(core: nn.Module) -> list[dict[str, Any]]:
    """The groups of parameters; all that is to be learnt is in one."""
    own = hook(core, "parameter_groups")
    if own is None:
        return [{"params": list(core.parameters())}]
    groups = own()
    if not isinstance(groups, list) or not all(isinstance(it, dict) and "params" in it for it in groups):
        raise own.error('must return a list of dicts, each with "params".')
    with own_code(core, "parameter_groups"):
        groups = [
            {**it, "params": [it["params"]] if isinstance(it["params"], Tensor) else list(it["params"])}
            for it in groups
        ]
    _check_all(core, groups, own)
    return groups


def _check_all(core: nn.Module, groups: Sequence[Mapping[str, Any]], own: Hook) -> None:
    there = {id(it) for group in groups for it in group["params"]}
    lacking = [name for name, it in core.named_parameters() if it.requires_grad and id(it) not in there]
    if lacking:
        raise own.error(
            f"leaves out parameters that would never be learnt: {listed(lacking, _MOST)}. Put them into a group, or freeze "
            "them by requires_grad_(False)."
        )


class Rates:
    """The learning rates of all groups of an optimizer, which rise and fall together."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer  # which gets new groups when its state is restored
        self._full = [group["lr"] for group in optimizer.param_groups]

    def set(self, factor: float) -> None:
        """Give each group this part of its full rate."""
        for group, full in zip(self._optimizer.param_groups, self._full, strict=True):
            group["lr"] = full * factor


def averaged(core: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of the weights of a network.

    At the beginning, when a long average would remember the random weights, it is shorter: after n steps over about n / 9.
    """

    def average(sums: Sequence[Tensor], weights: Sequence[Tensor], steps: Tensor | int) -> None:
        share = min(decay, (1 + int(steps)) / (10 + int(steps)))
        get_ema_multi_avg_fn(share)(sums, weights, steps)  # type: ignore[no-untyped-call]

    return AveragedModel(core, multi_avg_fn=average)  # type: ignore[no-untyped-call]
