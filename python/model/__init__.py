"""A trained model: one ONNX file that describes what it reads and what it gives."""

from __future__ import annotations

from MLTools.NanoML.model.description import (
    CLASSES,
    RATIOS,
    SCHEMA,
    TARGETS,
    Description,
    Head,
    Input,
    ModelFormat,
    ObjectInput,
    Parameter,
    Reference,
)
from MLTools.NanoML.model.entries import Discriminant
from MLTools.NanoML.model.file import KEY, metadata_text, open_session, twin_of, write_described
from MLTools.NanoML.model.model import Model

PAGE = "model.md"
__all__ = [
    "CLASSES",
    "KEY",
    "RATIOS",
    "SCHEMA",
    "TARGETS",
    "Description",
    "Discriminant",
    "Head",
    "Input",
    "Model",
    "ModelFormat",
    "ObjectInput",
    "Parameter",
    "Reference",
    "metadata_text",
    "open_session",
    "twin_of",
    "write_described",
]
