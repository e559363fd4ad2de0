"""The reference events of a model, as testScores reads them: reference_events.py MODEL.json > EVENTS.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def events_of(metadata: dict[str, Any], model: str) -> dict[str, Any]:
    """Undo the padding: columns of events, as NanoAOD has them, and what the model makes of them."""
    if metadata["parameter"] or metadata["level"] != "event":
        sys.exit(f"{model}: has a parameter, or scores objects: its reference events are no events of NanoAOD.")
    given, events = metadata["reference"]["inputs"], []
    for number, scores in enumerate(metadata["reference"]["outputs"]):
        columns: dict[str, dict[str, Any]] = {}
        for tensor in metadata["inputs"]:
            values = given[tensor["tensor"]][number]
            rows = [values]
            if "mask" in tensor:
                rows = [row for row, real in zip(values, given[tensor["mask"]][number]) if real]
                order = tensor["order"] and f"{tensor['collection']}_{tensor['order'].lstrip('-')}"
                if order and order not in tensor["columns"]:  # they are in this order already
                    places = range(len(rows))
                    sign = -1 if tensor["order"].startswith("-") else 1
                    columns[order] = {"type": "float32", "values": [sign * place for place in places]}
            for place, name in enumerate(tensor["columns"]):
                numbers = [row[place] for row in rows]
                columns[name] = {"type": "float32", "values": [_plain(number) for number in numbers]}
        events.append({"columns": columns, "scores": scores})
    return {"model": model, "parameters": [], "events": events}


def _plain(number: Any) -> Any:
    return "nan" if number is None else number


if __name__ == "__main__":
    path = Path(sys.argv[1])
    json.dump(events_of(json.loads(path.read_text()), str(path.with_suffix(".onnx").resolve())), sys.stdout)
