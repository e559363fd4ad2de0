"""What a file with scores says of the models that gave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from MLTools.NanoML.model.model import Model

__all__ = ["record_of"]


def record_of(models: Sequence[Model], parameters: Mapping[str, float]) -> dict[str, Any]:
    """Names and hashes of models, and the values of their parameters, as `Provenance.model` has them."""
    used: dict[str, Any] = {
        "name": ", ".join(model.name for model in models),
        "sha256": ", ".join(model.sha256 for model in models),
    }
    return {**used, "parameters": dict(parameters)} if parameters else used
