"""The networks of a training, to compare an exported model with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ML_processing.export.export import networks_of, sample_of
from ML_processing.export.parity import check_parity
from ML_processing.training.run import Run, one_thread
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Description
from MLTools.NanoML.model.trials import Outcomes, Trial

__all__ = ["Networks"]


class Networks:
    """What `nanoml verify` compares with.

    Parameters
    ----------
    module
        The networks: takes tensors in order, returns the mean output and each network's.
    sample
        Real events, as tensors.
    """

    def __init__(self, module: nn.Module, sample: Mapping[str, NDArray[np.float32]]) -> None:
        self._module, self._sample = module, sample

    @classmethod
    def of(cls, directory: Path) -> Networks:
        """Those of the training in a directory."""
        training = Run.load(directory)
        return cls(networks_of(training), sample_of(training))

    def sample(self, description: Description) -> Mapping[str, NDArray[np.float32]]:
        """Real events.

        Raises
        ------
        NanoMLError
            The model reads other tensors than the networks.
        """
        if list(self._sample) != description.input_tensors:
            raise NanoMLError(
                f"the model reads {', '.join(description.input_tensors)}, but the networks of the training "
                f"{', '.join(self._sample)}: it was made from another one."
            )
        return self._sample

    def compare(self, trials: Sequence[Trial], outcomes: Outcomes, description: Description) -> float:
        """The largest difference between the model and the networks.

        Raises
        ------
        NanoMLError
            It is too large.
        """
        with one_thread():
            try:
                return check_parity(self._module, trials, outcomes, description)
            except NanoMLError as problem:
                raise NanoMLError(f"{problem} Was it exported from this training?") from None
