"""The networks as a graph of ONNX, by one of PyTorch's two exporters.

The new one captures a network by `torch.export`, and writes opset 18 or newer: it writes for releases whose ONNX Runtime reads what it
writes (`dynamo` in releases.json). The older one traces a network, and writes for all others, and what the new one cannot write.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn
from torch.jit._trace import TracerWarning

from ML_processing.export.releases import OPSET, Target
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import ModelFormat
from MLTools.NanoML.terminal.progress import say

Sample = dict[str, NDArray[np.float32]]

_LARGEST = 2_000_000_000  # bytes; protobuf holds no more, and the weights would need files of their own
_OTHERS = {"ai.onnx.ml"}  # sets of operators that every ONNX Runtime has beside the standard one, for trees
_NEWEST = 20  # opset that PyTorch's older exporter can write
_CAPTURED = 18  # the one that the new exporter writes by itself; others it converts


def convert(ensemble: nn.Module, names: list[str], sample: Sample, path: Path, limits: Target) -> None:
    """Write the networks; a NanoMLError says what the target lacks, or that they are too large."""
    size = sum(parameter.numel() * parameter.element_size() for parameter in ensemble.parameters())
    if size > _LARGEST:
        raise NanoMLError(
            f"the networks have {size / 1e9:.1f} GB of weights, but one ONNX file holds 2 GB: train smaller ones, or fewer folds."
        )
    ways = dict.fromkeys((_trace, opset) for opset in (min(OPSET, limits.opset), min(limits.opset, _NEWEST)))
    problems: list[Exception] = []
    for write, opset in [(_capture, _CAPTURED), *ways] if limits.dynamo else ways:
        try:
            write(ensemble, names, sample, path, opset)
        except Exception as problem:  # what the exporter raises depends on what it does not know
            problems.append(problem)
        else:
            if limits.dynamo and problems:
                say("export: PyTorch's new exporter cannot write these networks; the older one did.")
            return
    raise _lacking(problems[-1], opset, limits) from None


def results(ensemble: nn.Module) -> tuple[str, str]:
    """Names of the output tensors."""
    if getattr(ensemble, "has_others", False):
        return "outputs", "fold_outputs"
    is_regression = getattr(ensemble, "task", "") == "regression"
    return ("values", "fold_values") if is_regression else ("probabilities", "fold_probabilities")


def _axes(ensemble: nn.Module, names: list[str]) -> dict[str, dict[int, str]]:
    """The axes of each tensor whose length may change, by number, with their names."""
    axes: dict[str, dict[int, str]] = {name: {0: "events"} for name in [*names, *results(ensemble)]}
    for name in names:
        if name.endswith("_mask") or f"{name}_mask" in names:
            axes[name][1] = f"{name.removesuffix('_mask')}_objects"
    return axes


def _trace(ensemble: nn.Module, names: list[str], sample: Sample, path: Path, opset: int) -> None:
    """Write the networks by PyTorch's older exporter, which knows the opsets that CMSSW up to 14_2 reads."""
    axes = _axes(ensemble, names)
    with warnings.catch_warnings(), _silence():
        # It warns that it is the older one, and that the trace may be valid for one size only; the trials check that it is not.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=TracerWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.onnx")
        torch.onnx.export(
            ensemble,
            tuple(torch.from_numpy(sample[name][:3]) for name in names),
            str(path),
            input_names=names,
            output_names=list(results(ensemble)),
            dynamic_axes=axes,
            opset_version=opset,
            dynamo=False,
        )
    model = onnx.load(path)
    read = {it.name: it for it in model.graph.input}  # without the tensors that the networks do not look at
    for name in names:
        shape = [axes[name].get(axis, size) for axis, size in enumerate(sample[name].shape)]
        read.setdefault(name, onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    del model.graph.input[:]
    model.graph.input.extend(read[name] for name in names)
    onnx.save(model, path)


@contextmanager
def _silence() -> Iterator[None]:
    """Without what PyTorch prints from C++: the whole graph, if it cannot write an operator."""
    printed = os.dup(1)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(printed, 1)
        os.close(printed)


def _capture(ensemble: nn.Module, names: list[str], sample: Sample, path: Path, opset: int) -> None:
    """Write the networks by PyTorch's new exporter, which writes opset 18 and newer."""
    from onnxscript.optimizer import fold_constants, remove_unused_nodes

    axes = _axes(ensemble, names)
    lengths = {axis: torch.export.Dim(axis) for name in names for axis in axes[name].values()}
    # an axis of the length 0 or 1 would have that length for ever, whatever is asked for
    example = tuple(
        torch.zeros([3 if axis in axes[name] else size for axis, size in enumerate(sample[name].shape)])
        for name in names
    )
    shapes = (tuple({axis: lengths[to] for axis, to in axes[name].items()} for name in names),)
    logger = logging.getLogger("torch.onnx")  # warns that other packages, which we do not need, are not installed
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.onnx")  # that axes have one name
            ensemble(*example)  # what a network computes once, from its weights, before tensors have no values
            captured = torch.export.export(ensemble, example, dynamic_shapes=shapes)
            program = torch.onnx.export(
                captured,
                dynamic_shapes=shapes,  # for their names
                input_names=names,
                output_names=list(results(ensemble)),
                opset_version=opset,
                dynamo=True,
                verbose=False,
                optimize=False,  # its rules take whatever is below 1e-8 for 0, also what keeps a quotient finite
            )
    finally:
        logger.setLevel(level)
    assert program is not None
    fold_constants(program.model)
    remove_unused_nodes(program.model)
    program.save(str(path), external_data=False)


def _lacking(problem: Exception, opset: int, limits: Target) -> NanoMLError:
    """The error for an operator that cannot be exported."""
    text = " ".join(str(problem).split())
    operator = re.search(r"operator '([^']+)'", text)
    since = re.search(r"added in version (\d+)", text)
    what = f"`{operator[1]}`" if operator else f"something that cannot be written ({text[:200]})"
    newer = f", which there is from opset {since[1]} on" if since else ""
    advice = (
        "Export for a release that reads it (export.cmssw), or replace it"
        if since and int(since[1]) <= _NEWEST
        else "Replace it"
        if limits.dynamo
        else "Try CMSSW_15_0_X (export.cmssw) or later, for which PyTorch's new exporter writes more, or replace it"
    )
    return NanoMLError(
        f"the network uses {what}{newer}: ONNX opset {opset}, the newest that can be written for {limits.name}, lacks it. "
        f"{advice} in the network by simpler operations."
    )


def check_format(model: onnx.ModelProto, limits: Target) -> ModelFormat:
    """Versions in the file: an exporter may write something else than it was asked for."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    foreign = sorted(versions.keys() - {"", "ai.onnx", *_OTHERS})
    if foreign:
        raise NanoMLError(
            f"the exporter wrote operators of {', '.join(foreign)}, which ONNX Runtime in CMSSW does not have: replace them in the network."
        )
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise NanoMLError("the exporter wrote weights into files of their own: the networks are too large.")
    opset = max(version for domain, version in versions.items() if domain not in _OTHERS)
    model.ir_version = min(model.ir_version, limits.ir)  # an exporter may write a newer one than is needed
    needed = onnx.helper.find_min_ir_version_for(model.opset_import)
    if opset > limits.opset or needed > limits.ir:
        raise NanoMLError(
            f"the exporter wrote ONNX opset {opset}, IR {needed}, but {limits.name} reads "
            f"opset {limits.opset}, IR {limits.ir} at most. PyTorch {torch.__version__} may be too new."
        )
    return ModelFormat(limits.cmssw, limits.onnxruntime, opset, model.ir_version)
