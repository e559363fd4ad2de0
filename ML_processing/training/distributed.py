"""Several processes that share the batches of one network, each on its own GPU: started by torchrun."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import distributed, nn

__all__ = ["from_first", "rank", "share", "world"]

T = TypeVar("T")


def world() -> int:
    """How many processes share each batch."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process among them."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def share(module: nn.Module, device: torch.device) -> nn.Module:
    """A module whose gradients are the means over all processes; itself where there is one process."""
    if world() == 1:
        return module
    devices = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(module, device_ids=devices)


def from_first(compute: Callable[[], T]) -> T:
    """What the first process computes, in all of them: they must not decide differently."""
    if world() == 1:
        return compute()
    found = [compute() if rank() == 0 else None]
    distributed.broadcast_object_list(found)
    return found[0]  # type: ignore[return-value]
