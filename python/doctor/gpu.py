"""GPUs."""

from __future__ import annotations

from MLTools.NanoML.doctor.finding import Finding
from MLTools.NanoML.doctor.outside import ask, has

__all__ = ["gpu"]


def gpu() -> Finding:
    """Check which GPUs the driver knows."""
    none = "training uses the processor, which is enough for networks of a few thousand weights"
    if not has("nvidia-smi"):
        return Finding(False, "none (no nvidia-smi)", none)
    answer = ask(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"])
    cards = [line.strip() for line in answer.text.splitlines() if line.strip()]
    if answer.code != 0 or not cards:
        return Finding(False, f"nvidia-smi: {answer.first_line}", none)
    return Finding(True, "; ".join(cards))
