"""The loss of a training, of each event or of the network's own, with the dependence on a spectator; and its optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ML_processing.events.inputs import EventTensors
from ML_processing.metrics.roc import auc
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.models.hooks import Hook, Outputs, first, hook, own_code, pieces_of, shown
from ML_processing.models.layers import target_losses
from MLTools.NanoML.errors import NanoMLError, listed
from MLTools.NanoML.model import CLASSES, TARGETS

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Decorrelation, Train


class Objective(Protocol):
    """The objective of a training, in place of the loss of a network: see `Loss`."""

    own: Hook | None

    def of_batch(self, outputs: Outputs, batch: EventTensors, scale: float, /) -> Tensor:
        """The number that a step reduces."""

    def of_events(self, outputs: Outputs, events: EventTensors, size: int, /) -> tuple[float, None]:
        """The loss of some events, without derivatives."""


@dataclass(frozen=True)
class Loss:
    """The loss of a network."""

    own: Hook | None  # of its class, instead of `event_losses`
    decorrelate: Decorrelation | None
    discriminant: BoundDiscriminant  # by which a classification is judged

    @classmethod
    def of(cls, core: nn.Module, decorrelate: Decorrelation | None, discriminant: BoundDiscriminant) -> Loss:
        """The loss of a network, which may have one of its own."""
        return cls(hook(core, "loss"), decorrelate, discriminant)

    def of_batch(self, outputs: Outputs, batch: EventTensors, scale: float) -> Tensor:
        """The number that a step reduces; the sum over the events is multiplied by `scale`."""
        losses = self._losses(outputs, batch)
        if not losses.requires_grad:
            assert self.own is not None
            raise self.own.error("returns a tensor without a gradient, so that nothing can be learnt from it.")
        loss = torch.dot(batch.weights, losses) * scale if losses.ndim else losses
        if self.decorrelate is not None:
            loss = loss + self.decorrelate.strength * penalty(outputs, batch, self.discriminant)
        return loss

    @torch.no_grad()
    def of_events(self, outputs: Outputs, events: EventTensors, size: int) -> tuple[float, Tensor | None]:
        """Weighted mean of the loss, and the loss of each event, shape (N,), without the decorrelation.

        What is of all events of a batch is the mean over batches of this size; if that is the network's own loss, there is none of
        each event.
        """
        parts = list(zip(pieces_of(outputs, size), events.pieces(size), strict=True))
        weights, losses = events.weights, None
        if self.own is None:
            losses = each = event_losses(outputs, events)
        else:
            found = [self._losses(out, part) for out, part in parts]
            each = torch.cat([loss.expand(len(part)) for loss, (_, part) in zip(found, parts, strict=True)])
            if found[0].ndim:
                losses = each
            else:  # the weights are in it
                weights = torch.ones_like(weights)
        mean = float((weights * each.double()).sum() / weights.sum(dtype=torch.float64))
        if self.decorrelate is not None and len(events):
            # in pieces as large as a batch, since the memory grows with the square of the size
            terms = [float(penalty(out, part, self.discriminant)) for out, part in parts]
            mean += self.decorrelate.strength * sum(terms) / len(terms)
        return mean, losses

    def _losses(self, outputs: Outputs, events: EventTensors) -> Tensor:
        if self.own is None:
            return event_losses(outputs, events)
        losses = self.own(outputs, events)
        if not isinstance(losses, Tensor) or losses.shape not in ((), events.labels.shape):
            raise self.own.error(
                f"returns {shown(losses)} for {len(events)} events, but must return the loss of each, a tensor of shape "
                f"({len(events)},), or of all, a tensor of shape ()."
            )
        return losses.float()


def event_losses(outputs: Outputs, events: EventTensors) -> Tensor:
    """Loss of each event, float32 of shape (N,), from logits or standardized estimates (N, outputs), or those of heads.

    Cross entropy for a classification; for a regression that of the standardized values by `train.estimate`, summed over the targets: by
    default the Huber loss, quadratic near 0 and linear for outliers. With heads for both their sum, in which a target that is not finite
    does not count.
    """
    if not isinstance(outputs, Tensor):
        losses = torch.zeros_like(events.weights)
        if CLASSES in outputs:
            losses = losses + cross_entropy(outputs[CLASSES], events.labels, reduction="none")
        if TARGETS in outputs:
            estimates, known = outputs[TARGETS], torch.isfinite(events.targets)
            targets = torch.where(known, events.targets, estimates.detach())
            losses = losses + target_losses(estimates, targets, events.estimate).sum(dim=1)
        return losses
    if events.targets.shape[1]:
        return target_losses(outputs, events.targets, events.estimate).sum(dim=1)
    return cross_entropy(outputs, events.labels, reduction="none")


def error_of_change(after: Tensor, before: Tensor, weights: Tensor) -> float:
    """Standard error of the difference of two weighted means over the same events, (N,) each.

    The events are the same, so that only the spread of the differences d counts: sqrt(sum of w² (d - mean of d)²) / sum of w.
    """
    w, difference = weights.double(), after.double() - before.double()
    mean = torch.dot(w, difference) / w.sum()
    return float((w * (difference - mean)).norm() / w.sum().abs())


def is_classification(outputs: Outputs, events: EventTensors) -> bool:
    """Whether these are outputs for classes, maybe beside others."""
    return not events.targets.shape[1] if isinstance(outputs, Tensor) else CLASSES in outputs


def separation(outputs: Tensor, events: EventTensors, discriminant: BoundDiscriminant) -> float | None:
    """AUC of the discriminant, from logits (N, classes): the signal against the other classes in their shares.

    The events have the weights of the training, with the same total for all classes.
    """
    labels = events.labels.cpu().numpy()
    weights = events.weights.cpu().numpy() * discriminant.shares[labels]
    return auc(discriminant.log_odds(outputs).cpu(), labels == discriminant.signal, weights).value


def penalty(outputs: Outputs, events: EventTensors, discriminant: BoundDiscriminant) -> Tensor:
    """How much the output depends on the spectator for background events, from about 0 to 1.

    This is the squared distance correlation (DisCo, Kasieczka and Shih, arXiv:2001.05310) between the spectator and the
    discriminant within a class, its mean over the classes that stand against the signal: their mixture can be uncorrelated
    while none of them is. For a regression it is that between the spectator and the first estimate, for all events.
    """
    known, main = torch.isfinite(events.spectator), first(outputs)
    if not is_classification(outputs, events):
        score, parts = main[:, 0], [known]
    else:
        score = torch.sigmoid(discriminant.log_odds(main))
        parts = [known & (events.labels == background) for background in discriminant.backgrounds]
        parts = [use for use in parts if int(use.sum()) > 3] or parts[:1]
    # a mean of distances needs weights that are not negative: absolute values
    terms = [distance_correlation(score[use], events.spectator[use], events.weights[use].abs()) for use in parts]
    return torch.stack(terms).mean()


def distance_correlation(x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Squared distance correlation of two variables (N,): at most 1, and on average 0 if they are independent, of however few events.

    Szekely, Rizzo, Bakirov, Annals of Statistics 35 (2007) 2769, with weights (N,), none negative, and without bias: the means are those
    over different events (Szekely, Rizzo, J. Multivar. Anal. 117 (2013) 193). Memory grows with the square of N.
    """
    if len(x) < 4:
        return x.sum() * 0
    share = weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
    a, b = ((values[:, None] - values[None, :]).abs() for values in (x, y))
    covariance, of_x, of_y = (_covariance(one, two, share) for one, two in ((a, b), (a, a), (b, b)))
    return covariance / (of_x * of_y).clamp_min(1e-20).sqrt()


def _covariance(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Squared distance covariance of distances (N, N): means of a_ij b_ij, a_ij b_kl and a_ij b_ik over different i, j, k, l."""
    squares, others = share**2, 1 - torch.eye(len(share), dtype=share.dtype, device=share.device)

    def sums(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        of_a, of_b, same = a @ share, b @ share, (a * b) @ squares
        overlap = squares @ (of_a * of_b - same)  # a_ij b_il
        quadruples = (share @ of_a) * (share @ of_b) - 4 * overlap - 2 * (squares @ same)
        return share @ ((a * b) @ share), quadruples, share @ (of_a * of_b - same)

    tiny = torch.finfo(share.dtype).tiny
    pairs, quadruples, triples = (
        found / every.clamp_min(tiny) for found, every in zip(sums(a, b), sums(others, others), strict=True)
    )
    return pairs + quadruples - 2 * triples


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


def _groups(core: nn.Module) -> list[dict[str, object]]:
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
