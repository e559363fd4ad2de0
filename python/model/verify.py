"""Verifies a model file by everything that can be known of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Optional, Protocol

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model.description import Description
from MLTools.NanoML.model.model import Model
from MLTools.NanoML.model.runtimes import Elsewhere, Outcomes, run_here
from MLTools.NanoML.model.trials import SIZES, Trial, trials
from MLTools.NanoML.model.verification import check_reference, check_tensors, check_trials, reference_of

__all__ = ["Networks", "verify_model"]


class Networks(Protocol):
    """The networks that a model was made from."""

    def sample(self, description: Description) -> Mapping[str, NDArray[np.float32]]:
        """Real events of the training, as tensors."""

    def compare(self, trials: Sequence[Trial], outcomes: Outcomes, description: Description) -> float:
        """The largest difference; an error if it is too large."""


def verify_model(path: Path, version: Optional[str], networks: Optional[Networks]) -> Iterator[str]:
    """Verify a model.

    Parameters
    ----------
    path
        The ONNX file.
    version
        Of ONNX Runtime; None for the one that is here.
    networks
        What it was made from, to compare with.

    Yields
    ------
    What is well, line by line.

    Raises
    ------
    NanoMLError
        Something is not: the first thing that was found.
    """
    model = Model(path)
    description = model.description
    yield f"{path}: model {model.name}, SHA-256 {model.sha256[:12]}"
    try:
        reference = reference_of(model.metadata)
        if reference is None:
            raise NanoMLError("carries no reference events. Export it again.")
        sample = networks.sample(description) if networks else reference.feeds
        check_tensors(model.session, description)
        yield "tensors: as the metadata say, for any number of events"
        tried = [reference, *trials(description, sample)]
        outcomes = (
            run_here(model.session, tried) if version is None else _run_elsewhere(model.path, tried, version)
        )
        runtime = f"ONNX Runtime {version or _version()}"
        difference = check_reference(outcomes[reference.name, max(SIZES)], model.metadata)
        yield f"reference events: {runtime} gives the outputs again, to {difference:.1g}"
        check_trials(tried[1:], outcomes, description)
        sizes = ", ".join(map(str, sorted(SIZES)))
        yield f"{len(tried) - 1} kinds of inputs, {sizes} {description.level}s of each: all outputs are finite and consistent"
        if networks is not None:
            largest = networks.compare(tried[1:], outcomes, description)
            yield f"networks of the training: PyTorch gives the same, to {largest:.1g}"
    except NanoMLError as problem:
        text = str(problem)
        raise NanoMLError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def _run_elsewhere(model: str, tried: Sequence[Trial], version: str) -> Outcomes:
    with Elsewhere.of(version) as there:
        return there.run(model, tried)


def _version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)
