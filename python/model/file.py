"""The ONNX file of a model: its networks, its metadata, and the JSON beside it.

The package `onnx` reads the graph. Without it a model still runs with ONNX Runtime alone: all its networks are computed for
every event, and data in other files are not noticed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.plain import content_of
from MLTools.NanoML.terminal.progress import say_once

_AGAIN = "Export it again, or copy both of its files again."

KEY = "nanoml"
"""Key of the metadata in the ONNX file."""

HASH = "nanoml_sha256"
"""Key of the entry beside it with the hash of the file, whose own 64 digits count as zeros."""

_DIGITS = 64
_MARK = HASH.encode() + bytes([0x12, _DIGITS])  # the key, and the beginning of the value as protobuf writes it


def write_described(model: Any, text: str, path: str | os.PathLike[str]) -> None:
    """Write an `onnx.ModelProto` with its metadata and with its hash."""
    import onnx

    onnx.helper.set_model_props(model, {KEY: text, HASH: "0" * _DIGITS})
    content = bytearray(model.SerializeToString())
    place = content.index(_MARK) + len(_MARK)
    content[place : place + _DIGITS] = hashlib.sha256(content).hexdigest().encode()
    Path(path).write_bytes(content)


def is_whole(content: bytes) -> Optional[bool]:
    """Whether a file has the hash that stands in it; None if there is none."""
    before, mark, after = content.partition(_MARK)
    digest = hashlib.sha256(before + mark + b"0" * _DIGITS + after[_DIGITS:]).hexdigest()
    return after[:_DIGITS] == digest.encode() if mark else None


def twin_of(path: str | os.PathLike[str]) -> Path:
    """Path of the JSON file beside a model, for those who cannot read the ONNX file's metadata."""
    return Path(path).with_suffix(".json")


def check_hash(path: str, content: bytes, sha256: str) -> None:
    """Make sure that a model is as it was written: by the JSON beside it or, without one, by the hash inside.

    Raises NanoMLError if it is not, or the JSON cannot be read. If there is neither, a message says so.
    """
    twin = twin_of(path)
    if not twin.is_file():
        found = is_whole(content)
        if found is False:
            raise NanoMLError(
                f"{path}: is damaged, or was changed: it does not have the hash that stands in it. {_AGAIN}"
            )
        if found is None:
            say_once(
                path,
                f"NOTE: {path}: has no hash inside, and there is no {twin.name}: damage would not be noticed. {_AGAIN}",
            )
        return
    try:
        found = content_of(twin).get("onnx_sha256")
    except (ValueError, AttributeError):
        raise NanoMLError(f"{twin}: is not the JSON that `nanoml export` writes: export the model again.") from None
    if found != sha256:
        raise NanoMLError(
            f"{twin}: belongs to another version of {path} (hash {str(found)[:12]}, not {sha256[:12]}). Export both again."
        )


@dataclass(frozen=True)
class OnnxHeader:
    """General information in an ONNX file, which ONNX Runtime does not give."""

    ir: int | None  # version of the file format
    opset: int | None  # version of the standard operators
    domains: dict[str, int]  # versions of all other sets of operators
    producer: str  # what wrote the file: "pytorch 2.13.0"; may be empty


def read_header(path: str | os.PathLike[str]) -> OnnxHeader:
    """Read the header of an ONNX file, with the package `onnx`.

    Raises NanoMLError if the file is truncated or damaged, or `onnx` is not installed.
    """
    try:
        model = parse_onnx(Path(path).read_bytes())
        opsets = {entry.domain: entry.version for entry in model.opset_import}
        producer = f"{model.producer_name} {model.producer_version}".strip()
    except ValueError as problem:
        raise NanoMLError(
            f"{os.fspath(path)}: is a truncated or damaged ONNX file ({problem}). Export or fetch it again."
        ) from None
    except ImportError:
        raise NanoMLError(
            f"{os.fspath(path)}: reading its header needs the Python package onnx: pip install onnx."
        ) from None
    opset = opsets.pop("", opsets.pop("ai.onnx", None))
    return OnnxHeader(model.ir_version if model.HasField("ir_version") else None, opset, opsets, producer)


