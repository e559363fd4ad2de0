"""Export of a training to one ONNX file that says of itself what it reads and what it gives."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from ML_processing.models import Ensemble
from ML_processing.parity import check_parity, trial_inputs
from ML_processing.releases import OPSET, Target, target
from ML_processing.run import Run, one_thread
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.folds import RULE
from MLTools.NanoML.model import KEY, SCHEMA, file_hash, twin_of
from MLTools.NanoML.progress import say

if TYPE_CHECKING:
    from MLTools.NanoML.config import Export

__all__ = ["export"]

_REFERENCE = 8  # real events whose scores travel with the model
_PROVENANCE = (
    "versions",
    "created",
    "git",
    "device",
    "config",
    "folds",
    "data",
    "datasets",
    "notes",
    "metrics",
)


def export(run: Path, output: Path, config: Export) -> dict[str, Any]:
    """Write the networks of a training as one ONNX file, and its description beside it.

    The file is compared with PyTorch before it takes its place: an export that fails leaves an earlier model
    as it was.

    Parameters
    ----------
    run
        Directory of the training.
    output
        The ONNX file; its JSON twin has the suffix .json.
    config
        The section `export` of the configuration.

    Returns
    -------
    The metadata, as in the twin.

    Raises
    ------
    NanoMLError
        The training is not finished, the release is unknown, or the ONNX file does not compute what the networks do.
    """
    if output.suffix != ".onnx":
        raise NanoMLError(f"{output}: the name of a model ends in .onnx.")
    limits = target(config.cmssw)
    training = Run.load(run)
    ensemble = Ensemble(training.networks).eval()
    sample = np.array(training.description["sample"], np.float32).reshape(-1, len(training.names))
    with replacing(output) as onnx_aside, replacing(twin_of(output)) as twin_aside, one_thread():
        _convert(ensemble, sample, onnx_aside)
        model = onnx.load(onnx_aside)
        metadata = _describe(
            training, config.name or output.stem, _check_format(model, limits), ensemble, sample
        )
        onnx.helper.set_model_props(model, {KEY: json.dumps(metadata, allow_nan=False)})
        onnx.checker.check_model(model)
        onnx.save(model, onnx_aside)
        largest = check_parity(ensemble, onnx_aside, trial_inputs(sample))
        metadata = {**metadata, "onnx_sha256": file_hash(onnx_aside)}
        twin_aside.write_text(json.dumps(metadata, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    say(f"export: {output} agrees with the networks to {largest:.1g}.")
    return metadata


def _convert(ensemble: Ensemble, sample: NDArray[np.float32], path: Path) -> None:
    events = {0: "events"}
    with warnings.catch_warnings():
        # The exporter that is the default now cannot write an opset that CMSSW up to 14_2 reads.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.onnx.export(
            ensemble,
            (torch.from_numpy(sample[:2]),),
            str(path),
            input_names=["features"],
            output_names=["probabilities", "fold_probabilities"],
            dynamic_axes={"features": events, "probabilities": events, "fold_probabilities": events},
            opset_version=OPSET,
            dynamo=False,
        )


def _check_format(model: onnx.ModelProto, limits: Target) -> dict[str, Any]:
    """What the file really is, since an exporter may write something else than it was asked for."""
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset > limits.opset or model.ir_version > limits.ir:
        raise NanoMLError(
            f"the exporter wrote ONNX opset {opset}, IR {model.ir_version}, but {limits.cmssw or 'CMSSW'} reads "
            f"opset {limits.opset}, IR {limits.ir} at most. PyTorch {torch.__version__} may be too new."
        )
    return {"cmssw": limits.cmssw, "onnxruntime": limits.onnxruntime, "opset": opset, "ir": model.ir_version}


def _describe(
    training: Run, name: str, written: dict[str, Any], ensemble: Ensemble, sample: NDArray[np.float32]
) -> dict[str, Any]:
    """The model's metadata."""
    description = training.description
    columns = description["features"]
    events = sample[:_REFERENCE]
    with torch.no_grad():
        scores = ensemble(torch.from_numpy(events))[0].numpy()
    return {
        "schema": SCHEMA,
        "name": name,
        "level": "event",
        "inputs": [
            {
                "tensor": "features",
                "columns": training.names,
                "dtypes": [column["dtype"] for column in columns],
                "selection": description["selection"],
                "selection_columns": [
                    column["name"] for column in columns if column["source"] == "selection"
                ],
            }
        ],
        "outputs": [
            {"tensor": "probabilities", "classes": training.classes},
            {"tensor": "fold_probabilities", "classes": training.classes, "folds": len(training.networks)},
        ],
        "target": written,
        "folds": {"k": len(training.networks), "hash": RULE},
        "training": {key: description[key] for key in _PROVENANCE},
        "reference": {"events": events.tolist(), "scores": scores.tolist()},
    }
