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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import cross_entropy, smooth_l1_loss

from ML_processing.events.inputs import EventTensors, Inputs, Position, Shape
from ML_processing.events.training_data import TrainingData
from ML_processing.metrics.roc import auc
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.training.description import Epoch, best_epoch
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
_AT_ONCE = {"cpu": 1 << 10, "cuda": 1 << 14}  # events in one forward pass without gradients: what caches hold
_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Monitor:
    """What the loop reports, and where."""

    fold: int  # number of the network, for messages
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
    optimizer: torch.optim.Optimizer
    plateau: torch.optim.lr_scheduler.ReduceLROnPlateau
    scaler: torch.amp.GradScaler
    history: list[Epoch]
    best: dict[str, Tensor]
    position: Position

    @property
    def parts(self) -> dict[str, Any]:
        """Those with a state of their own, by their names in the checkpoint."""
        return {"network": self.core, "optimizer": self.optimizer, "plateau": self.plateau, "grown": self.scaler}


def fit(core: nn.Module, data: TrainingData, config: Train, monitor: Monitor, device: torch.device) -> list[Epoch]:
    """Train `core` in place on `device`, and leave it with the weights of its best epoch; returns all epochs.

    The best epoch is the one with the smallest validation loss; the training ends `config.patience` epochs after it, or
    after `config.epochs`. An interrupted training continues from its checkpoint, if there is one, and ends with the
    same numbers as an uninterrupted one. A NanoMLError says that the loss is not a finite number.
    """
    fused = all(parameter.is_floating_point() for parameter in core.parameters())
    optimizer = torch.optim.AdamW(
        core.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused
    )
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=max(config.patience // 3, 1))
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
    state = _State(core, optimizer, plateau, scaler, [], deepcopy(core.state_dict()), Position())
    loop = _Loop(state, _shared(core, device), data, config, monitor, device)
    loop.restore()
    while len(state.history) < min(config.epochs, _best_epoch(state.history) + config.patience):
        loop.epoch()
    core.load_state_dict(state.best)
    return state.history


@dataclass
class _Loop:
    state: _State
    shared: nn.Module
    data: TrainingData
    config: Train
    monitor: Monitor
    device: torch.device
    saved: float = 0.0
    shown: float = 0.0

    def __post_init__(self) -> None:
        self.parameters = list(self.state.core.parameters())

    def epoch(self) -> None:
        """Train from the position to the end of its epoch."""
        state, number = self.state, self.state.position.epoch + 1
        state.core.train()
        for after, batch in self.data.batches.epoch(state.position):
            self._step(batch)
            state.position = after
            self._between_steps(number)
        entry = _from_first(lambda: self._measure(number))
        if self.config.schedule == "plateau":
            if number - 1 < self.config.warmup <= number:  # the warmup is over: the exact rate from now on
                state.optimizer.param_groups[0]["lr"] = self.config.learning_rate
            elif number > self.config.warmup:
                state.plateau.step(entry.validation_loss)
        state.history.append(entry)
        state.position = Position(number)
        best = _best_epoch(state.history)
        if best == number:
            state.best = deepcopy(state.core.state_dict())
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
        outputs = outputs.float()
        # not divided by the sum of weights, which may be zero in a batch
        loss = torch.dot(mine.weights, event_losses(outputs, mine)) * (_world() / len(batch))
        if config.decorrelate is not None:
            loss = loss + config.decorrelate.strength * penalty(outputs, mine, self.monitor.discriminant)
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

    def _set_rate(self) -> None:
        """Set the learning rate of this step, if it does not only change between epochs."""
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
            rate *= (done + self.config.batch_size / max(self.data.events, 1)) / config.warmup
        self.state.optimizer.param_groups[0]["lr"] = min(rate, config.learning_rate)

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
        train_loss, of_sample = self._loss(sample)
        validation = self.data.validation
        validation_loss, outputs = self._loss(validation)
        if not math.isfinite(train_loss + validation_loss):
            raise NanoMLError(self._explain(validation.inputs, f"epoch {number}, validation"))
        area = None
        if not validation.targets.shape[1]:
            area = separation(outputs, validation, self.monitor.discriminant)
        if self.monitor.significance is not None:
            significance = self.monitor.significance((outputs, validation), (of_sample, sample))
        rate = self.state.optimizer.param_groups[0]["lr"]
        return Epoch(number, train_loss, validation_loss, rate, area, significance)

    @torch.no_grad()
    def _loss(self, events: EventTensors) -> tuple[float, Tensor]:
        """Weighted mean loss without dropout, and the outputs."""
        self.state.core.eval()
        parts = events.pieces(_AT_ONCE[self.device.type])
        found = [self.state.core(part.inputs).float() for part in parts]
        losses = torch.cat([event_losses(out, part).double() for out, part in zip(found, parts, strict=True)])
        loss = float((events.weights * losses).sum() / events.weights.sum(dtype=torch.float64))
        outputs, decorrelate = torch.cat(found), self.config.decorrelate
        if decorrelate is not None and len(events):
            # in pieces as large as a batch, since the memory grows with the square of the size
            size = max(self.config.batch_size, 256)
            pieces = zip(outputs.split(size), events.pieces(size), strict=True)
            terms = [float(penalty(out, piece, self.monitor.discriminant)) for out, piece in pieces]
            loss += decorrelate.strength * sum(terms) / len(terms)
        return loss, outputs

    def _explain(self, inputs: Inputs, where: str) -> str:
        """Why a loss is not finite: an input, or steps that were too large."""
        shape = self.monitor.shape
        tensors = [(shape.features, "", inputs.features)]
        tensors += [(it.fields, f"{it.name}_", inputs.objects[it.name].values) for it in shape.collections]
        cause = "the features are finite, so the steps were too large. Use a smaller train.learning_rate."
        for names, prefix, values in reversed(tensors):
            finite = torch.isfinite(values).flatten(0, -2).all(dim=0).tolist()
            if not all(finite):
                blamed = f"{prefix}{names[finite.index(False)]}"
                cause = f'feature "{blamed}" is not finite after scaling. Check its values, or take it out.'
        return f"training of network {self.monitor.fold}: the loss is not a finite number at {where}: {cause}"

    def save(self) -> None:
        self.saved = time.monotonic()
        content = {name: part.state_dict() for name, part in self.state.parts.items()}
        content["history"] = [asdict(epoch) for epoch in self.state.history]
        content |= {"best": self.state.best, "position": asdict(self.state.position)}
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
        state.position = Position(**content["position"])
        self.saved = time.monotonic()
        self.monitor.report(state.history, "continuing after an interruption")


def _best_epoch(history: list[Epoch]) -> int:
    """Number of the best epoch; 0 before the first."""
    return best_epoch(history).epoch if history else 0


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
    """What the first process computes, in all of them, so that they decide alike."""
    if _world() == 1:
        return compute()
    found = [compute() if rank() == 0 else None]
    distributed.broadcast_object_list(found)
    return found[0]  # type: ignore[return-value]


def save(content: Any, path: Path) -> None:
    """Write a file for `torch.load`, completely or not at all; a NanoMLError if the disk is full, for instance."""
    # through memory, because torch's own writer does not distinguish a full disk from a damaged file
    buffer = io.BytesIO()
    torch.save(content, buffer)
    # the view is released here: Python cannot collect a buffer that is in use
    with replacing(path) as aside, buffer.getbuffer() as written:
        aside.write_bytes(written)


def event_losses(outputs: Tensor, events: EventTensors) -> Tensor:
    """Loss of each event, float32 of shape (N,), from logits or standardized estimates (N, outputs).

    Cross entropy for a classification; for a regression the Huber loss of the standardized values, summed over the
    targets: quadratic near 0 and linear for outliers.
    """
    if events.targets.shape[1]:
        return smooth_l1_loss(outputs, events.targets, reduction="none").sum(dim=1)
    return cross_entropy(outputs, events.labels, reduction="none")


def separation(outputs: Tensor, events: EventTensors, discriminant: BoundDiscriminant) -> float | None:
    """AUC of the discriminant, from logits (N, classes): the signal against the other classes in their shares.

    The events have the weights of the training, with the same total for all classes.
    """
    labels = events.labels.cpu().numpy()
    weights = events.weights.cpu().numpy() * discriminant.shares[labels]
    return auc(discriminant.log_odds(outputs).cpu(), labels == discriminant.signal, weights).value


def penalty(outputs: Tensor, events: EventTensors, discriminant: BoundDiscriminant) -> Tensor:
    """How much the output depends on the spectator for background events, from 0 to 1.

    This is the squared distance correlation (DisCo, Kasieczka and Shih, arXiv:2001.05310) between the spectator and the
    discriminant within a class, its mean over the classes that stand against the signal: their mixture can be uncorrelated
    while none of them is. For a regression it is that between the spectator and the first estimate, for all events.
    """
    known = torch.isfinite(events.spectator)
    if events.targets.shape[1]:
        score, parts = outputs[:, 0], [known]
    else:
        score = torch.sigmoid(discriminant.log_odds(outputs))
        parts = [known & (events.labels == background) for background in discriminant.backgrounds]
        parts = [use for use in parts if int(use.sum()) > 1] or parts[:1]
    # a mean of distances needs weights that are not negative: absolute values
    terms = [distance_correlation(score[use], events.spectator[use], events.weights[use].abs()) for use in parts]
    return torch.stack(terms).mean()


def distance_correlation(x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Squared distance correlation of two variables (N,), a number from 0 (independent) to 1.

    Szekely, Rizzo, Bakirov, Annals of Statistics 35 (2007) 2769, with weights (N,), none negative. Memory grows with the
    square of N.
    """
    if len(x) < 2:
        return x.sum() * 0
    share = weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
    a, b = (_centred(values, share) for values in (x, y))
    pairs = share[:, None] * share[None, :]
    covariance, of_x, of_y = ((pairs * one * two).sum() for one, two in ((a, b), (a, a), (b, b)))
    return covariance / (of_x * of_y).clamp_min(1e-20).sqrt()


def _centred(values: Tensor, share: Tensor) -> Tensor:
    distances = (values[:, None] - values[None, :]).abs()
    rows = (distances * share[None, :]).sum(dim=1)
    return distances - rows[:, None] - rows[None, :] + (rows * share).sum()
