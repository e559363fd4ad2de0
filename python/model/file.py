"""The ONNX file of a model, and the JSON beside it."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model.graph import external_tensor

__all__ = ["KEY", "check_twin", "file_hash", "metadata_text", "open_session", "twin_of"]

KEY = "nanoml"
"""Key of the metadata in the ONNX file."""


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def twin_of(path: str | os.PathLike[str]) -> Path:
    """Path of the JSON file beside a model, for those who cannot read the ONNX file's metadata."""
    return Path(path).with_suffix(".json")


def check_twin(path: str, sha256: str) -> None:
    """Make sure that the JSON beside a model, if there is one, belongs to it.

    Raises
    ------
    NanoMLError
        It belongs to another file, or cannot be read.
    """
    twin = twin_of(path)
    if not twin.is_file():
        return
    try:
        said = json.loads(twin.read_text(encoding="utf-8")).get("onnx_sha256")
    except (ValueError, AttributeError):
        raise NanoMLError(
            f"{twin}: is not the JSON that `nanoml export` writes: export the model again."
        ) from None
    if said != sha256:
        raise NanoMLError(
            f"{twin}: belongs to another version of {path} (hash {str(said)[:12]}, not {sha256[:12]}). Export both again."
        )


def open_session(path: str, content: Optional[bytes] = None) -> Any:
    """Load an ONNX file into ONNX Runtime, to run on one thread.

    Parameters
    ----------
    path
        The file.
    content
        Instead of what it holds: a part of it.

    Raises
    ------
    NanoMLError
        It cannot be loaded, or some of it is in another file.
    """
    import onnxruntime

    _refuse_external_data(path, content)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # as in CMSSW; files are scored in parallel instead
    options.log_severity_level = 4  # what goes wrong is raised
    try:
        # without a second attempt, of which it would tell on standard output
        return onnxruntime.InferenceSession(
            path if content is None else content, options, ["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as problem:  # ONNX Runtime's exceptions have no common base class
        reason = str(problem).strip().split("\n")[0]
        raise NanoMLError(
            f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it: {reason} "
            "It may be damaged or truncated: export it again; or it needs a newer ONNX Runtime: export it for an older release."
        ) from None


def _refuse_external_data(path: str, content: Optional[bytes]) -> None:
    """Refuse a model that is more than one file: a copy may lose the others, and its hash does not cover them."""
    try:
        if content is None:
            with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                found = external_tensor(mapped)
        else:
            found = external_tensor(content)
    except (OSError, ValueError):  # ONNX Runtime says what is wrong
        return
    if found is not None:
        name, other = found
        raise NanoMLError(
            f"{path}: the values of its tensor {name} are in another file, {other}. A model must be one file: save it with "
            'the data inside, by the Python package onnx: onnx.save(onnx.load("OLD.onnx"), "NEW.onnx").'
        )


def metadata_text(session: Any, path: str) -> Optional[str]:
    """The JSON by which a model describes itself, or None for a model of another origin.

    Raises
    ------
    NanoMLError
        The file is damaged.
    """
    try:
        text: Optional[str] = session.get_modelmeta().custom_metadata_map.get(KEY)
    except UnicodeDecodeError as problem:
        raise NanoMLError(
            f"{path}: is damaged (a name in it is no text: {problem}). Export it again."
        ) from None
    return text
