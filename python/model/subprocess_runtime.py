"""Runs a model in another environment, which has numpy and ONNX Runtime but not NanoML.

    python subprocess_runtime.py model.onnx inputs.npz outputs.npz

The inputs are arrays CASE/TENSOR, the outputs CASE/NUMBER; if a case fails, CASE/error has the reason. Each case is printed
before it is run, since ONNX Runtime may crash.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnxruntime


def main(model: str, inputs: str, outputs: str) -> None:
    """Run all cases."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    cases: dict[str, dict[str, Any]] = {}
    with np.load(inputs) as stored:
        for key in stored.files:
            case, _, tensor = key.partition("/")
            cases.setdefault(case, {})[tensor] = stored[key]
    found: dict[str, Any] = {}
    for case, feeds in cases.items():
        print(case, flush=True)  # noqa: T201
        try:
            results = session.run(None, feeds)
        except Exception as problem:  # ONNX Runtime's exceptions have no common base class
            found[f"{case}/error"] = np.array(str(problem).split("\n")[0])
            continue
        found.update({f"{case}/{number}": result for number, result in enumerate(results)})
    np.savez(outputs, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
