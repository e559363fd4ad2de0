"""Training of one boosted model: round by round, as long as the validation loss falls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ML_processing.events.inputs import EventTensors
from ML_processing.events.training_data import TrainingData
from ML_processing.models.boosted import Boosted
from ML_processing.training.description import Epoch, best_epoch, last_improvement
from ML_processing.training.loop import Monitor
from ML_processing.training.losses import error_of_change, event_losses, separation
from MLTools.NanoML.terminal.progress import check_interrupt

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train


def boost(core: Boosted, data: TrainingData, config: Train, monitor: Monitor) -> list[Epoch]:
    """Train `core` in place, and leave it as it was after its best round; returns all rounds, an epoch each.

    The best round is the one with the smallest validation loss. The training ends `config.patience` rounds after the last improvement,
    which with negative weights must be larger than its standard error, or after `config.epochs`. An interrupted training begins
    again: rounds are quick.
    """
    history: list[Epoch] = []
    validation, before = data.validation, torch.empty(0)
    is_signed = bool((validation.weights < 0).any())
    seed = np.random.default_rng([config.seed, monitor.fold]).integers(2**31)
    everything, others = data.batches.together(), (data.sample, validation)
    for of_sample, outputs in core.grow(everything, others, config.learning_rate, int(seed)):
        check_interrupt()
        losses = event_losses(outputs, validation)
        error = error_of_change(losses, before, validation.weights) if is_signed and len(before) else None
        area = significance = None
        if not validation.targets.shape[1]:
            area = separation(outputs, validation, monitor.discriminant)
        if monitor.significance is not None:
            significance = monitor.significance((outputs, validation), (of_sample, data.sample))
        means = _mean(event_losses(of_sample, data.sample), data.sample), _mean(losses, validation)
        entry = Epoch(len(history) + 1, *means, config.learning_rate, area, significance, error)
        history.append(entry)
        last = last_improvement(history)
        if last is entry:
            before = losses
        best = best_epoch(history).epoch
        monitor.report([entry], f"validation {entry.validation_loss:.4f}, best round {best}")
        if len(history) >= min(config.epochs, last.epoch + config.patience):
            break
    core.keep(best_epoch(history).epoch)
    return history


def _mean(losses: Tensor, events: EventTensors) -> float:
    """Weighted mean of the losses of events."""
    weights = events.weights.double()
    return float(torch.dot(weights, losses.double()) / weights.sum())
