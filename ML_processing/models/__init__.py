"""What networks are made of, and how they are found by name."""

from __future__ import annotations

from ML_processing.models.network import Ensemble, Network
from ML_processing.models.registry import make_network, options_of

__all__ = ["Ensemble", "Network", "make_network", "options_of"]
