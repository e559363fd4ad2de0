"""Files of PyTorch, whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from MLTools.NanoML.atomic import replacing

__all__ = ["save"]


def save(content: Any, path: Path) -> None:
    """Write what `torch.load` reads.

    Raises
    ------
    NanoMLError
        The disk is full, and the like.
    """
    # through memory, because torch's own writer does not tell a full disk from a damaged file
    buffer = io.BytesIO()
    torch.save(content, buffer)
    # the view is given back here: Python cannot collect a buffer that is in use
    with replacing(path) as aside, buffer.getbuffer() as written:
        aside.write_bytes(written)
