"""Training of one network: the loop over epochs, its losses, and how it continues after an interruption.

Several processes, started as torchrun does, can share the batches, each on its own GPU.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.optim.swa_utils import AveragedModel

from ML_processing.events.inputs import EventTensors, Inputs, Position, Shape
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.models.hooks import Outputs, as_float, first, hook, joined
from ML_processing.training.data import TrainingData
from ML_processing.training.description import Epoch, best_epoch, last_improvement
from ML_processing.training.losses import (
    Loss,
    Objective,
    Rates,
    averaged,
    error_of_change,
    is_classification,
    make_optimizer,
    separation,
)
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.terminal.progress import check_interrupt

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train

T = TypeVar("T")
Report = Callable[[list[Epoch], str], None]
"""Is called with the epochs that are done, and a note on the progress."""
Judged = tuple[Tensor, EventTensors]
"""Logits (N, classes) of events, and these."""

_CHECKPOINT_EVERY = 10.0  # seconds: an interruption costs no more than this
_SHOW_EVERY = 0.5  # seconds
# of schedule: onecycle: the share of the epochs over which the rate rises, and where it begins
_RISE, _LEAST = 0.3, 0.04
_AT_ONCE = {"cpu": 1 << 10, "cuda": 1 << 14}  # events in one forward pass without gradients: what caches hold
_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Monitor:
    """Where the loop reports, and by which numbers."""

    fold: int  # on which the network is tested
    folds: int
    shape: Shape  # what it reads, for messages
    discriminant: BoundDiscriminant  # by which a classification is judged
    checkpoint: Path  # file with the state of the unfinished training
    report: Report
    # of outputs for validation events, given those for training events
    significance: Callable[[Judged, Judged], float | None] | None = None


@dataclass
class _State:
    """All that changes from step to step; saved and restored together. The position seeds all that is random."""

    core: nn.Module
    average: AveragedModel | None
    optimizer: torch.optim.Optimizer
    plateau: torch.optim.lr_scheduler.ReduceLROnPlateau
    scaler: torch.amp.GradScaler
    history: list[Epoch]
    best: dict[str, Tensor]
    position: Position
    # losses of the validation events at the last improvement, (N,), or (0,) before and if no weight is negative
    losses: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def parts(self) -> dict[str, Any]:
        """The parts with a state of their own, by their names in the checkpoint."""
        found = {"network": self.core, "optimizer": self.optimizer, "plateau": self.plateau, "grown": self.scaler}
        return found if self.average is None else {**found, "average": self.average}

    @property
    def judged(self) -> nn.Module:
        """The network that is measured and kept: with the weights themselves, or with their average."""
        return self.core if self.average is None else self.average.module


def fit(
    core: nn.Module,
    data: TrainingData,
    config: Train,
    monitor: Monitor,
    device: torch.device,
    objective: Objective | None = None,
) -> list[Epoch]:
    """Train `core` in place on `device`, and leave it with the weights of its best epoch; returns all epochs.

    The best epoch is the one with the smallest validation loss: that of single events, or the `objective`. The training ends
    `config.patience` epochs after the last improvement, which with negative weights must be larger than its standard error, or after
    `config.epochs`. An interrupted training continues from its checkpoint, if there is one, and ends with the same numbers as an
    uninterrupted one. A NanoMLError says that the loss is not a finite number.
    """
    optimizer = make_optimizer(core, config)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=max(config.patience // 3, 1))
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
    average = None if config.ema is None else averaged(core, config.ema)
    state = _State(core, average, optimizer, plateau, scaler, [], deepcopy(core.state_dict()), Position())
    loop = _Loop(state, _shared(core, device), data, config, monitor, device, objective)
    loop.restore()
    history = state.history
    while not history or len(history) < min(config.epochs, last_improvement(history).epoch + config.patience):
        loop.epoch()
    monitor.report([], ended(history, "epoch"))
    core.load_state_dict(state.best)
    return history


@torch.no_grad()
def outputs_of(core: nn.Module, events: EventTensors, device: torch.device) -> Outputs:
    """The outputs for events, without dropout."""
    core.eval()
    return joined([as_float(core(part.inputs)) for part in events.pieces(_AT_ONCE[device.type])])


def ended(history: Sequence[Epoch], unit: str) -> str:
    """How a training has ended, in words."""
    return f"stopped at {unit} {len(history)}, best {best_epoch(history).epoch}"


@dataclass
class _Loop:
    state: _State
    shared: nn.Module
    data: TrainingData
    config: Train
    monitor: Monitor
    device: torch.device
    objective: Objective | None = None
    saved: float = 0.0
    shown: float = 0.0

    def __post_init__(self) -> None:
        self.parameters = list(self.state.core.parameters())
        core, judged = self.state.core, self.state.judged
        self.loss, self.judging = (
            self.objective or Loss.of(it, self.config.decorrelate, self.monitor.discriminant) for it in (core, judged)
        )
        frozen = self.config.start.frozen if self.config.start else ()
        # in training they stay as in evaluation, without dropout and with the averages that they have
        self.frozen = [it for name, it in core.named_modules() if name in frozen]
        self.rates = Rates(self.state.optimizer)
        self.begin, self.end = hook(core, "begin_epoch"), hook(core, "end_epoch")

    def epoch(self) -> None:
        """Train from the position to the end of its epoch."""
        state, number = self.state, self.state.position.epoch + 1
        if self.begin is not None:
            self.begin(number)
        state.core.train()
        for part in self.frozen:
            part.eval()
        for after, batch in self.data.batches.epoch(state.position):
            self._step(batch)
            state.position = after
            self._between_steps(number)
        entry = _from_first(lambda: self._measure(number))
        if self.config.schedule == "plateau":
            if number - 1 < self.config.warmup <= number:  # the warmup is over: the exact rate from now on
                self.rates.set(1.0)
            elif number > self.config.warmup:
                state.plateau.step(entry.validation_loss)
        state.history.append(entry)
        state.position = Position(number)
        best = best_epoch(state.history).epoch
        if best == number:
            state.best = deepcopy(state.judged.state_dict())
        if self.end is not None:
            self.end(number, entry.metrics)
        self.monitor.report([entry], f"validation {entry.validation_loss:.4f}, best epoch {best}")

    def _step(self, batch: EventTensors) -> None:
        state, config, where = self.state, self.config, self.state.position
        seed = ((where.epoch * 1_000_003 + where.block) * 1_000_003 + where.batch) * 1009 + rank()
        _seed((config.seed * 0x9E3779B97F4A7C15 + self.monitor.fold + seed) % 2**63, self.device)
        self._set_rate()
        mine = batch[rank() :: _world()] if _world() > 1 else batch
        kind = _TYPES[config.precision]
        with nullcontext() if kind == torch.float32 else torch.autocast(self.device.type, dtype=kind):
            outputs = self.shared(mine.inputs)
        # not divided by the sum of weights, which may be zero in a batch
        loss = self.loss.of_batch(as_float(outputs), mine, _world() / len(batch))
        if not math.isfinite(loss.item()):
            raise NanoMLError(self._explain(batch.inputs, f"epoch {where.epoch + 1}, batch {where.batch + 1}"))
        for parameter in self.parameters:  # as optimizer.zero_grad, but faster
            parameter.grad = None
        state.scaler.scale(loss).backward()
        if config.clip is not None:
            state.scaler.unscale_(state.optimizer)
            _clip(self.parameters, config.clip)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        if state.average is not None:
            state.average.update_parameters(state.core)

    def _set_rate(self) -> None:
        """Set the learning rate of this step, if it does not only change between epochs."""
        config, where = self.config, self.state.position
        in_epoch = where.block or where.batch
        if not config.warmup and config.schedule != "onecycle" and (config.schedule != "cosine" or in_epoch):
            return
        done = where.epoch + self._share_of_epoch()
        factor = 1.0
        if config.schedule == "cosine":
            factor = 0.5 * (1 + math.cos(math.pi * where.epoch / config.epochs))
        elif config.schedule == "onecycle":
            part = done / config.epochs
            wave = 1 - part / _RISE if part < _RISE else (part - _RISE) / (1 - _RISE)  # from 1 to 0 and back
            factor = max(0.5 * (1 + math.cos(wave * math.pi)), _LEAST if part < _RISE else 0.0)
        elif config.schedule == "plateau" and done >= config.warmup:
            return
        if done < config.warmup:
            factor *= (done + self.config.batch_size / max(self.data.events, 1)) / config.warmup
        self.rates.set(min(factor, 1.0))

    def _share_of_epoch(self) -> float:
        where, blocks = self.state.position, self.data.batches.blocks
        in_block = self.data.events / blocks / self.config.batch_size  # batches of a block, on average
        return min((where.block + min(where.batch / max(in_block, 1), 1)) / blocks, 1)

    def _between_steps(self, number: int) -> None:
        check_interrupt()
        now = time.monotonic()
        if now - self.shown > _SHOW_EVERY:
            self.shown = now
            self.monitor.report([], f"epoch {number}: {self._share_of_epoch():.0%}")
        if now - self.saved > _CHECKPOINT_EVERY and rank() == 0:
            self.save()

    def _measure(self, number: int) -> Epoch:
        """Losses and AUC after an epoch. The training loss is measured on a sample as large as the validation."""
        sample, significance = self.data.sample, None
        train_loss, of_sample, _ = self._loss(sample)
        validation = self.data.validation
        validation_loss, outputs, losses = self._loss(validation)
        if not math.isfinite(train_loss + validation_loss):
            raise NanoMLError(self._explain(validation.inputs, f"epoch {number}, validation"))
        area = None
        if is_classification(outputs, validation):
            area = separation(first(outputs), validation, self.monitor.discriminant)
        if self.monitor.significance is not None:
            significance = self.monitor.significance((first(outputs), validation), (first(of_sample), sample))
        rate = self.state.optimizer.param_groups[0]["lr"]
        entry = Epoch(number, train_loss, validation_loss, rate, area, significance)
        return self._with_error(entry, losses)

    def _with_error(self, entry: Epoch, losses: Tensor | None) -> Epoch:
        """An epoch with the error of its validation loss, if weights are negative."""
        state, validation = self.state, self.data.validation
        if losses is None or not (validation.weights < 0).any():
            return entry
        if len(state.losses):
            entry = replace(entry, validation_error=error_of_change(losses, state.losses, validation.weights))
        if last_improvement([*state.history, entry]) is entry:
            state.losses = losses
        return entry

    @torch.no_grad()
    def _loss(self, events: EventTensors) -> tuple[float, Outputs, Tensor | None]:
        """Weighted mean loss without dropout, the outputs, and the loss of each event if there is one."""
        outputs = outputs_of(self.state.judged, events, self.device)
        # so many events have a loss together, if it is not that of single events
        mean, losses = self.judging.of_events(outputs, events, max(self.config.batch_size, 256))
        return mean, outputs, losses

    def _explain(self, inputs: Inputs, where: str) -> str:
        """Why a loss is not finite: an input, or steps that were too large."""
        shape = self.monitor.shape
        tensors = [(shape.features, "", inputs.features)]
        tensors += [(it.fields, f"{it.name}_", inputs.objects[it.name].values) for it in shape.collections]
        cause = "the features are finite, so the steps were too large. Use a smaller train.learning_rate."
        if self.loss.own is not None:
            cause = (
                f"the features are finite. Look at {self.loss.own.where} for what is not defined everywhere, such as the "
                "logarithm of 0, or use a smaller train.learning_rate."
            )
        for names, prefix, values in reversed(tensors):
            finite = torch.isfinite(values).flatten(0, -2).all(dim=0).tolist()
            if not all(finite):
                blamed = f"{prefix}{names[finite.index(False)]}"
                cause = f'feature "{blamed}" is not finite after scaling. Check its values, or take it out.'
        fold = f"fold {self.monitor.fold + 1} of {self.monitor.folds}"
        return f"{fold}: the loss is not a finite number at {where}: {cause}"

    def save(self) -> None:
        self.saved = time.monotonic()
        content = {name: part.state_dict() for name, part in self.state.parts.items()}
        content["history"] = [asdict(epoch) for epoch in self.state.history]
        content |= {"best": self.state.best, "position": asdict(self.state.position), "losses": self.state.losses}
        save(content, self.monitor.checkpoint)

    def restore(self) -> None:
        """Continue from the checkpoint, or write the first one: so a full disk is noticed before the first epoch."""
        if not self.monitor.checkpoint.is_file():
            if rank() == 0:
                self.save()
            return
        content = torch.load(self.monitor.checkpoint, map_location="cpu", weights_only=True)
        state = self.state
        for name, part in state.parts.items():
            part.load_state_dict(content[name])
        state.history.extend(Epoch(**entry) for entry in content["history"])
        state.best = content["best"]
        state.losses = content["losses"].to(self.device)
        state.position = Position(**content["position"])
        self.saved = time.monotonic()
        self.monitor.report(state.history, "continuing after an interruption")


def _clip(parameters: Sequence[nn.Parameter], largest: float) -> None:
    """Shorten a gradient that is too long, as `torch.nn.utils.clip_grad_norm_`, which takes a fifth of a small step."""
    gradients = [it.grad for it in parameters if it.grad is not None]
    norm = float(torch.linalg.vector_norm(torch.cat([it.flatten() for it in gradients])))
    if largest < norm < math.inf:
        for gradient in gradients:
            gradient.mul_(largest / norm)


def _seed(number: int, device: torch.device) -> None:
    """Seed all that is random in a step, dropout for instance, by the step: so no state has to be saved."""
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)


def _world() -> int:
    """Number of processes that share each batch."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process among them."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def _shared(module: nn.Module, device: torch.device) -> nn.Module:
    """A module whose gradients are means over all processes; the same module if there is only one."""
    if _world() == 1:
        return module
    devices = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(module, device_ids=devices)


def _from_first(compute: Callable[[], T]) -> T:
    """The result of the first process, in all of them, so that they decide alike."""
    if _world() == 1:
        return compute()
    found = [compute() if rank() == 0 else None]
    distributed.broadcast_object_list(found)
    return found[0]  # type: ignore[return-value]


def save(content: object, path: Path) -> None:
    """Write a file for `torch.load`, completely or not at all; a NanoMLError if the disk is full, for instance."""
    # through memory, because torch's own writer does not distinguish a full disk from a damaged file
    buffer = io.BytesIO()
    torch.save(content, buffer)
    # the view is released here, and Path.write_bytes would keep another: Python cannot collect a buffer that is in use
    with replacing(path) as aside, buffer.getbuffer() as written, open(aside, "wb") as file:
        file.write(written)
