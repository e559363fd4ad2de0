"""The outermost fields of an ONNX file, for machines without the package `onnx`.

ONNX Runtime does not tell a model's IR version and opset. Both stand near the surface of the file, a protobuf
message `ModelProto` (onnx.proto of the ONNX project).
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model.wire import Content, fields, number, text

__all__ = ["OnnxHeader", "begins_like_onnx", "read_header"]

_IR_VERSION, _PRODUCER_NAME, _PRODUCER_VERSION, _OPSET_IMPORT = 1, 2, 3, 8
_DOMAIN, _VERSION = 1, 2  # of OperatorSetIdProto
_SECOND_TAGS = b"\x12\x1a\x22\x28\x32\x3a\x42\x72"  # of the fields that may follow ir_version


@dataclass(frozen=True)
class OnnxHeader:
    """What an ONNX file says of itself at its surface.

    Attributes
    ----------
    ir
        Version of the file format, or None.
    opset
        Version of the standard operators, or None.
    domains
        Versions of all other sets of operators, by domain.
    producer
        What wrote the file: "pytorch 2.13.0"; may be empty.
    """

    ir: int | None
    opset: int | None
    domains: dict[str, int]
    producer: str


def begins_like_onnx(head: bytes) -> bool:
    """Whether bytes may be the beginning of an ONNX file: a small IR version, then another field of a model."""
    return len(head) >= 2 and head[0] == _IR_VERSION << 3 and 0 < head[1] < 128 and head[2:3] in _SECOND_TAGS


def read_header(path: str | os.PathLike[str]) -> OnnxHeader:
    """Read the surface of an ONNX file; the graph and its weights are skipped.

    Raises
    ------
    NanoMLError
        The file is truncated or damaged.
    """
    ir: int | None = None
    producer = {_PRODUCER_NAME: "", _PRODUCER_VERSION: ""}
    opsets: dict[str, int] = {}
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for field, _, begin, end in fields(content):
                if field == _IR_VERSION:
                    ir = number(content, begin)
                elif field in producer:
                    producer[field] = text(content, begin, end)
                elif field == _OPSET_IMPORT:
                    opsets.update([_opset(content, begin, end)])
    except ValueError as problem:
        raise NanoMLError(
            f"{os.fspath(path)}: is a truncated or damaged ONNX file ({problem}). Export or fetch it again."
        ) from None
    opset = opsets.pop("", opsets.pop("ai.onnx", None))
    return OnnxHeader(ir, opset, opsets, " ".join(part for part in producer.values() if part))


def _opset(content: Content, begin: int, end: int) -> tuple[str, int]:
    domain, version = "", 0
    for field, _, first, last in fields(content, begin, end):
        if field == _DOMAIN:
            domain = text(content, first, last)
        elif field == _VERSION:
            version = number(content, first)
    return domain, version
