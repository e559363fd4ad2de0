"""Files for others that run a model: the repository of a Triton server, and preprocess.json of CMSSW's jet taggers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from MLTools.NanoML.atomic import make_directory, replacing, write_json, write_text
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Description, Model
from MLTools.NanoML.model.inside import FOLD

_LARGEST = 1024  # rows in one call: more than one event of a module of CMSSW has
_BOUND = 1e32  # RecoBTag's producers treat values beyond in their own way: the model itself scales and clips
_LABELS = "labels.txt"


def add_to_repository(path: Path, repository: Path, name: str | None = None) -> Path:
    """Put a model into a repository of a Triton server, in place of an earlier one of its name.

    Clients ask for it by `name`, by default the model's own. Returned is its directory in the repository, with `config.pbtxt`,
    `labels.txt` and `1/model.onnx`.
    """
    model = Model(path)
    name = name or model.name
    if not name.isidentifier():
        raise NanoMLError(f"{name}: cannot be the name of a model on a server: use letters, digits and underscores.")
    directory = repository / name
    copy = make_directory(directory / "1") / "model.onnx"
    with replacing(copy) as aside:
        shutil.copyfile(path, aside)
    write_text(directory / _LABELS, "".join(f"{each}\n" for each in model.outputs))
    write_text(directory / "config.pbtxt", "\n".join(_configuration(model, name)) + "\n")
    return directory


def _configuration(model: Model, name: str) -> Iterator[str]:
    """The lines of config.pbtxt, an `inference.ModelConfig` of protobuf."""
    inputs, outputs = model.session.get_inputs(), model.session.get_outputs()
    yield f'name: "{name}"'
    yield 'platform: "onnxruntime_onnx"'  # by this CMSSW finds how to limit threads
    yield 'backend: "onnxruntime"'
    yield f"max_batch_size: {_LARGEST}"
    for tensor in inputs:
        yield f"input [ {{ {_tensor(tensor)} }} ]"
    for tensor in outputs:
        labels = f' label_filename: "{_LABELS}"' if tensor.name == model.description.output_tensors[0] else ""
        yield f"output [ {{ {_tensor(tensor)}{labels} }} ]"
    if all(tensor.name != FOLD for tensor in inputs):  # which chooses the network for all events of a call
        yield "dynamic_batching { }"  # calls of several clients are computed together


def _tensor(tensor: Any) -> str:
    """One tensor without its first axis, that of events or objects; -1 is any length."""
    lengths = ", ".join(str(axis if isinstance(axis, int) else -1) for axis in tensor.shape[1:])
    return f'name: "{tensor.name}" data_type: TYPE_FP32 dims: [ {lengths} ]'


def preprocess_file(model: Path) -> Path:
    """Path, beside a model, of the JSON file from which CMSSW's jet taggers in RecoBTag know what it reads."""
    return model.with_name(f"{model.stem}_preprocess.json")


def write_preprocess(model: Path, *_: object) -> None:
    """Write this file for a model that is there; the errors are those of `preprocess_of`."""
    write_json(preprocess_file(model), preprocess_of(Model(model).description))


def preprocess_of(description: Description) -> dict[str, object]:
    """Content of this file; a NanoMLError if these producers cannot feed such a model.

    The scaling is in the model, so every variable is passed unchanged.
    """
    if description.objects or description.features is None:
        raise NanoMLError(
            "preprocess.json: RecoBTag's producers give objects variable by variable and without a mask, which is not how "
            "this model reads them: only a model of event-level or of object-level columns alone fits."
        )
    if description.parameter is not None:
        raise NanoMLError("preprocess.json: RecoBTag's producers cannot give a model its parameter.")
    tensor = description.features
    info = {"median": 0.0, "norm_factor": 1.0, "replace_inf_value": 0.0}
    info |= {"lower_bound": -_BOUND, "upper_bound": _BOUND, "pad": 0.0}
    infos = dict.fromkeys(tensor.columns, info)
    variables = {"var_names": list(tensor.columns), "var_length": 1, "var_infos": infos}
    return {"input_names": [tensor.tensor], "output_names": description.output_columns, tensor.tensor: variables}
