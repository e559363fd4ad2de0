"""The JSON file by which CMSSW's jet taggers in RecoBTag know what a model reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Description

__all__ = ["preprocess_file", "preprocess_of", "write_preprocess"]

_BOUND = 1e32  # what is beyond, these producers treat in their own way: the model itself scales and clips


def preprocess_file(model: Path) -> Path:
    """Its path beside a model."""
    return model.with_name(f"{model.stem}_preprocess.json")


def preprocess_of(description: Description) -> dict[str, Any]:
    """Its content. The scaling is in the model, so every variable is left as it is.

    Raises
    ------
    NanoMLError
        These producers cannot feed such a model.
    """
    if description.objects or description.features is None:
        raise NanoMLError(
            "preprocess.json: RecoBTag's producers give objects variable by variable and without a mask, which is not how "
            "this model reads them: only a model of event-level or of object-level columns alone fits."
        )
    if description.parameter is not None:
        raise NanoMLError("preprocess.json: RecoBTag's producers cannot give a model its parameter.")
    tensor = description.features
    info = {
        "median": 0.0,
        "norm_factor": 1.0,
        "replace_inf_value": 0.0,
        "lower_bound": -_BOUND,
        "upper_bound": _BOUND,
        "pad": 0.0,
    }
    return {
        "input_names": [tensor.tensor],
        "output_names": list(description.outputs),
        tensor.tensor: {
            "var_names": list(tensor.columns),
            "var_length": 1,
            "var_infos": dict.fromkeys(tensor.columns, info),
        },
    }


def write_preprocess(description: Description, path: Path) -> None:
    """Write it; raises as `preprocess_of` does."""
    write_json(path, preprocess_of(description))
