"""A model with its selection inside in many builds of ONNX Runtime: its decisions, columns and scores.

    bench/runtimes.py MODEL.onnx FILE.root ... --python "qemu-x86_64 -cpu Nehalem python3.11" --library libonnxruntime.so

Each `--python` is the command of a Python that has numpy and ONNX Runtime, but not NanoML; each `--library` is ONNX Runtime for
C++. Events run one by one, as in cmsRun, and all of a fold together, on one thread and on four. All are compared with the ONNX
Runtime of this Python, on one thread, event by event.

Margins are the differences of the numbers that a selection compares. An event is near an edge if one of its margins is not larger
than what it changes from here to there.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import onnx
from common import CHECKOUT
from numpy.typing import NDArray
from onnx import helper

from MLTools.NanoML.model import Model
from MLTools.NanoML.model.inside import FOLD
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.terminal.progress import say

COMPARISONS = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal")
MARGIN = "margin_"
TITLES = (
    "with",
    "ONNX Runtime",
    "threads",
    "events at once",
    "decisions that differ",
    "columns",
    "scores",
    "margins",
    "near an edge",
    "us per event",
)

RUNNER = """
import json, sys, time
import numpy as np
import onnxruntime

model, directory, out, threads = sys.argv[1:]
with open(directory + "/inputs.json") as file:
    given = json.load(file)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
options.log_severity_level = 3
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
read = lambda name, shape: np.fromfile(directory + "/" + name, np.float32).reshape(shape)
feeds = {name: read(name, shape) for name, shape in given["shapes"].items()}
found, start, began = [], 0, time.perf_counter()
for end in given["ends"]:
    found.append(session.run(None, {name: values[start:end] for name, values in feeds.items()}))
    start = end
took = time.perf_counter() - began
for number, each in enumerate(session.get_outputs()):
    np.concatenate([results[number] for results in found]).tofile(out + "/" + each.name)
print(onnxruntime.__version__, took)
"""


@dataclass(frozen=True)
class Found:
    """The outputs of a run, by name, with a row for each event."""

    version: str
    seconds: float
    outputs: dict[str, NDArray[Any]]

    @property
    def margins(self) -> NDArray[np.float64]:
        """For each event the differences of all numbers that are compared."""
        parts = [values.reshape(len(values), -1) for name, values in self.outputs.items() if name.startswith(MARGIN)]
        return np.concatenate(parts, axis=1)


def with_margins(path: Path, to: Path) -> dict[str, type[np.generic]]:
    """The model with the difference of the numbers of each comparison as a further output; return the types of all outputs."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    types = {each.name: each.type.tensor_type.elem_type for each in (*model.graph.value_info, *model.graph.input)}
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        kinds = {types[name] for name in node.input if name in types}
        if node.op_type in COMPARISONS and node.name and onnx.TensorProto.DOUBLE in kinds:
            name = f"{MARGIN}{node.output[0]}"
            nodes.append(helper.make_node("Sub", list(node.input), [name], name))
            model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, to)
    is_double = {each.name: each.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE for each in model.graph.output}
    return {name: np.float64 if double else np.float32 for name, double in is_double.items()}