def open_session(path: str, content: Optional[bytes] = None) -> Any:
    """Load an ONNX file, or its content if that was read before, into ONNX Runtime, to run on one thread.

    Raises NanoMLError if it cannot be loaded, or some of its data are in another file.
    """
    with suppress(ImportError, OSError, ValueError):  # ONNX Runtime says what is wrong
        refuse_external_data(path, parse_onnx(Path(path).read_bytes() if content is None else content))
    return start_session(path, content)


def start_session(path: str, content: Optional[bytes]) -> Any:
    """As `open_session`, for content that is known to be complete, or for one network of the file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # as in CMSSW; files are scored in parallel instead
    options.log_severity_level = 4  # errors are raised
    try:
        # without a second attempt, which it would report on standard output
        return onnxruntime.InferenceSession(
            path if content is None else content, options, ["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as problem:  # ONNX Runtime's exceptions have no common base class
        reason = str(problem).strip().split("\n")[0]
        raise NanoMLError(
            f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it: {reason} "
            "It may be damaged or truncated: export it again; or it needs a newer ONNX Runtime: export it for an older release."
        ) from None


def metadata_text(session: Any, path: str) -> Optional[str]:
    """The JSON by which a model describes itself, or None for a model of another origin.

    Raises NanoMLError if the file is damaged.
    """
    try:
        text: Optional[str] = session.get_modelmeta().custom_metadata_map.get(KEY)
    except UnicodeDecodeError as problem:
        raise NanoMLError(f"{path}: is damaged (a name in it is not text: {problem}). Export it again.") from None
    return text


def parse_onnx(content: bytes) -> Any:
    """The `onnx.ModelProto` of an ONNX file; a ValueError if it is damaged, an ImportError without the package `onnx`."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.ModelProto.FromString(content)
    except DecodeError as problem:
        raise ValueError(str(problem)) from None


def refuse_external_data(path: str, model: Any) -> None:
    """Refuse a model that is more than one file: a copy may lose the others, and its hash does not cover them."""
    for tensor in _tensors(model):
        if tensor.data_location == tensor.EXTERNAL:
            other = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
            raise NanoMLError(
                f"{path}: the values of its tensor {tensor.name} are in another file, {other}. A model must be one file: save it "
                'with the data inside, by the Python package onnx: onnx.save(onnx.load("OLD.onnx"), "NEW.onnx").'
            )


def _tensors(message: Any) -> Iterator[Any]:
    """All tensors in a protobuf message: weights and constants, also those in functions and inner graphs."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if hasattr(value, "ListFields") else value:
                yield from _tensors(inner)


def network_files(model: Any, output: str, count: int) -> Optional[list[bytes]]:
    """An ONNX file for each of the networks that a model consists of.

    ONNX Runtime computes everything in a graph, whichever output one asks for. An event is to be scored by one of the
    networks, the one of its fold: so the part of the graph that belongs to a network becomes a file of its own, in memory.
    `output` is the tensor with the results of `count` networks, shape (rows, count, outputs); the files have the inputs of
    the model and one output, of shape (rows, 1, outputs). None if there is only one network, or the graph has another form.
    """
    graph = model.graph
    last = next((node for node in graph.node if output in node.output), None)
    # a row of the output is one row of each of the tensors that are joined
    if count < 2 or last is None or last.op_type != "Concat" or last.domain or len(last.input) != count:
        return None
    if next((attribute.i for attribute in last.attribute if attribute.name == "axis"), None) != 1:
        return None
    has_inner_graphs = any(each.HasField("g") or each.graphs for node in graph.node for each in node.attribute)
    if has_inner_graphs or graph.sparse_initializer:  # inner graphs use values of the graph around them
        return None
    frame = type(model)()
    frame.CopyFrom(model)
    frame.ClearField("metadata_props")
    for field in ("node", "initializer", "output", "value_info"):
        frame.graph.ClearField(field)
    return [_network_file(frame, graph, name) for name in last.input]


def _network_file(frame: Any, graph: Any, name: str) -> bytes:
    """The file that computes one tensor of a graph, and has it as its output."""
    import onnx

    needed, nodes = {name}, []
    for node in reversed(graph.node):  # a node comes after those that it depends on
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    part = type(frame)()
    part.CopyFrom(frame)
    part.graph.node.extend(reversed(nodes))
    part.graph.initializer.extend(weights for weights in graph.initializer if weights.name in needed)
    part.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 3))
    return bytes(part.SerializeToString())
