"""Scores of a skim, against ONNX Runtime alone, against reading and writing alone, and event by event.

    python bench/score.py [--events 200000] [--model transformer] [--compression ZLIB:5]

The input is a skim by the trilepton selection with jets. A model has five networks (folds), as many as a training makes,
and reads seven columns of the selection and, but for the mlp, up to eight jets. Peers: ONNX Runtime on tensors that are in
memory, once as one would write it, with all networks of the model, once as NanoML does it, with each event's own network;
reading the same branches, and writing the same scores, with NanoML and with uproot; and, where Python has ROOT and
nanoAOD-tools, the module `MLTools.NanoML.score` against one that runs ONNX Runtime on each event, and against one that does
nothing. The limit is reading, ONNX Runtime with each event's own network, and writing, with nothing in between.
Each side is a process of its own, on one core, that has done it once before (in nanoAOD-tools 100 events of it), so that
it has imported everything and loaded the model, as for all files of a dataset but the first.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import uproot
from common import SELECTION, Case, Took, in_turns, make_skim, parser, postprocess, rules
from numpy.typing import NDArray

from data_processing.score.score import ScoreJob, score_file
from data_processing.score.scorers import Scorer
from MLTools.NanoML.model import Model
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.score import score
from MLTools.NanoML.terminal.progress import silence

FEATURES = ("ZCand_mass", "ZCand_dR", "ThreeLep_sumPt", "WLep_pt", "MET_pt", "WCand_mT", "ThreeLep_mass")
JETS = ("pt", "eta", "phi", "mass", "btagDeepFlavB")
AT_ONCE = 5000  # events that one would give to ONNX Runtime


def make_model(path: Path, kind: str) -> None:
    """A model of five networks that were not trained."""
    import torch

    from ML_processing.events.columns import InputCollection
    from ML_processing.events.inputs import CollectionShape, Shape
    from ML_processing.export.export import export_networks
    from ML_processing.export.releases import target
    from ML_processing.models.network import make_network
    from ML_processing.training.description import Folds, TrainingDescription
    from ML_processing.training.directory import Training
    from MLTools.NanoML.contracts.hdf5 import ConvertedColumn

    shape = Shape(FEATURES, () if kind == "mlp" else (CollectionShape("Jet", JETS, 8, "-pt"),), 3)
    random = np.random.default_rng(1)
    sample = {"features": random.normal(80, 30, (64, 7)).astype("f4")}
    for it in shape.collections:
        sample[it.name] = random.normal(0, 1, (64, it.max, len(it.fields))).astype("f4")
        sample[f"{it.name}_mask"] = np.ones((64, it.max), "f4")
    objects = {it.name: (sample[it.name], sample[f"{it.name}_mask"] > 0) for it in shape.collections}
    networks = []
    for seed in range(5):
        torch.manual_seed(seed)
        network = make_network(kind, {}, shape).eval()
        network.fit(sample["features"], objects)
        networks.append(network)

    def columns(names: tuple[str, ...]) -> tuple[ConvertedColumn, ...]:
        return tuple(ConvertedColumn(name, "float32", "", "branch") for name in names)

    description = TrainingDescription(
        features=columns(FEATURES),
        collections=tuple(InputCollection(it.name, columns(it.fields), it.max, it.order) for it in shape.collections),
        classes=["signal", "WZ", "ZG"],
        signal="signal",
        selection=SELECTION,
        folds=Folds(5, 5),
        sample={name: values.tolist() for name, values in sample.items()},
    )
    export_networks(Training(description, networks, []), path, kind, target())


@dataclass(frozen=True)
class Prepared:
    """What some sides have before they begin."""

    model: Model
    session: onnxruntime.InferenceSession  # a plain one of the model's file
    feeds: dict[str, NDArray[np.float32]]  # tensors of all events
    fold: NDArray[np.int64]
    made: Mapping[str, tuple[Branch, NDArray[Any]]]  # the branches of scores, and what is in them

    @classmethod
    def of(cls, source: Path, path: Path) -> Prepared:
        """Read all events."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        model = Model(path)
        with RootFile(source) as file:
            scorer = Scorer(model, file, None, {"": None}, ".")
            arrays = file.read(scorer.reads)
        found = scorer.score(arrays, np.ones(len(arrays["run"]), np.bool_))
        made = {name: (branch, found[name]) for name, branch in scorer.made.items()}
        session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        return cls(model, session, model.tensors(arrays), found[f"{model.name}_fold"], made)


def nanoml(source: Path, model: Path, output: Path, _: Prepared | None) -> int:
    """Score it, end to end."""
    return score_file(ScoreJob(str(source), output, [model])).entries


