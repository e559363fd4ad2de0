"""The outermost fields of an ONNX file, for machines without the package `onnx`.

ONNX Runtime does not tell a model's IR version and opset. Both stand near the surface of the file, a protobuf
message `ModelProto` (onnx.proto of the ONNX project; encoding: protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from MLTools.NanoML.errors import NanoMLError

__all__ = ["OnnxHeader", "begins_like_onnx", "read_header"]

_IR_VERSION, _PRODUCER_NAME, _PRODUCER_VERSION, _OPSET_IMPORT = 1, 2, 3, 8
_DOMAIN, _VERSION = 1, 2  # of OperatorSetIdProto
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
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
        with open(path, "rb") as file:
            for number, value in _fields(file, os.path.getsize(path)):
                if number == _IR_VERSION and isinstance(value, int):
                    ir = value
                elif number in producer and isinstance(value, _Span):
                    producer[number] = value.text(file)
                elif number == _OPSET_IMPORT and isinstance(value, _Span):
                    opsets.update([_opset(file, value)])
    except ValueError as problem:
        raise NanoMLError(
            f"{os.fspath(path)}: is a truncated or damaged ONNX file ({problem}). Export or fetch it again."
        ) from None
    opset = opsets.pop("", opsets.pop("ai.onnx", None))
    return OnnxHeader(ir, opset, opsets, " ".join(part for part in producer.values() if part))


@dataclass(frozen=True)
class _Span:
    """Where a field's bytes are."""

    start: int
    end: int

    def text(self, file: BinaryIO) -> str:
        """The bytes, as a string."""
        file.seek(self.start)
        return file.read(self.end - self.start).decode("utf-8", "replace")


def _opset(file: BinaryIO, where: _Span) -> tuple[str, int]:
    domain, version = "", 0
    file.seek(where.start)
    for number, value in _fields(file, where.end):
        if number == _DOMAIN and isinstance(value, _Span):
            domain = value.text(file)
        elif number == _VERSION and isinstance(value, int):
            version = value
    return domain, version


def _fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int | _Span]]:
    """Numbers and values of the fields from where the file is up to `end`; a value may be read in between."""
    here = file.tell()
    while here < end:
        file.seek(here)
        key = _varint(file)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value: int | _Span = _varint(file)
            here = file.tell()
        elif wire in (_FIXED64, _FIXED32, _LENGTH):
            length = {_FIXED64: 8, _FIXED32: 4}.get(wire) or (_varint(file) if wire == _LENGTH else 0)
            value = _Span(file.tell(), file.tell() + length)
            here = value.end
        else:
            raise ValueError(f"there is no field type {wire}")
        if here > end:
            raise ValueError(f"field {number} ends {here - end:,} bytes after the end")
        yield number, value


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("it ends within a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a number has more than ten bytes")
