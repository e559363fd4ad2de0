"""Training, against a bare PyTorch loop over tensors in memory, and such a loop over batches of ROOT's RDataLoader.

    python bench/train.py [--events 1000000] [--model mlp] [--memory 1000]

The events are made up: two Gaussian classes of five features (MLP 5-128-128-2, batches of 512), or ten objects of four
fields (DeepSets and transformer, batches of 1024). The bare loop is what one would write in a notebook: the same
network, optimizer and batches, the tensors scaled before, no weights, no validation, no checkpoint. NanoML's loop has all
of that, and reads the HDF5 file; "steps" is without the validation after each epoch, "whole" with it. For five features,
RDataLoader of ROOT 6.40 or later takes part where Python has it: it reads the same events of a ROOT file in each epoch, in its
default settings, with twenty batches in memory. Each side is a process of its own, whose CPU time is taken.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import torch
import uproot
from common import TURNS, Case, Took, columns, describe_events, in_turns, parser, peak_memory
from torch.nn.functional import cross_entropy

from ML_processing.events.inputs import Inputs, Position
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.models.network import make_network
from ML_processing.training.data import TrainingFiles, inputs_of, make_training_data, read
from ML_processing.training.loop import Monitor, fit
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.terminal.progress import silence

EPOCHS = 3
BARE, LOADER, STEPS, WHOLE = (
    "bare PyTorch loop over tensors in memory",
    "RDataLoader and a bare loop",
    "NanoML's steps, without validation",
    "NanoML",
)
OBJECTS, FIELDS = 10, ("pt", "eta", "phi", "mass")
OPTIONS = {"mlp": {"hidden": [128, 128], "dropout": 0.0}, "deepsets": {}, "transformer": {}, "particlenet": {}}


def make_file(path: Path, events: int, objects: bool) -> None:
    """An HDF5 file as the conversion writes it."""
    names = [] if objects else list("abcde")
    types = [("run", "u4"), ("luminosityBlock", "u4"), ("event", "u8"), ("label", "i4"), ("weight", "f4")]
    types += [(name, "f4") for name in names]
    fields = [(name, "f4") for name in FIELDS] + [("valid", "?")]
    random = np.random.default_rng(1)
    options = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    with h5py.File(path, "w") as file:
        table = file.create_dataset("events", (events,), types, chunks=(min(events, 20_000),), **options)
        if objects:
            jets = file.create_dataset(
                "Jet", (events, OBJECTS), fields, chunks=(min(events, 4_000), OBJECTS), **options
            )
        for start in range(0, events, 100_000):
            count = min(100_000, events - start)
            rows = np.zeros(count, types)
            rows["event"], rows["weight"] = np.arange(start, start + count), 1
            rows["label"] = random.integers(0, 2, count)
            for name in names:
                rows[name] = random.normal(0.3 * rows["label"], 1)
            table[start : start + count] = rows
            if objects:
                members = np.zeros((count, OBJECTS), fields)
                members["pt"] = random.exponential(30 + 5 * rows["label"][:, None], (count, OBJECTS))
                members["eta"], members["phi"] = random.uniform(-2.5, 2.5, (2, count, OBJECTS))
                members["mass"] = 5
                members["valid"] = np.arange(OBJECTS) < random.integers(1, OBJECTS + 1, (count, 1))
                jets[start : start + count] = members
        truncated = {"objects": events * OBJECTS, "lost": 0}
        entry = {"max": OBJECTS, "order": "-pt", "fields": columns(FIELDS), "truncated": truncated}
        describe_events(file, names, {"Jet": entry} if objects else {})


def settings(model: str, memory: int) -> Train:
    """Five folds, so three fifths of the events are for training."""
    size = 512 if model == "mlp" else 1024
    options = OPTIONS[model]
    return Train(model=model, options=options, batch_size=size, folds=5, epochs=EPOCHS, memory=memory, device="cpu")


def bare(path: Path, model: str) -> tuple[float, int]:
    """CPU seconds and events of a bare loop."""
    config = settings(model, 10**6)
    table = read([path], config)
    table = table[table.folds(5) >= 2]
    network = make_network(model, config.options, table.shape)
    network.fit(table.features, table.objects)
    with torch.no_grad():
        inputs = network.scaling(inputs_of(table))
    labels, core = torch.from_numpy(table.labels), network.core
    optimizer = torch.optim.AdamW(core.parameters(), lr=config.learning_rate, fused=True)
    start = time.process_time()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(labels)).split(config.batch_size):
            loss = cross_entropy(core(inputs.map(lambda tensor, rows=rows: tensor[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return time.process_time() - start, EPOCHS * len(labels)


def loader(path: Path) -> tuple[float, int]:
    """CPU seconds and events of a bare loop that takes its batches from ROOT's loader."""
    import ROOT

    config = settings("mlp", 10**6)
    table = read([path], config)
    table = table[table.folds(5) >= 2]
    network = make_network("mlp", config.options, table.shape)
    network.fit(table.features, table.objects)
    core, names = network.core, list("abcde")
    source = path.with_suffix(".root")
    with uproot.recreate(source, compression=uproot.ZSTD(5)) as file:
        columns = {name: table.features[:, number] for number, name in enumerate(names)}
        file.mktree("Events", {**dict.fromkeys(names, "f4"), "label": "f4"}).extend(
            {**columns, "label": table.labels.astype("f4")}
        )
    optimizer = torch.optim.AdamW(core.parameters(), lr=config.learning_rate, fused=True)
    frame = ROOT.RDataFrame("Events", str(source))
    batches = ROOT.Experimental.ML.RDataLoader(frame, config.batch_size, 20, [*names, "label"], target="label")
    next(iter(batches.as_torch()))
    events, start = 0, time.process_time()
    for _ in range(EPOCHS):
        for features, labels in batches.as_torch():
            with torch.no_grad():
                inputs = network.scaling(Inputs(features, {}))
            loss = cross_entropy(core(inputs), labels[:, 0].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            events += len(labels)
    return time.process_time() - start, events


def ours(path: Path, model: str, memory: int, validate: bool) -> tuple[float, int]:
    """CPU seconds and events of NanoML's loop, with or without its measurements after each epoch."""
    silence()
    config = settings(model, memory)
    files = TrainingFiles.open([path], config)
    table, survey = files.sample(memory, 5)
    network = make_network(model, config.options, table.shape)
    cpu = torch.device("cpu")
    torch.optim.AdamW(network.core.parameters())  # the first optimizer imports half of PyTorch
    learnt = make_training_data(files, table, survey, network, 0, config, cpu)
    if not validate:
        learnt = dataclasses.replace(learnt, validation=learnt.validation[:256], sample=learnt.sample[:256])
    next(iter(learnt.batches.epoch(Position())))
    with tempfile.TemporaryDirectory() as directory:
        judge, place = BoundDiscriminant.probability("signal", table.classes), Path(directory) / "checkpoint.pt"
        monitor = Monitor(0, 5, table.shape, judge, place, lambda entries, note: None)
        start = time.process_time()
        fit(network.core, learnt, config, monitor, cpu)
        return time.process_time() - start, EPOCHS * learnt.events


def main() -> None:
    """Run both sides in turns, and print the ratio of their rates."""
    options_of = parser((__doc__ or "").partition("\n")[0])
    options_of.add_argument("--events", type=int, default=1_000_000)
    options_of.add_argument("--model", choices=list(OPTIONS), default="mlp")
    options_of.add_argument("--memory", type=int, default=1000, help="train.memory [MB]")
    options_of.add_argument("--repeat", type=int, default=TURNS)
    arguments = options_of.parse_args()
    if arguments.only:
        torch.set_num_threads(1)
        side, path, model, memory = arguments.only
        if side == BARE:
            seconds, events = bare(Path(path), model)
        elif side == LOADER:
            seconds, events = loader(Path(path))
        else:
            seconds, events = ours(Path(path), model, int(memory), side == WHOLE)
        Took(0, seconds, peak_memory(), events).tell()
        return
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "events.h5"
        make_file(path, arguments.events, arguments.model != "mlp")
        names = [BARE, STEPS, WHOLE]
        if arguments.model == "mlp" and importlib.util.find_spec("ROOT"):
            names.append(LOADER)
        sides = {side: (side, path, arguments.model, arguments.memory) for side in names}
        best = in_turns(__file__, sides, arguments.repeat)
        events = best[BARE].result
        setting = f"{EPOCHS} epochs of {events / EPOCHS:,.0f} events, on one thread"
        amounts = {side: took.result for side, took in best.items()}
        Case(f"Training of {arguments.model}", setting, events, "events", best, WHOLE, BARE, amounts=amounts).tell()


if __name__ == "__main__":
    main()
