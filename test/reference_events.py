"""The reference events of a model, as testScores reads them: reference_events.py MODEL.json > EVENTS."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def lines_of(metadata: dict[str, Any], model: str) -> Iterator[list[Any]]:
    """Undo the padding: columns of events, as NanoAOD has them, and what the model makes of them."""
    if metadata["parameter"] or metadata["level"] != "event":
        sys.exit(f"{model}: has a parameter, or scores objects: its reference events are no events of NanoAOD.")
    yield ["model", model]
    given = metadata["reference"]["inputs"]
    for number, scores in enumerate(metadata["reference"]["outputs"]):
        yield ["event"]
        for tensor in metadata["inputs"]:
            values = given[tensor["tensor"]][number]
            rows = [values]
            if "mask" in tensor:
                rows = [row for row, real in zip(values, given[tensor["mask"]][number]) if real]
                order = tensor["order"] and f"{tensor['collection']}_{tensor['order'].lstrip('-')}"
                if order and order not in tensor["columns"]:  # they are in this order already
                    places = range(len(rows))
                    sign = -1 if tensor["order"].startswith("-") else 1
                    yield ["column", order, "float32", *(sign * place for place in places)]
            for place, name in enumerate(tensor["columns"]):
                yield ["column", name, "float32", *("nan" if row[place] is None else row[place] for row in rows)]
        yield ["scores", *scores]


if __name__ == "__main__":
    path = Path(sys.argv[1])
    lines = lines_of(json.loads(path.read_text()), str(path.with_suffix(".onnx").resolve()))
    sys.stdout.writelines(" ".join(map(str, line)) + "\n" for line in lines)
