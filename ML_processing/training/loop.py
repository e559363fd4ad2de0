"""Training of one network: the loop over epochs, and how it goes on after an interruption."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ML_processing.events.batches import Batches, Events, Position
from ML_processing.events.inputs import Inputs, Shape
from ML_processing.metrics.roc import auc
from ML_processing.training import distributed
from ML_processing.training.losses import event_losses, penalty
from ML_processing.training.storage import save
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.terminal import interrupt

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train

__all__ = ["Course", "Monitor", "at_best", "fit"]

_CHECKPOINT_EVERY = 10.0  # seconds: an interruption costs no more than this
_SHOW_EVERY = 0.5  # seconds
_AT_ONCE = {"cpu": 1 << 10, "cuda": 1 << 14}  # events in one forward pass without gradients: what caches hold
_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Course:
    """What a network learns from.

    Attributes
    ----------
    batches
        The training events.
    events
        How many there are.
    sample
        Some of them, on which the training loss is measured.
    validation
        The events that decide when to stop.
    """

    batches: Batches
    events: int
    sample: Events
    validation: Events


@dataclass(frozen=True)
class Monitor:
    """What the loop is told beside the events.

    Attributes
    ----------
    fold
        Number of the network, for messages.
    shape
        What the network reads, for messages.
    signal
        Index of the signal.
    checkpoint
        File of the state of a training that is under way.
    report
        Is called with the entries of epochs that are done, and a note on where it is.
    """

    fold: int
    shape: Shape
    signal: int
    checkpoint: Path
    report: Callable[[list[dict[str, Any]], str], None]


@dataclass
class _State:
    """All that changes from step to step; saved and restored as one. What is random follows from the position."""

    core: nn.Module
    optimizer: torch.optim.Optimizer
    plateau: torch.optim.lr_scheduler.ReduceLROnPlateau
    grown: torch.amp.GradScaler
    history: list[dict[str, Any]]
    best: dict[str, Tensor]
    position: Position


def fit(
    core: nn.Module, course: Course, config: Train, monitor: Monitor, device: torch.device
) -> list[dict[str, Any]]:
    """Train `core` in place, and leave it with the weights of its best epoch.

    The best epoch is that of the smallest validation loss; the training ends `config.patience` epochs after
    it, or after `config.epochs`. An interrupted training goes on from its checkpoint, if there is one, and ends
    with the same numbers as one that was left in peace.

    Parameters
    ----------
    core
        The network behind its scaling, on `device`.
    course
        The events, scaled.
    config
        The section `train` of the configuration.
    monitor
        Names, files, and who is told.
    device
        Where to compute.

    Returns
    -------
    One entry per epoch: epoch (from 1), train_loss and validation_loss (both without dropout), learning_rate,
    validation_auc (None if it is not defined).

    Raises
    ------
    NanoMLError
        The loss is not a finite number.
    """
    loop = _Loop(
        _start(core, config, device), distributed.share(core, device), course, config, monitor, device
    )
    loop.restore()
    while loop.goes_on():
        loop.epoch()
    core.load_state_dict(loop.state.best)
    return loop.state.history


def _start(core: nn.Module, config: Train, device: torch.device) -> _State:
    fused = all(parameter.is_floating_point() for parameter in core.parameters())
    optimizer = torch.optim.AdamW(
        core.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused
    )
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=max(config.patience // 3, 1)
    )
    grown = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
    return _State(core, optimizer, plateau, grown, [], deepcopy(core.state_dict()), Position())


@dataclass
class _Loop:
    state: _State
    shared: nn.Module
    course: Course
    config: Train
    monitor: Monitor
    device: torch.device
    saved: float = 0.0
    shown: float = 0.0

    def __post_init__(self) -> None:
        self.parameters = list(self.state.core.parameters())

    def goes_on(self) -> bool:
        done = len(self.state.history)
        return done < min(self.config.epochs, _best_epoch(self.state.history) + self.config.patience)

    def epoch(self) -> None:
        """From the position to the end of its epoch."""
        state, number = self.state, self.state.position.epoch + 1
        state.core.train()
        for after, batch in self.course.batches.epoch(state.position):
            self._step(batch)
            state.position = after
            self._between_steps(number)
        entry = distributed.from_first(lambda: self._measure(number))
        if self.config.schedule == "plateau":
            if number - 1 < self.config.warmup <= number:  # the warmup is over, to the last bit
                state.optimizer.param_groups[0]["lr"] = self.config.learning_rate
            elif number > self.config.warmup:
                state.plateau.step(entry["validation_loss"])
        state.history.append(entry)
        state.position = Position(number)
        best = _best_epoch(state.history)
        if best == number:
            state.best = deepcopy(state.core.state_dict())
        self.monitor.report([entry], f"validation loss {entry['validation_loss']:.4f}, best epoch {best}")

    def _step(self, batch: Events) -> None:
        state, config, where = self.state, self.config, self.state.position
        seed = ((where.epoch * 1_000_003 + where.block) * 1_000_003 + where.batch) * 1009 + distributed.rank()
        _seed((config.seed * 0x9E3779B97F4A7C15 + self.monitor.fold + seed) % 2**63, self.device)
        self._set_rate()
        mine = batch[distributed.rank() :: distributed.world()] if distributed.world() > 1 else batch
        with self._precision():
            outputs = self.shared(mine.inputs)
        outputs = outputs.float()
        # not divided by the sum of weights, which may vanish in a batch
        loss = torch.dot(mine.weights, event_losses(outputs, mine)) * (distributed.world() / len(batch))
        if config.decorrelate is not None:
            loss = loss + config.decorrelate.strength * penalty(outputs, mine, self.monitor.signal)
        if not math.isfinite(loss.item()):
            raise NanoMLError(self._explain(batch, f"epoch {where.epoch + 1}, batch {where.batch + 1}"))
        for parameter in self.parameters:  # as optimizer.zero_grad, in no time
            parameter.grad = None
        state.grown.scale(loss).backward()
        if config.clip is not None:
            state.grown.unscale_(state.optimizer)
            _clip(self.parameters, config.clip)
        state.grown.step(state.optimizer)
        state.grown.update()

    @contextmanager
    def _precision(self) -> Iterator[None]:
        kind = _TYPES[self.config.precision]
        if kind == torch.float32:
            yield
            return
        with torch.autocast(self.device.type, dtype=kind):
            yield

    def _set_rate(self) -> None:
        """The learning rate at this step, where it does not only change between epochs."""
        config, where = self.config, self.state.position
        if config.warmup == 0 and (config.schedule != "cosine" or where.block or where.batch):
            return
        done = where.epoch + self._share_of_epoch()
        rate = config.learning_rate
        if config.schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * where.epoch / config.epochs))
        elif config.schedule == "plateau" and done >= config.warmup:
            return
        if done < config.warmup:
            rate *= (done + self.config.batch_size / max(self.course.events, 1)) / config.warmup
        self.state.optimizer.param_groups[0]["lr"] = min(rate, config.learning_rate)

    def _share_of_epoch(self) -> float:
        where, blocks = self.state.position, self.course.batches.blocks
        in_block = self.course.events / blocks / self.config.batch_size  # batches of a block, on average
        return min((where.block + min(where.batch / max(in_block, 1), 1)) / blocks, 1)

    def _between_steps(self, number: int) -> None:
        interrupt.check()
        now = time.monotonic()
        if now - self.shown > _SHOW_EVERY:
            self.shown = now
            self.monitor.report([], f"epoch {number}: {self._share_of_epoch():.0%}")
        if now - self.saved > _CHECKPOINT_EVERY and distributed.rank() == 0:
            self.save()

    def _measure(self, number: int) -> dict[str, Any]:
        """Losses and AUC after an epoch. The training loss is measured on a sample as large as the validation."""
        train_loss, _ = self._loss(self.course.sample)
        validation = self.course.validation
        validation_loss, outputs = self._loss(validation)
        if not math.isfinite(train_loss + validation_loss):
            raise NanoMLError(self._explain(validation, f"epoch {number}, validation"))
        entry = {
            "epoch": number,
            "train_loss": train_loss,
            "validation_loss": validation_loss,
            "learning_rate": self.state.optimizer.param_groups[0]["lr"],
        }
        if validation.targets.shape[1]:
            return {**entry, "validation_auc": None}
        signal = validation.labels == self.monitor.signal
        score = torch.softmax(outputs, dim=1)[:, self.monitor.signal]
        area = auc(score.cpu(), signal.cpu(), validation.weights.cpu()).value
        return {**entry, "validation_auc": area}

    @torch.no_grad()
    def _loss(self, events: Events) -> tuple[float, Tensor]:
        """Weighted mean loss without dropout, and the outputs."""
        self.state.core.eval()
        size = _AT_ONCE[self.device.type]
        parts = [events[start : start + size] for start in range(0, max(len(events), 1), size)]
        found = [self.state.core(part.inputs).float() for part in parts]
        losses = torch.cat([event_losses(out, part).double() for out, part in zip(found, parts, strict=True)])
        loss = float((events.weights * losses).sum() / events.weights.sum(dtype=torch.float64))
        if self.config.decorrelate is not None:
            loss += self.config.decorrelate.strength * self._penalty(events, torch.cat(found))
        return loss, torch.cat(found)

    def _penalty(self, events: Events, outputs: Tensor) -> float:
        """Mean over pieces of a batch's size, since the memory grows with the square of it."""
        size = max(self.config.batch_size, 256)
        terms = [
            float(penalty(outputs[start : start + size], events[start : start + size], self.monitor.signal))
            for start in range(0, len(events), size)
        ]
        return sum(terms) / max(len(terms), 1)

    def _explain(self, events: Events, where: str) -> str:
        """What to say of a loss that is not finite: whether the inputs, the weights or the steps are to blame."""
        blamed = _blamed(self.monitor.shape, events.inputs)
        cause = (
            f'feature "{blamed}" is not finite after scaling. Check its values, or take it out.'
            if blamed
            else "the features are finite, so the steps were too large. Use a smaller train.learning_rate."
        )
        return f"training of network {self.monitor.fold}: the loss is not a finite number at {where}: {cause}"

    def save(self) -> None:
        self.saved = time.monotonic()
        state = self.state
        content = {
            "network": state.core.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "plateau": state.plateau.state_dict(),
            "grown": state.grown.state_dict(),
            "history": state.history,
            "best": state.best,
            "position": asdict(state.position),
        }
        save(content, self.monitor.checkpoint)

    def restore(self) -> None:
        """Go on from the checkpoint, or write the first: a disk that is full is known before the first epoch."""
        if not self.monitor.checkpoint.is_file():
            if distributed.rank() == 0:
                self.save()
            return
        content = torch.load(self.monitor.checkpoint, map_location="cpu", weights_only=True)
        state = self.state
        state.core.load_state_dict(content["network"])
        state.optimizer.load_state_dict(content["optimizer"])
        state.plateau.load_state_dict(content["plateau"])
        state.grown.load_state_dict(content["grown"])
        state.history.extend(content["history"])
        state.best = content["best"]
        state.position = Position(**content["position"])
        self.saved = time.monotonic()
        self.monitor.report(state.history, "going on after an interruption")


