"""A model in nanoAOD-tools as one writes it by hand, event by event: the peer of `bench/score.py`."""
# ruff: noqa: N802, N803

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnxruntime
from PhysicsTools.NanoAODTools.postprocessing.framework.datamodel import Collection
from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import Module


class Nothing(Module):
    """What the loop over events costs."""

    def analyze(self, event: Any) -> bool:
        """Keep the event."""
        return True


class OneByOne(Module):
    """Runs a model by ONNX Runtime on each event.

    Parameters
    ----------
    path
        The ONNX file.
    """

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        described = json.loads(self.session.get_modelmeta().custom_metadata_map["nanoml"])
        self.features = described["inputs"][0]["columns"]
        self.objects = described["inputs"][1:]
        self.classes = described["outputs"][0]["classes"]

    def beginFile(self, inputFile: Any, outputFile: Any, inputTree: Any, wrappedOutputTree: Any) -> None:
        """Declare the branches."""
        self.out = wrappedOutputTree
        for name in self.classes:
            self.out.branch(f"score_{name}", "F")

    def analyze(self, event: Any) -> bool:
        """Score the event."""
        feeds = {"features": np.array([[getattr(event, name) for name in self.features]], np.float32)}
        for it in self.objects:
            name, size = it["collection"], it["max"]
            fields = [column.removeprefix(f"{name}_") for column in it["columns"]]
            found = sorted(Collection(event, name), key=lambda each: -each.pt)[:size]
            values = np.zeros((1, size, len(fields)), np.float32)
            mask = np.zeros((1, size), np.float32)
            for i, each in enumerate(found):
                values[0, i] = [getattr(each, field) for field in fields]
                mask[0, i] = 1
            feeds[it["tensor"]], feeds[it["mask"]] = values, mask
        (scores,) = self.session.run(["probabilities"], feeds)
        for name, value in zip(self.classes, scores[0], strict=True):
            self.out.fillBranch(f"score_{name}", value)
        return True
