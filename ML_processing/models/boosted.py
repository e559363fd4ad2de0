"""Cores that grow round by round, such as boosted trees, instead of following the gradient of their weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from ML_processing.events.inputs import EventTensors


class Boosted(nn.Module):
    """A core that adds something to its outputs in each round, on the CPU.

    It reads inputs as they are in the files: not scaled, missing values not finite, padding with any numbers. Losses, the number of
    rounds and what is reported are the business of `ML_processing.training.fold`.
    """

    @abstractmethod
    def grow(
        self, training: EventTensors, others: Sequence[EventTensors], rate: float, seed: int
    ) -> Iterator[list[Tensor]]:
        """Learn from events, from nothing: as many rounds as are asked for.

        Parameters
        ----------
        training
            What is learnt from, with the weights of the training, of either sign.
        others
            Events whose outputs are wanted after each round.
        rate
            `train.learning_rate`: the share of what would fit best that a round adds.
        seed
            Seed of all random numbers.

        Yields
        ------
        After each round, logits or standardized estimates of each of `others`, float32 (N, outputs).
        """

    @abstractmethod
    def keep(self, rounds: int) -> None:
        """End the growth, and be what it was after that many rounds."""
