"""Analyses that somebody has unblinded."""

from __future__ import annotations

from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.contracts.blinding import Unblinding
from MLTools.NanoML.workflow.unblinding import as_it_is, places_of, unblind


def unblind_all(config: Config, expected: str = "limit 0.4") -> Unblinding:
    """Unblind all regions and eras, as they are now."""
    return unblind(config, as_it_is(config, places_of(config)).values(), "it is final", expected)
