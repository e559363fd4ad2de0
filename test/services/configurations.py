"""Configurations from their text, for tests of what they may say."""

from __future__ import annotations

from pathlib import Path

from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.load import load


def loaded(directory: Path, text: str) -> Config:
    """The configuration of a file a.yaml with this text."""
    path = directory / "a.yaml"
    path.write_text(text)
    return load(path)
