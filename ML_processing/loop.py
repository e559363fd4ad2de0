"""Training of one network: the loop over epochs, and how it goes on after an interruption."""

from __future__ import annotations

import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ML_processing.metrics import auc
from ML_processing.models import Network
from ML_processing.storage import save
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.progress import Bar

if TYPE_CHECKING:
    from MLTools.NanoML.config import Train

__all__ = ["Events", "Monitor", "fit", "probabilities"]

_CHECKPOINT_EVERY = 10.0  # seconds: an interruption costs no more than this
_CLIP = 1.0  # largest norm of a gradient: one odd event cannot throw the network far
_AT_ONCE = 1 << 16  # events in one forward pass without gradients


@dataclass(frozen=True)
class Events:
    """Events as tensors: features float32 (N, F), labels int64 (N,), weights of the training float32 (N,)."""

    features: Tensor
    labels: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Tensor | slice) -> Events:
        return Events(self.features[rows], self.labels[rows], self.weights[rows])


@dataclass(frozen=True)
class Monitor:
    """What the loop is told beside the events: names for its messages, the signal, and where it keeps its state."""

    fold: int
    features: Sequence[str]
    signal: int
    checkpoint: Path
    bar: Bar


@dataclass
class _State:
    """All that changes from epoch to epoch; saved and restored as one."""

    network: Network
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.ReduceLROnPlateau
    history: list[dict[str, Any]]
    best: dict[str, Tensor]


def fit(
    network: Network, training: Events, validation: Events, config: Train, monitor: Monitor
) -> list[dict[str, Any]]:
    """Train `network` in place, and leave it with the weights of its best epoch.

    The best epoch is that of the smallest validation loss; the training ends `config.patience` epochs after
    it, or after `config.epochs`. An interrupted training goes on from its checkpoint, if there is one, and ends
    with the same numbers as one that was left in peace.

    Returns
    -------
    One entry per epoch: epoch (from 1), train_loss and validation_loss (both without dropout), learning_rate,
    validation_auc (None if it is not defined).

    Raises
    ------
    NanoMLError
        The loss is not a finite number, or the weights of the validation have no positive sum.
    """
    _check_weights(validation, monitor)
    state = _start(network, config)
    _restore(state, monitor)
    sample = training[
        torch.randperm(len(training), generator=torch.Generator().manual_seed(0))[: len(validation)]
    ]
    saved = time.monotonic()
    for epoch in range(len(state.history) + 1, config.epochs + 1):
        if _best_epoch(state.history) + config.patience < epoch:
            break
        _train_epoch(state, training, config, epoch, monitor)
        entry = _measure(state, sample, validation, monitor, epoch)
        state.schedule.step(entry["validation_loss"])
        state.history.append(entry)
        if _best_epoch(state.history) == epoch:
            state.best = deepcopy(network.state_dict())
        monitor.bar.advance(
            1, f"validation loss {entry['validation_loss']:.4f}, best epoch {_best_epoch(state.history)}"
        )
        if time.monotonic() - saved > _CHECKPOINT_EVERY:
            _save(state, monitor)
            saved = time.monotonic()
    network.load_state_dict(state.best)
    return state.history


@torch.no_grad()
def probabilities(network: Network, features: Tensor) -> Tensor:
    """Class probabilities on the CPU, float32 of shape (N, classes), of features of shape (N, F)."""
    network.eval()
    parts = [torch.softmax(network(part), dim=1).cpu() for part in features.split(_AT_ONCE)]
    return torch.cat(parts)


def _check_weights(validation: Events, monitor: Monitor) -> None:
    total = float(validation.weights.sum())
    if total <= 0:
        raise NanoMLError(
            f"training of network {monitor.fold}: the weights of the {len(validation)} events that decide when to stop "
            f"sum to {total:.3g}, so their loss has no meaning. Use more events, or fewer folds."
        )


def _start(network: Network, config: Train) -> _State:
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=max(config.patience // 3, 1)
    )
    return _State(network, optimizer, schedule, [], deepcopy(network.state_dict()))


def _best_epoch(history: list[dict[str, Any]]) -> int:
    """The epoch of the smallest validation loss; 0 before the first."""
    return min(history, key=lambda entry: entry["validation_loss"])["epoch"] if history else 0


def _train_epoch(state: _State, training: Events, config: Train, epoch: int, monitor: Monitor) -> None:
    state.network.train()
    batches = torch.randperm(len(training)).to(training.labels.device).split(config.batch_size)
    for number, rows in enumerate(batches, 1):
        batch = training[rows]
        losses = cross_entropy(state.network(batch.features), batch.labels, reduction="none")
        loss = (
            batch.weights * losses
        ).mean()  # not divided by the sum of weights, which may vanish in a batch
        if not torch.isfinite(loss):
            raise NanoMLError(_explain(state.network, batch, f"epoch {epoch}, batch {number}", monitor))
        state.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(state.network.parameters(), _CLIP)
        state.optimizer.step()


def _measure(
    state: _State, sample: Events, validation: Events, monitor: Monitor, epoch: int
) -> dict[str, Any]:
    """Losses and AUC after an epoch. The training loss is measured on `sample`, as large as the validation."""
    train_loss, _ = _loss(state.network, sample)
    validation_loss, logits = _loss(state.network, validation)
    if not torch.isfinite(torch.tensor([train_loss, validation_loss])).all():
        raise NanoMLError(_explain(state.network, validation, f"epoch {epoch}, validation", monitor))
    signal = validation.labels == monitor.signal
    score = torch.softmax(logits, dim=1)[:, monitor.signal]
    return {
        "epoch": epoch,
        "train_loss": train_loss,
        "validation_loss": validation_loss,
        "learning_rate": state.optimizer.param_groups[0]["lr"],
        "validation_auc": auc(score.cpu(), signal.cpu(), validation.weights.cpu()).value,
    }


@torch.no_grad()
def _loss(network: Network, events: Events) -> tuple[float, Tensor]:
    """Weighted mean loss without dropout, and the logits."""
    network.eval()
    logits = torch.cat([network(part) for part in events.features.split(_AT_ONCE)])
    losses = cross_entropy(logits, events.labels, reduction="none").double()
    return float((events.weights * losses).sum() / events.weights.sum(dtype=torch.float64)), logits


@torch.no_grad()
def _explain(network: Network, events: Events, where: str, monitor: Monitor) -> str:
    """What to say of a loss that is not finite: whether the inputs, the weights or the steps are to blame."""
    scaled = network.scaler(events.features)
    for i, name in enumerate(monitor.features):
        if not torch.isfinite(scaled[:, i]).all():
            cause = f'feature "{name}" is not finite after scaling. Check its values, or take it out.'
            break
    else:
        cause = "the features are finite, so the steps were too large. Use a smaller train.learning_rate."
    return f"training of network {monitor.fold}: the loss is not a finite number at {where}: {cause}"


def _save(state: _State, monitor: Monitor) -> None:
    content = {
        "network": state.network.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "schedule": state.schedule.state_dict(),
        "history": state.history,
        "best": state.best,
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    save(content, monitor.checkpoint)


def _restore(state: _State, monitor: Monitor) -> None:
    if not monitor.checkpoint.is_file():
        return
    content = torch.load(monitor.checkpoint, map_location="cpu", weights_only=True)
    state.network.load_state_dict(content["network"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.schedule.load_state_dict(content["schedule"])
    state.history.extend(content["history"])
    state.best = content["best"]
    torch.set_rng_state(content["random"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(content["random_cuda"])
    monitor.bar.advance(len(state.history), "going on after an interruption")