def events_of(model: Model, files: Sequence[str]) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The tensors of the events that there is room for, in the order of their folds; and where each comes from."""
    parts, names, origin = [], [*model.reads, *versions.IDENTIFIERS], []
    for path in files:
        with RootFile(path) as file:
            found = {name: versions.resolve(name, file.branches) for name in names}
            arrays = file.read(list(dict.fromkeys(found.values())))
        given = {name: arrays[actual] for name, actual in found.items()}
        fits = np.ones(len(given["event"]), bool)
        for tensor in model.objects:
            fits &= np.asarray(ak.num(given[tensor.columns[0]])) <= tensor.max
        parts.append({name: values[fits] for name, values in given.items()})
        origin += [f"{Path(path).name}, entry {row}" for row in np.flatnonzero(fits)]
    columns = {name: ak.concatenate([part[name] for part in parts]) for name in names}
    fold = fold_of(*(np.asarray(columns[name]) for name in versions.IDENTIFIERS), model.folds)
    order = np.argsort(fold, kind="stable")
    feeds = model.tensors({name: columns[name][order] for name in model.reads}, None)
    feeds[FOLD] = fold[order, None].astype(np.float32)
    return feeds, [origin[row] for row in order]


def ends_of(fold: NDArray[np.float32], is_single: bool) -> list[int]:
    """Where batches end: behind each event, or behind those of a fold."""
    rows = np.arange(1, len(fold) + 1)
    return (rows if is_single else rows[np.append(np.diff(fold[:, 0]) != 0, True)]).tolist()


def run(command: Sequence[str], model: Path, feeds: dict[str, Any], ends: list[int], threads: int, types: Any) -> Found:
    """One run in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        directory, out = Path(name, "in"), Path(name, "out")
        directory.mkdir()
        out.mkdir()
        shapes = {tensor: values.shape for tensor, values in feeds.items()}
        (directory / "inputs.json").write_text(json.dumps({"shapes": shapes, "ends": ends}))
        for tensor, values in feeds.items():
            np.ascontiguousarray(values, np.float32).tofile(directory / tensor)
        done = subprocess.run(
            [*command, str(model), str(directory), str(out), str(threads)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{shlex.join(command[:4])}: {done.stderr.strip()[-600:] or done.returncode}")
        version, seconds = done.stdout.split()[-2:]
        rows = len(feeds[FOLD])
        outputs = {each: np.fromfile(out / each, kind).reshape(rows, -1) for each, kind in types.items()}
    return Found(version, float(seconds), outputs)


def compared(one: Found, other: Found) -> list[str]:
    """How many decisions differ, and by how much columns, relative above 1, and scores."""

    def apart(names: Iterable[str]) -> str:
        found = [_apart(one.outputs[name], other.outputs[name], relative=True).max(initial=0) for name in names]
        return f"{max(found, default=0.0):.1g}"

    decided = [name for name in ("passed", "cuts", "failed") if name in one.outputs]
    differ = np.any([(one.outputs[name] != other.outputs[name]).any(axis=1) for name in decided], axis=0)
    made = [name for name in one.outputs if name.startswith(("columns", "made_", "read_"))]
    return [str(int(differ.sum())), apart(made), apart(one.outputs.keys() - {*decided, *made})]


def distance(one: Found, other: Found) -> tuple[str, NDArray[np.int64]]:
    """By how much margins differ, relative above 1, and the events of which one is smaller than its difference."""
    moved = _apart(one.margins, other.margins)
    near = (moved > 0) & (np.abs(one.margins) <= moved)
    return f"{_apart(one.margins, other.margins, relative=True).max():.1g}", np.flatnonzero(near.any(axis=1))


def _apart(one: NDArray[Any], other: NDArray[Any], relative: bool = False) -> NDArray[np.float64]:
    """How far numbers are apart; NaN is equal to NaN, and so are infinities."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(one.astype(np.float64) - other)
        difference = difference / np.maximum(np.abs(one), 1) if relative else difference
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    return np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))


def main() -> None:
    """Run all, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--python", action="append", default=[], metavar="COMMAND")
    parser.add_argument("--library", action="append", default=[], metavar="[EMULATOR] FILE")
    parser.add_argument("--events", type=int, help="take so many of them, evenly spaced")
    options = parser.parse_args()
    model = Model(options.model)
    feeds, origin = events_of(model, options.files)
    if options.events:
        rows = np.linspace(0, len(origin) - 1, options.events).astype(int)
        feeds, origin = {name: values[rows] for name, values in feeds.items()}, [origin[row] for row in rows]
    with tempfile.TemporaryDirectory() as name:
        path, program = Path(name, "margins.onnx"), Path(name, "runtime")
        types = with_margins(options.model, path)
        plain = {name: kind for name, kind in types.items() if not name.startswith(MARGIN)}
        commands = {each: [*shlex.split(each), "-c", RUNNER] for each in options.python}
        if options.library:
            source = CHECKOUT / "bench" / "cpp" / "runtime.cc"
            build = [
                *shlex.split(os.environ.get("CXX", "g++")),
                "-std=c++17",
                "-O2",
                "-I/usr/include/onnxruntime",
                str(source),
                "-o",
                str(program),
                "-ldl",
            ]
            subprocess.run(build, check=True)
            split = {each: shlex.split(each) for each in options.library}
            commands |= {each: [*emulator, str(program), path] for each, (*emulator, path) in split.items()}
        here = [sys.executable, "-c", RUNNER]
        ends = {what: ends_of(feeds[FOLD], what == "1") for what in ("1", "fold")}
        reference = run(here, options.model, feeds, ends["1"], 1, plain)
        margins = run(here, path, feeds, ends["fold"], 1, types)
        count = margins.margins.shape[1]
        say(f"{len(origin)} events, {int(reference.outputs['passed'].sum())} pass; {count} comparisons in each")
        size = np.abs(margins.margins)
        size = np.where((size > 0) & np.isfinite(size), size, np.inf).min(axis=1)
        say(f"nearest to an edge: {origin[int(size.argmin())]}, by {size.min():.2g}")
        say(f"| {' | '.join(TITLES)} |\n|{'---|' * len(TITLES)}")
        for what, command in {"this Python": here, **commands}.items():
            moved, near = distance(margins, run(command, path, feeds, ends["fold"], 1, types))
            for threads, batch in ((1, "1"), (1, "fold"), (4, "fold")):
                found = run(command, options.model, feeds, ends[batch], threads, plain)
                time = f"{found.seconds / len(origin) * 1e6:.0f}"
                cells = [
                    what,
                    found.version,
                    str(threads),
                    batch,
                    *compared(reference, found),
                    moved,
                    str(len(near)),
                    time,
                ]
                say(f"| {' | '.join(cells)} |")
            for row in near[:5]:
                say(f"near an edge: {origin[row]}")


if __name__ == "__main__":
    main()
