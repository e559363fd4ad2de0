"""A trained model: one ONNX file that says of itself what it reads and what it gives."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError

__all__ = [
    "KEY",
    "SCHEMA",
    "Model",
    "file_hash",
    "metadata_text",
    "open_session",
    "parse_metadata",
    "twin_of",
]

SCHEMA = 1
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


def open_session(path: str) -> Any:
    """Load an ONNX file into ONNX Runtime, to run on one thread.

    Raises
    ------
    NanoMLError
        It cannot be loaded.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # as in CMSSW; files are scored in parallel instead
    options.log_severity_level = 3
    try:
        # without a second attempt, of which it would tell on standard output
        return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"], enable_fallback=0)
    except Exception as problem:  # ONNX Runtime's exceptions have no common base class
        reason = str(problem).strip().split("\n")[0]
        raise NanoMLError(
            f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it: {reason} "
            "It may be damaged or truncated: export it again; or it needs a newer ONNX Runtime: export it for an older release."
        ) from None


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


def parse_metadata(text: str, path: str) -> dict[str, Any]:
    """What a model says of itself.

    Raises
    ------
    NanoMLError
        It cannot be understood, or is of a newer schema.
    """
    try:
        content = json.loads(text)
        schema = content["schema"]
    except (ValueError, KeyError, TypeError) as problem:
        raise NanoMLError(
            f"{path}: its `{KEY}` metadata cannot be understood ({type(problem).__name__}: {problem}). Export it again."
        ) from None
    if schema != SCHEMA:
        raise NanoMLError(
            f"{path}: schema {schema}, this NanoML reads {SCHEMA}. Update NanoML, or export it again."
        )
    return dict(content)


class Model:
    """A model, ready to run with ONNX Runtime on one thread.

    Parameters
    ----------
    path
        The ONNX file, as `nanoml export` writes it.

    Raises
    ------
    NanoMLError
        There is no such file, it is damaged, does not describe itself, is of a newer schema, or its JSON twin
        belongs to another file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if not os.path.isfile(self.path):
            raise NanoMLError(f"{self.path}: no such file. `nanoml export` makes a model.")
        self._session = open_session(self.path)
        text = metadata_text(self._session, self.path)
        if text is None:
            raise NanoMLError(
                f"{self.path}: does not describe itself (no `{KEY}` metadata): it is no model of `nanoml export`."
            )
        self.metadata = parse_metadata(text, self.path)
        self.sha256 = file_hash(self.path)
        self._check_twin()

    def _check_twin(self) -> None:
        twin = twin_of(self.path)
        if not twin.is_file():
            return
        try:
            said = json.loads(twin.read_text(encoding="utf-8")).get("onnx_sha256")
        except (ValueError, AttributeError):
            raise NanoMLError(
                f"{twin}: is not the JSON that `nanoml export` writes: export the model again."
            ) from None
        if said != self.sha256:
            raise NanoMLError(
                f"{twin}: belongs to another version of {self.path} (hash {str(said)[:12]}, not {self.sha256[:12]}). Export both again."
            )

    @property
    def name(self) -> str:
        """Name of the model; its scores are branches NAME_CLASS."""
        return str(self.metadata["name"])

    @property
    def classes(self) -> list[str]:
        """Its classes, in the order of its outputs."""
        return list(self.metadata["outputs"][0]["classes"])

    @property
    def folds(self) -> int:
        """Number of networks in it; each event has one that has not seen it."""
        return int(self.metadata["folds"]["k"])

    @property
    def columns(self) -> list[str]:
        """Names of all event-level columns that it reads."""
        return [column for tensor in self.metadata["inputs"] for column in tensor["columns"]]

    @property
    def selection_columns(self) -> dict[str, str]:
        """Those of them that a selection makes, with the selection."""
        return {
            column: str(tensor["selection"])
            for tensor in self.metadata["inputs"]
            for column in tensor["selection_columns"]
        }

    def scores(
        self, columns: Mapping[str, NDArray[Any]], fold: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Class probabilities of events.

        Parameters
        ----------
        columns
            Each of `self.columns`, shape (events,), any number type.
        fold
            Fold of each event, shape (events,), int64: it is scored by the network that tests on that fold and
            has not seen it. None takes the mean of all networks.

        Returns
        -------
        float32, shape (events, classes).

        Raises
        ------
        NanoMLError
            A score is not finite.
        """
        feeds = {
            tensor["tensor"]: np.stack(
                [np.asarray(columns[name], dtype=np.float32) for name in tensor["columns"]], axis=1
            )
            for tensor in self.metadata["inputs"]
        }
        output = "probabilities" if fold is None else "fold_probabilities"
        found: NDArray[np.float32] = self._session.run([output], feeds)[0]
        if fold is not None:
            found = found[np.arange(len(fold)), fold]
        if not np.isfinite(found).all():
            raise NanoMLError(
                f"{self.path}: {int((~np.isfinite(found).all(axis=1)).sum())} of {len(found)} events have a score that is NaN or infinite."
            )
        return found