def all_networks(source: Path, model: Path, output: Path, ready: Prepared) -> int:
    """ONNX Runtime alone, on tensors in memory: what all networks give, of which each event has its own."""
    parts = []
    for start in range(0, len(ready.fold), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        (found,) = ready.session.run(["fold_probabilities"], {n: values[part] for n, values in ready.feeds.items()})
        parts.append(found[np.arange(len(found)), ready.fold[part]])
    return len(np.concatenate(parts))


def own_networks(source: Path, model: Path, output: Path, ready: Prepared) -> int:
    """ONNX Runtime on tensors in memory, by NanoML: each event by its own network."""
    return len(ready.model.run(ready.feeds, ready.fold))


def read_and_write(source: Path, model: Path, output: Path, ready: Prepared) -> int:
    """Read what the model reads, and write the scores that are known already."""
    names = [*versions.IDENTIFIERS, *ready.model.reads]
    with RootFile(source) as file:
        ids = {name: file.branches[name] for name in versions.IDENTIFIERS}
        branches = {name: branch for name, (branch, _) in ready.made.items()}
        with NanoWriter(output, {**ids, **branches}, "ZLIB:5") as writer:
            for start, stop in file.ranges(names, 200_000):
                arrays = file.read(names, start, stop)
                made = {name: values[start:stop] for name, (_, values) in ready.made.items()}
                writer.events.extend({**{name: arrays[name] for name in ids}, **made})
            writer.finish()
        return file.entries


def read_run_and_write(source: Path, model: Path, output: Path, ready: Prepared) -> int:
    """All that must be done."""
    own_networks(source, model, output, ready)
    return read_and_write(source, model, output, ready)


def uproot_alone(source: Path, model: Path, output: Path, ready: Prepared) -> int:
    """The same, with nothing but uproot."""
    names = [*versions.IDENTIFIERS, *ready.model.reads]
    with uproot.open(source) as file, uproot.recreate(output, compression=uproot.ZLIB(5)) as made:
        arrays = file["Events"].arrays(names, how=dict)
        ids = {name: np.asarray(arrays[name]) for name in versions.IDENTIFIERS}
        rows = {**ids, **{name: values for name, (_, values) in ready.made.items()}}
        made.mktree("Events", {name: values.dtype for name, values in rows.items()}).extend(rows)
        return int(file["Events"].num_entries)


def looped(source: Path, output: Path, module: Any, most: int | None) -> int:
    """Run a module in nanoAOD-tools, on `most` events; the output has nothing but identifiers and scores."""
    kept = rules(output, ["run", "luminosityBlock", "event"])
    postprocess(source, output, module, outputbranchsel=kept, compression="ZLIB:5", maxEntries=most)
    (made,) = output.parent.glob("*_Skim.root")
    with uproot.open(made) as file:
        return int(file["Events"].num_entries)


def nano_module(source: Path, model: Path, output: Path, most: int | None) -> int:
    """The module of NanoML."""
    return looped(source, output, score(model)(), most)


def one_by_one(source: Path, model: Path, output: Path, most: int | None) -> int:
    """ONNX Runtime on each event."""
    from score_module import OneByOne

    return looped(source, output, OneByOne(str(model)), most)


def empty_loop(source: Path, model: Path, output: Path, most: int | None) -> int:
    """No model."""
    from score_module import Nothing

    return looped(source, output, Nothing(), most)


OURS, LIMIT = "NanoML", "read, each event's network in ONNX Runtime, write"
SIDES = {
    OURS: nanoml,
    LIMIT: read_run_and_write,
    "ONNX Runtime alone, each event's network": own_networks,
    "ONNX Runtime alone, all networks": all_networks,
    "NanoML reads and writes": read_and_write,
    "uproot reads and writes": uproot_alone,
}
LOOPS = {"module": nano_module, "event by event": one_by_one, "empty loop": empty_loop}


def has_nanoaodtools() -> bool:
    """Whether Python has ROOT and nanoAOD-tools."""
    return all(importlib.util.find_spec(name) for name in ("ROOT", "PhysicsTools", "PhysicsTools.NanoAODTools"))


def compare(kind: str, skim: Path, model: Path, events: int) -> None:
    """Measure all sides that can be run here, and print them; what is done event by event takes long, and is run once."""
    make_model(model, kind)
    setting = f"{events:,} events of a skim, five networks"
    found = in_turns(__file__, {side: (side, skim, model) for side in SIDES})
    Case(f"Scores, {kind}", setting, events, "events", found, OURS, LIMIT).tell()
    if has_nanoaodtools():
        found = in_turns(__file__, {side: (side, skim, model) for side in LOOPS}, once=["event by event"])
        Case(f"Scores in nanoAOD-tools, {kind}", setting, events, "events", found, "module", "empty loop").tell()
        ours, theirs, empty = (found[side].processor for side in LOOPS)
        sys.stdout.write(f"  without the loop itself: {(theirs - empty) / (ours - empty):.1f} times ours\n")


def only(side: str, *paths: str) -> None:
    """One side, in this process. It has run before, so importing is not counted."""
    source, model = map(Path, paths)
    with tempfile.TemporaryDirectory() as directory:
        first, second = (Path(directory, name, "out.root") for name in ("before", "measured"))
        for path in (first, second):
            path.parent.mkdir()
        if side in LOOPS:
            LOOPS[side](source, model, first, 100)
            Took.by(lambda: LOOPS[side](source, model, second, None)).tell()
        else:
            # ours needs nothing, so that its memory is its own
            ready: Any = None if side == OURS else Prepared.of(source, model)
            SIDES[side](source, model, first, ready)
            Took.by(lambda: SIDES[side](source, model, second, ready)).tell()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all sides, and print them."""
    options_of = parser(__doc__)
    options_of.add_argument("--events", type=int, default=200_000)
    options_of.add_argument(
        "--model", action="append", help="mlp, deepsets, particlenet or transformer; all but particlenet by default"
    )
    options_of.add_argument("--compression", default="ZLIB:5", help="of the skim")
    options = options_of.parse_args(arguments)
    silence()
    if options.only:
        only(*options.only)
        return
    with tempfile.TemporaryDirectory() as directory:
        skim, model = Path(directory, "skim.root"), Path(directory, "model.onnx")
        make_skim(skim, options.events, options.compression, ("Jet_*", "MET_*"))
        for kind in options.model or ("mlp", "deepsets", "transformer"):
            compare(kind, skim, model, options.events)


if __name__ == "__main__":
    main()