def at_best(history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The entry of the epoch whose weights are kept: that of the smallest validation loss."""
    return min(history, key=lambda entry: entry["validation_loss"])


def _best_epoch(history: list[dict[str, Any]]) -> int:
    """The number of that epoch; 0 before the first."""
    return int(at_best(history)["epoch"]) if history else 0


def _blamed(shape: Shape, inputs: Inputs) -> str | None:
    """The first input that is not finite, by its full name."""
    tensors = [(shape.features, "", inputs.features)]
    tensors += [(it.fields, f"{it.name}_", inputs.objects[it.name].values) for it in shape.collections]
    for names, prefix, values in tensors:
        finite = torch.isfinite(values).flatten(0, -2).all(dim=0).tolist()
        for name, good in zip(names, finite, strict=True):
            if not good:
                return f"{prefix}{name}"
    return None


def _clip(parameters: Sequence[nn.Parameter], largest: float) -> None:
    """Shorten a gradient that is too long. As `torch.nn.utils.clip_grad_norm_`, which takes a fifth of a small step."""
    gradients = [it.grad for it in parameters if it.grad is not None]
    norm = float(torch.linalg.vector_norm(torch.cat([it.flatten() for it in gradients])))
    if largest < norm < math.inf:
        for gradient in gradients:
            gradient.mul_(largest / norm)


def _seed(number: int, device: torch.device) -> None:
    """Seed what is random in a step, dropout for instance, by the step: so it need not be remembered."""
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)
