"""The names of the stages, and the parts of NanoML that have them."""

from __future__ import annotations

__all__ = ["PARTS", "STAGES"]

STAGES = ("skim", "convert", "shuffle", "train", "evaluate", "export", "score")
"""All stages, in order."""
PARTS = {
    "data_processing": ("skim", "convert", "shuffle", "score"),
    "ML_processing": ("train", "evaluate", "export"),
}
"""The stages of each part."""
